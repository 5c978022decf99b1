"""Where a database is: a path, or the URL of a server, whose password nobody is to read."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, urlencode

_SERVER = re.compile(r"\s*postgres(?:ql)?(?:\+\w+)?:", re.IGNORECASE)
_URL = re.compile(
    r"""
    (?P<scheme>postgres(?:ql)?)://
    (?:(?P<user>[^@/:]*)(?::[^@/]*)?@)?
    (?P<hosts>[^/?]*)
    (?P<path>/[^?]*)?
    (?:\?(?P<query>.*))?
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
"""A URL as PostgreSQL's own programs take it apart: who comes before the first `@`, unless a `/` comes before that."""
_HOST = r"(?:[\w.%~-]*|\[[0-9a-fA-F:.%]+\])(?::[0-9]*)?"
_HOSTS = re.compile(f"{_HOST}(?:,{_HOST})*")
_SECRET = re.compile("password|passfile|sslkey|secret|token", re.IGNORECASE)


def is_server(location: str) -> bool:
    """Whether a location is the URL of a database on a server, be it a wrong one: it may hold a password."""
    return _SERVER.match(location) is not None


def is_clear(location: str) -> bool:
    """Whether it can be told which part of a server's URL is its password: one with `@` or `/` must be quoted."""
    found = _URL.fullmatch(location)
    if found is None or not location.isprintable():
        return False
    rest = (found["path"] or "") + (found["query"] or "")
    return _HOSTS.fullmatch(found["hosts"]) is not None and "@" not in rest


def without_password(location: str) -> str:
    """A location as it may be shown: a URL loses its password, wherever in it that stands.

    What is left finds the same database: PostgreSQL's own PGPASSWORD, or a file ~/.pgpass, gives the password. Of a URL
    whose parts can't be told apart, nothing is left.
    """
    if not is_server(location):
        return location
    found = _URL.fullmatch(location)
    if found is None or not is_clear(location):
        return f"{location.strip().partition(':')[0]}://…"
    query = [(key, value) for key, value in parse_qsl(found["query"] or "", True) if not _SECRET.search(key)]
    # A host in the query may be a folder: it stays readable.
    asked = f"?{urlencode(query, safe='/', quote_via=quote)}" if query else ""
    user = f"{found['user']}@" if found["user"] else ""
    return f"{found['scheme']}://{user}{found['hosts']}{found['path'] or ''}{asked}"
