"""What psycopg's errors mean, in kndb's words. Nothing of a password is ever in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError

from ...advice import call
from ...errors import StoreDamagedError, StoreError, StoreMissingError, UsageError

_CONNECTING = re.compile("connection failed|connection to server")
_CUT = re.compile("closed|lost|consuming|sending|flushing|terminat|EOF|SSL|reset")
"""What is said of a connection that was open, of all that comes without a state."""
_LOST = ("57P01", "57P02", "57P03")
"""The server shuts down, crashed, or can't be connected to now."""


def translate(error: BaseException, shown: str, timeout: float) -> StoreError | UsageError | None:
    """Says in kndb's words what an error of PostgreSQL's means; None for an error that no user can cause.

    Args:
        error: an error of psycopg's, or SQLAlchemy's wrapper of one.
        shown: how messages name the database.
        timeout: seconds that a transaction waited for others.
    """
    import psycopg

    original: Any = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(original, psycopg.Error) or isinstance(original, psycopg.IntegrityError):
        return None
    state = original.sqlstate or ""
    text = _first_line(original)
    if state == "3D000" or (not state and "does not exist" in text and "database" in text):
        return StoreMissingError(
            f"{shown}: the server has no database of this name; make it there with: createdb, or the SQL CREATE "
            "DATABASE, then let kndb fill it: kndb db init"
        )
    found = _of_the_server(original, state, text, shown, timeout)
    return found if found is not None else _of_values(state, text, shown)


def _of_the_server(original: Any, state: str, text: str, shown: str, timeout: float) -> StoreError | None:
    import psycopg

    if state == "55P03":
        return StoreError(
            f"{shown} is in use by another process (waited {timeout:g} s); try again when that one is done"
        )
    if state.startswith("28") or (not state and "password" in text):
        return StoreError(
            f"{shown}: the server refuses this user: {text}. Give the password in PGPASSWORD or a file ~/.pgpass, "
            "or in the URL: postgresql://USER:PASSWORD@HOST/NAME"
        )
    if state in _LOST or (isinstance(original, psycopg.OperationalError) and not state):
        if _CONNECTING.search(text) or not (state or _CUT.search(text)):
            return StoreError(f"{shown} can't be reached: {text}; start the server, or name another database")
        return _lost(shown, text)
    if state == "53100":
        return StoreError(f"{shown} can't be written: the server's disk is full, nothing of this was stored ({text})")
    if state.startswith("53"):
        return StoreError(f"{shown}: the server has no room for this now ({text}); try again later")
    if state in ("25006", "42501"):
        return StoreError(f"{shown} can't be written: {text}; ask who runs the server for the right to")
    if state in ("40001", "40P01"):
        return StoreError(f"{shown}: another process changed this at the same time ({text}); try again")
    if state.startswith("XX") or state in ("58030", "58P01"):
        return StoreDamagedError(
            f"{shown} is damaged ({text}); see: {call('maintenance.check')}, the server's log, and restore a backup"
        )
    if state == "57014":
        return StoreError(f"{shown}: the server stopped this: {text}")
    return None


def _of_values(state: str, text: str, shown: str) -> UsageError | StoreError | None:
    if state == "22021" or "NUL (0x00)" in text:
        return UsageError(f"a text has the character NUL, which PostgreSQL can't hold ({shown}); take it out")
    if state == "22003" or "out of range" in text:
        return UsageError(f"a number is larger than {shown} can hold ({text})")
    if state == "54000":
        return UsageError(f"a text is too long for an index of {shown} ({text}); shorten it")
    if state in ("22P02", "22030", "22032"):
        return StoreDamagedError(f"{shown} is damaged ({text}); see: {call('maintenance.check')}")
    return None


def _lost(shown: str, text: str) -> StoreError:
    return StoreError(
        f"{shown}: the connection to the server was lost ({text}). What was stored before stays; when the server is "
        f"back, run the same command again, which goes on where it was; see: {call('maintenance.info')}"
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextmanager
def translated_errors(shown: str, timeout: float) -> Iterator[None]:
    """Raises psycopg's errors of the block as kndb's; the one place that does.

    Raises:
        StoreError: if the server can't be reached, refuses the user, is full, or the connection was lost.
        UsageError: for a number or a text that PostgreSQL can't hold.
    """
    import psycopg

    try:
        yield
    except (DBAPIError, psycopg.Error) as error:
        meaning = translate(error, shown, timeout)
        if meaning is None:
            raise
        raise meaning from error
    except UnicodeEncodeError as error:
        raise UsageError(f"the text {error.object!a} is no UTF-8, so no database has it") from error
