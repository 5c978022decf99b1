"""A user's SQL on PostgreSQL: in a transaction that can only read, and as the query of a cursor.

The server refuses to write in the transaction, which is never committed; the query is prepared, so that it is one; and
it is declared as a cursor's, which takes nothing but SELECT, VALUES, TABLE and WITH (or it begins with EXPLAIN or
SHOW). What the server lets its user do beyond tables it lets him do here: a superuser's query may read and write files
of the server's, so a warning is logged.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import lru_cache
from typing import Any

from ...advice import call, for_python, option
from ...errors import UsageError
from ..backends.backend import Answer
from ..backends.postgres_errors import translated_errors
from .sql_limits import Row, SqlLimits, distinct_names, limited, nearest_names, row_size

_ROWS = 500
"""Rows that are fetched at a time."""
_PLAIN = frozenset({"bool", "bytea", "float4", "float8", "int2", "int4", "int8", "numeric", "oid", "text", "varchar"})
"""The types whose values are Python's; those of all others are the texts that the server prints."""
_SHOWING = re.compile(r"SHOW\b", re.IGNORECASE)
_EXPLAINING = re.compile(r"EXPLAIN(?:\s*\([^()]*\))?(?:\s+(?:ANALY[ZS]E|VERBOSE))*(?=[\s(])", re.IGNORECASE)
_UNKNOWN = re.compile(r'(relation|column) "?(?:(\w+)"?\."?)?([^".]+)"? does not exist')
_log = logging.getLogger(__name__)
_READABLE = "give one that only reads: SELECT, WITH … SELECT, VALUES, EXPLAIN or SHOW"


@contextlib.contextmanager
def reading_sql(
    connect: Callable[[float], Any], shown: str, query: str, limits: SqlLimits, timeout: float
) -> Iterator[Answer]:
    """Runs one statement that reads; see `reading_sql` in the module of that name.

    Args:
        connect: opens a connection of psycopg's.
        shown: how messages name the database.
        query: the statement.
        limits: what it may take.
        timeout: seconds to wait for the server.
    """
    with translated_errors(shown, timeout), contextlib.closing(connect(timeout)) as connection:
        if connection.info.parameter_status("is_superuser") == "on":
            _warn_of_superuser(shown)
        connection.read_only = True
        # The transaction begins here: from now on nothing can make it one that writes.
        connection.execute("SELECT 1")
        asked = _Asked(connection, query, limits)
        with asked.told():
            columns = asked.begin()
        yield columns, limited(asked.next_row, limits, asked.told)


class _Asked:
    """A user's statement on its way."""

    def __init__(self, connection: Any, query: str, limits: SqlLimits) -> None:
        self._connection, self._query, self._limits = connection, query, limits
        self._cursor = connection.cursor()
        _take_texts(self._cursor)
        self._left = limits.time_limit
        self._rows: list[Any] = []
        self._more = False

    def begin(self) -> list[str]:
        """Begins the statement, and gives the names of its columns."""
        if "\0" in self._query:
            raise UsageError("the statement has the character NUL, at which PostgreSQL would take it to end")
        # Without the comments before it: what is looked at is what the server gets.
        query = _without_comments(self._query)
        if not query.replace(";", "").strip():
            raise UsageError(f"there is no statement; {_READABLE}")
        explaining = _EXPLAINING.match(query)
        if explaining is not None or _SHOWING.match(query):
            if explaining is not None:
                # What is explained may be run, and in a transaction that only reads CREATE TABLE … AS is run, too.
                self._run(f"DECLARE kndb_explained NO SCROLL CURSOR FOR {query[explaining.end() :]}")
            self._run(query)
            self._rows = self._cursor.fetchall()[::-1]
        else:
            self._run(f"DECLARE kndb_answer NO SCROLL CURSOR FOR {query}")
            self._run("FETCH 0 FROM kndb_answer")
            self._more = True
        names = [str(column.name) for column in self._cursor.description or ()]
        if not names:
            raise UsageError(f"the statement's answer has no columns; {_READABLE}")
        return distinct_names(names)

    def next_row(self) -> Row | None:
        """The next row of the answer; None at the end."""
        if not self._rows and self._more:
            self._fetch()
        return self._rows.pop() if self._rows else None

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Says what is wrong with the statement in kndb's words."""
        import psycopg

        try:
            yield
        except psycopg.errors.QueryCanceled as error:
            raise UsageError(
                f"{option('time_limit')}: the query was stopped after {self._limits.time_limit:g} s; give it more "
                "time, or have it read less"
            ) from error
        except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError) as error:
            raise self._mistake(error) from error
        except psycopg.Error as error:
            state = error.sqlstate or ""
            if state.startswith("25"):
                raise UsageError(f"this statement is not allowed here ({_said(error)}); {_READABLE}") from error
            if state == "08P01":
                raise UsageError("write the values themselves in place of parameters ($1)") from error
            raise

    def _fetch(self) -> None:
        """Fetches rows one by one, until they are more than an answer may have: a row may be of any size."""
        with self._timed():
            rows = self._cursor.stream(f"FETCH {_ROWS} FROM kndb_answer")
            found: list[Row] = []
            size = 0
            with contextlib.closing(rows):
                for row in rows:
                    found.append(tuple(map(_value, row)))
                    size += row_size(found[-1])
                    if size > self._limits.most_bytes:
                        break
        self._rows = found[::-1]
        self._more = len(found) == _ROWS

    def _run(self, statement: str) -> None:
        """Runs a statement, which must be one: prepared, the server takes no second."""
        with self._timed():
            self._cursor.execute(statement, prepare=True)

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        """Has the server stop what takes longer than what is left of the time."""
        milliseconds = max(1, round(1000 * self._left))
        self._cursor.execute("SELECT set_config('statement_timeout', %s, true)", (str(milliseconds),))
        started = time.monotonic()
        yield
        self._left -= time.monotonic() - started

    def _mistake(self, error: Any) -> UsageError:
        message = _said(error)
        if "cannot insert multiple commands" in message:
            return UsageError("give one statement; what follows its semicolon is another")
        hint = f"the tables and their columns: {call('kndb.page_text', 'schema')}"
        unknown = _UNKNOWN.search(message)
        if unknown is not None:
            hint = f"{nearest_names(unknown[3], self._names(unknown[1], unknown[2]))}; {hint}"
        first = _without_comments(self._query).split(None, 1)[0]
        if error.sqlstate == "42601" and re.fullmatch(r"[A-Za-z]+", first) and f'"{first.lower()}"' in message.lower():
            return UsageError(f"this statement is not allowed here, or is no SQL ({message}); {_READABLE}")
        return UsageError(f"PostgreSQL can't run this query: {message}; {hint}")

    def _names(self, kind: str, qualifier: str | None) -> dict[str, str]:
        """The tables; or the columns of the table named before the dot, else of those that the query names."""
        self._connection.rollback()
        rows = self._connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
        ).fetchall()
        if kind == "relation":
            return {table: table.casefold() for table, _ in rows}
        words = {word.lower() for word in re.findall(r"\w+", self._query)}
        for chosen in ({(qualifier or "").lower()}, words):
            found = {f"{table}.{name}": name.casefold() for table, name in rows if table in chosen}
            if found:
                return found
        return {f"{table}.{name}": name.casefold() for table, name in rows}


def _said(error: Any) -> str:
    return str(error.diag.message_primary or str(error).split("\n", 1)[0])


@lru_cache
def _warn_of_superuser(shown: str) -> None:
    """Says once of each database what its user's queries may do."""
    text = (
        f"{shown}: its user is a superuser, whom the server lets read and write files and run programs, by queries "
        f"too; use one with fewer rights for queries of others: {call('kndb.page_text', 'scale')}"
    )
    _log.warning("%s", for_python(text))


def _without_comments(query: str) -> str:
    """A statement from its first word on; comments of PostgreSQL's may hold others."""
    rest = query.lstrip()
    while rest.startswith(("--", "/*")):
        if rest.startswith("--"):
            rest = re.sub(r"\A[^\n\r]*", "", rest)
        else:
            depth, place = 1, 2
            while depth and place < len(rest):
                mark = rest[place : place + 2]
                depth += {"/*": 1, "*/": -1}.get(mark, 0)
                place += 2 if mark in ("/*", "*/") else 1
            rest = rest[place:]
        rest = rest.lstrip()
    return rest


def _take_texts(cursor: Any) -> None:
    """Has a cursor give texts for all values but those that Python has the like of: dates of any year, JSON, arrays."""
    import psycopg
    from psycopg.types.string import TextLoader

    for kind in psycopg.adapters.types:
        if kind.name not in _PLAIN:
            cursor.adapters.register_loader(kind.oid, TextLoader)
        if kind.array_oid:
            cursor.adapters.register_loader(kind.array_oid, TextLoader)


def _value(value: Any) -> object:
    """A value as SQLite would have it: texts, numbers, bytes and None; a text for a number beyond both kinds."""
    if not isinstance(value, Decimal):
        return value
    if value == value.to_integral_value() and abs(value) < 2**63:
        return int(value)
    return float(value) if not value.is_finite() or math.isfinite(float(value)) else str(value)
