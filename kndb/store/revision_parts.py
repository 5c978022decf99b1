"""What the revisions say otherwise to PostgreSQL than to SQLite.

SQLite has had stores of every revision; on PostgreSQL a store begins at revision 0008 or later, and runs all of them
on empty tables. So a statement that changes old rows is for SQLite alone, unless it is of a revision after 0008.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

_SERVER = "postgresql"


def text() -> sa.types.TypeEngine[Any]:
    """The type of texts: ordered and compared by their bytes, as in SQLite, whatever the server's language."""
    return sa.String().with_variant(sa.String(collation="C"), _SERVER)


def json() -> sa.types.TypeEngine[Any]:
    """The type of JSON, which is kept as the text that kndb writes."""
    return sa.JSON().with_variant(sa.String(collation="C"), _SERVER)


def on_server() -> bool:
    """Whether these revisions run on PostgreSQL."""
    return op.get_bind().dialect.name == _SERVER


def change_old_rows(statement: str) -> None:
    """Runs a statement of SQLite's on rows of a store of an older revision."""
    if not on_server():
        op.execute(statement)


def in_sqlite(*parts: sa.Constraint) -> Sequence[sa.Constraint]:
    """Parts of a table that PostgreSQL's has not.

    Those are unique constraints over texts of any length (see `unique_texts`), and the foreign keys of tables of
    millions of rows: PostgreSQL looks each new row's references up, one by one, which would take five times as long as
    all else about writing it; there `kndb db check` looks for all of them at once.
    """
    return () if on_server() else parts


def unique_texts(name: str, table: str, columns: Sequence[str], texts: Sequence[str], where: str | None = None) -> None:
    """Makes a unique index over columns, of which some hold texts of any length.

    PostgreSQL's indexes hold no entry of more than some 2,700 bytes: there it is over the texts' MD5 sums.
    """
    if on_server():
        parts: list[Any] = [sa.text(f"md5({column})") if column in texts else column for column in columns]
        op.create_index(name, table, parts, unique=True, postgresql_where=None if where is None else sa.text(where))
    else:
        op.create_index(name, table, list(columns), unique=True, sqlite_where=None if where is None else sa.text(where))


def index_of_text(name: str, table: str, column: str) -> None:
    """Makes an index that finds a text of any length."""
    op.create_index(name, table, [column], postgresql_using="hash")
