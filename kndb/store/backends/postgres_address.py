"""A PostgreSQL database's URL, and connections to it.

The URL is taken apart by PostgreSQL's own library, so that it means here what it means to psql. What it says wrong is
said without the part that is wrong, in which a password may be.
"""

from __future__ import annotations

import re
from typing import Any

from ...errors import UsageError
from ...records.locations import is_clear, without_password
from .backend import BUSY_TIMEOUT

_USUAL = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
"""So that a server that is gone without a word is noticed within a minute."""
_FIXED = {"client_encoding": "utf8", "fallback_application_name": "kndb"}
"""kndb's texts are any text there is, whatever PGCLIENTENCODING says."""
_LIKE = "write it like postgresql://USER@HOST:5432/NAME"
_PARAMETER = re.compile(r'invalid URI query parameter: "(\w+)"')


class PostgresAddress:
    """Where a database is, and how it is reached.

    Attributes:
        shown: its URL without a password.
    """

    def __init__(self, location: str) -> None:
        """Reads a URL; nothing is opened.

        Raises:
            UsageError: if it can't be read, names no database, or psycopg is not installed.
        """
        self.shown = without_password(location)
        self._given = _parameters(location, self.shown)

    def connect(self, timeout: float = BUSY_TIMEOUT) -> Any:
        """Opens a connection of psycopg's.

        Args:
            timeout: seconds to wait for the server, where the URL does not say.

        Raises:
            psycopg.Error: if the server can't be reached or refuses the user.
        """
        import psycopg

        usual = {**_USUAL, "connect_timeout": str(max(2, round(timeout)))}
        return psycopg.connect(**{**usual, **self._given, **_FIXED})


def _parameters(location: str, shown: str) -> dict[str, Any]:
    try:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as error:
        raise UsageError(
            f"{shown}: PostgreSQL is reached by psycopg, which is not installed; install it with: "
            "pip install 'kndb[postgres]'"
        ) from error
    if not is_clear(location):
        raise UsageError(
            f"{shown}: this is no URL of a database, or its password is not quoted; {_LIKE}, with %40 for an @ and %2F "
            "for a / in a password"
        )
    scheme, _, rest = location.partition(":")
    try:
        given = conninfo_to_dict(f"{scheme.lower()}:{rest}")
    except (psycopg.Error, UnicodeError) as error:
        unknown = _PARAMETER.search(str(error))
        if unknown is not None:
            raise UsageError(f"{shown}: PostgreSQL has no connection option {unknown[1]!r}; leave it out") from None
        raise UsageError(f"{shown}: this is no URL of a database; {_LIKE}") from None
    if not given.get("dbname") and not given.get("service"):
        raise UsageError(f"{shown} names no database; {_LIKE}")
    ports = str(given.get("port", "")).split(",")
    if not all(port.isdecimal() or not port for port in ports):
        raise UsageError(f"{shown}: its port is no number; {_LIKE}")
    return dict(given)
