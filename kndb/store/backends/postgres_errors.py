"""What psycopg's errors mean, in kndb's words. Nothing of a password is ever in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError

from ...advice import call
from ...errors import StoreDamagedError, StoreError, StoreMissingError, UsageError

_CONNECTING = re.compile("connection failed|connection is bad|connection to server|resolve host")
_NO_SERVER = re.compile("connection to server|resolve host|timeout expired|could not (?:connect|translate host)")
_REFUSAL = re.compile(r"FATAL: +(.*)")
_NO_DATABASE = re.compile('database ".*" does not exist$')
_NOT_NOW = re.compile("database system is|too many clients|remaining connection slots|too many connections")
_CUT = re.compile("closed|lost|consuming|sending|flushing|terminat|EOF|SSL|reset")
"""What is said of a connection that was open, of all that comes without a state."""
_LOST = ("57P01", "57P02", "57P03", "57P05", "25P03", "25P04", "08003", "08006")
"""The server shuts down, crashed, or can't be connected to now; or it ended a session that did nothing for too long."""
_DAMAGED = ("58030", "58P01", "XX001", "XX002")


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
    refusal = _REFUSAL.search(text) if not state and _CONNECTING.search(text) else None
    if state == "3D000" or (refusal is not None and _NO_DATABASE.search(refusal[1])):
        return StoreMissingError(
            f"{shown}: the server has no database of this name; make it there with: createdb, or the SQL CREATE "
            "DATABASE, then let kndb fill it: kndb db init"
        )
    if refusal is not None:
        return _refused(refusal[1], shown)
    found = _of_the_server(original, state, text, shown, timeout)
    return found if found is not None else _of_values(state, text, shown)


def _of_the_server(original: Any, state: str, text: str, shown: str, timeout: float) -> StoreError | UsageError | None:
    import psycopg

    if state == "55P03":
        return StoreError(
            f"{shown} is in use by another process (waited {timeout:g} s); try again when that one is done"
        )
    if state in _LOST or (isinstance(original, psycopg.OperationalError) and not state):
        if not state and _CONNECTING.search(text):
            return _unconnected(text, shown)
        return _lost(shown, text) if state or _CUT.search(text) else _unreachable(text, shown)
    if state == "53100":
        return StoreError(f"{shown} can't be written: the server's disk is full, nothing of this was stored ({text})")
    if state.startswith("53"):
        return StoreError(f"{shown}: the server has no room for this now ({text}); try again later")
    if state == "25006":
        return StoreError(f"{shown} can't be written: {text}; name a server and a user that may write")
    if state == "42501":
        rights = call("kndb.page_text", "scale")
        return StoreError(
            f"{shown}: the server does not let this user do that: {text}; which rights it takes: {rights}"
        )
    if state in ("40001", "40P01"):
        return StoreError(f"{shown}: another process changed this at the same time ({text}); try again")
    if state in _DAMAGED:
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
    if state == "22P05" or "can't be encoded" in text:
        return UsageError(f"a text has a letter that {shown} can't hold ({text}); take it out")
    if not state and "connect_timeout" in text:
        return UsageError(f"{shown}: {text}; it is a number of seconds")
    if state in ("22P02", "22030", "22032"):
        return StoreDamagedError(f"{shown} is damaged ({text}); see: {call('maintenance.check')}")
    return None


def _refused(reason: str, shown: str) -> StoreError:
    """What a server that answered says to a connection."""
    if _NOT_NOW.search(reason):
        return StoreError(f"{shown}: the server takes no connection now: {reason}; try again later")
    if "password" in reason or reason.startswith("role ") or "authentication" in reason:
        return StoreError(
            f"{shown}: the server refuses this user: {reason}. Give the password in PGPASSWORD or a file ~/.pgpass, "
            "or in the URL: postgresql://USER:PASSWORD@HOST/NAME"
        )
    return StoreError(f"{shown}: the server refuses the connection: {reason}")


def _unconnected(text: str, shown: str) -> StoreError | UsageError:
    """What became of a connection that no server answered."""
    if "password" in text:
        return _refused(text, shown)
    if text.startswith("connection is bad") and not _NO_SERVER.search(text):
        reason = text.removeprefix("connection is bad:").strip()
        return UsageError(f"{shown}: the connection can't be made as its URL or the environment says: {reason}")
    return _unreachable(text, shown)


def _unreachable(text: str, shown: str) -> StoreError:
    return StoreError(f"{shown} can't be reached: {text}; start the server, or name another database")


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
