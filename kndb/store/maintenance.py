"""Looking after a store: checking it, backing it up, and saying what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .backing_up import backup
from .checking import broken_references, check
from .engine import Store
from .object_files import file_errors, files_in
from .schema import current_revision
from .tables import Table

__all__ = ["backup", "broken_references", "check", "info"]


def tables() -> dict[str, tuple[str, ...]]:
    """The tables of this kndb's schema, by name, each with its columns."""
    every = sorted(Table.metadata.tables.values(), key=lambda one: one.name)
    return {table.name: tuple(column.name for column in table.columns) for table in every}


def info(store: Store) -> dict[str, Any]:
    """Says what a store is and holds.

    Args:
        store: the store.

    Returns:
        `path`, `objects` (None where nobody said where they are), `size` and `objects_size` (bytes), `revision`, what
        the database system says of itself (`journal_mode` and `sqlite_version`, or `server_version`) and `rows` (table
        name to number of rows).

    Raises:
        StoreError: if the database can't be read.
    """
    folder = store.objects if store.backend.has_folders else None
    with store.reading() as connection, file_errors(Path(store.shown)):
        tables = sorted(Table.metadata.tables)
        queries = {table: f'SELECT count(*) FROM "{table}"' for table in tables}  # noqa: S608
        rows = {table: connection.exec_driver_sql(query).scalar_one() for table, query in queries.items()}
        about = store.backend.about(connection)
        return {
            "path": store.shown,
            "objects": None if folder is None else str(folder),
            "size": about.pop("size"),
            "objects_size": 0 if folder is None else sum(path.lstat().st_size for path in files_in(folder)),
            "revision": current_revision(connection),
            **about,
            "rows": rows,
        }
