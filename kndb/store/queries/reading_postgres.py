"""A user's SQL on PostgreSQL: in a transaction that can only read, and as the query of a cursor.

The server refuses to write in the transaction; the query is prepared, so that it is one; and it is declared as
a cursor's, which takes nothing but SELECT, VALUES, TABLE and WITH (or it begins with EXPLAIN or SHOW). What the server
lets its user do beyond tables, such as read its files, it lets him do here.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from ...advice import call, option
from ...errors import UsageError
from ..backends.backend import Answer
from ..backends.postgres_errors import translated_errors
from .sql_limits import Row, SqlLimits, distinct_names, limited, nearest_names

_ROWS = 500
"""Rows that are fetched at a time."""
_TELLING = re.compile(r"\s*(?:EXPLAIN|SHOW)\b", re.IGNORECASE)
_UNKNOWN = re.compile(r'(relation|column) "?(?:(\w+)"?\."?)?([^".]+)"? does not exist')
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
        self._left = limits.time_limit
        self._rows: list[Any] = []
        self._more = False

    def begin(self) -> list[str]:
        """Runs the statement as far as its first rows, and gives the names of its columns."""
        if not self._query.replace(";", "").strip():
            raise UsageError(f"there is no statement; {_READABLE}")
        if _TELLING.match(self._query):
            self._run(self._query)
            self._rows = self._cursor.fetchall()[::-1]
        else:
            self._run(f"DECLARE kndb_answer NO SCROLL CURSOR FOR {self._query}")
            self._fetch()
        return distinct_names([str(column.name) for column in self._cursor.description or ()])

    def next_row(self) -> Row | None:
        """The next row of the answer; None at the end."""
        if not self._rows and self._more:
            self._fetch()
        return tuple(map(_value, self._rows.pop())) if self._rows else None

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
        self._run(f"FETCH {_ROWS} FROM kndb_answer")
        self._rows = self._cursor.fetchall()[::-1]
        self._more = len(self._rows) == _ROWS

    def _run(self, statement: str) -> None:
        """Runs a statement, which must be one: prepared, the server takes no second."""
        milliseconds = max(1, round(1000 * self._left))
        self._cursor.execute("SELECT set_config('statement_timeout', %s, true)", (str(milliseconds),))
        started = time.monotonic()
        self._cursor.execute(statement, prepare=True)
        self._left -= time.monotonic() - started

    def _mistake(self, error: Any) -> UsageError:
        message = _said(error)
        if "cannot insert multiple commands" in message:
            return UsageError("give one statement; what follows its semicolon is another")
        hint = f"the tables and their columns: {call('kndb.page_text', 'schema')}"
        unknown = _UNKNOWN.search(message)
        if unknown is not None:
            hint = f"{nearest_names(unknown[3], self._names(unknown[1], unknown[2]))}; {hint}"
        first = self._query.split(None, 1)[0]
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


def _value(value: Any) -> object:
    """A value as SQLite would have it: texts, numbers, bytes and None."""
    if value is None or isinstance(value, (str, int, float, bytes)):
        return value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and value.is_finite() else float(value)
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
