"""Where a database is: a path, or the URL of a server, whose password nobody is to read."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

_SERVER = re.compile(r"postgres(?:ql)?://", re.IGNORECASE)
_SECRET = re.compile("password|passfile|sslkey", re.IGNORECASE)


def is_server(location: str) -> bool:
    """Whether a location is the URL of a database on a server."""
    return _SERVER.match(location) is not None


def without_password(location: str) -> str:
    """A location as it may be shown: a URL loses its password, wherever in it that stands.

    What is left finds the same database: PostgreSQL's own PGPASSWORD, or a file ~/.pgpass, gives the password.
    """
    if not is_server(location):
        return location
    try:
        parts = urlsplit(location)
        who, at, where = parts.netloc.rpartition("@")
        query = [(key, value) for key, value in parse_qsl(parts.query, True) if not _SECRET.search(key)]
        user = who.partition(":")[0]
        # A second @ or a / in an unquoted password would leave a part of it in the host or the path.
        if "@" in user or "@" in parts.path or "@" in parts.fragment or not _is_host(where):
            return f"{parts.scheme}://…"
        # A host in the query may be a folder: it stays readable.
        asked = f"?{urlencode(query, safe='/', quote_via=quote)}" if query else ""
        return f"{parts.scheme}://{user}{at}{where}{parts.path}{asked}"
    except ValueError:
        return f"{location.partition(':')[0]}://…"


def _is_host(text: str) -> bool:
    return re.fullmatch(r"(?:[\w.,:%~-]|\[[0-9a-fA-F:.%]+\])*", text) is not None
