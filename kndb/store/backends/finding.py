"""Which backend a location names, and which one a connection belongs to."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from ...records.locations import is_server
from ..connections import database_path
from .backend import BACKEND, Backend
from .sqlite import SqliteBackend


def backend_at(location: str | Path | Backend, objects: str | Path | None = None) -> Backend:
    """The backend of a location that a user named; nothing is opened.

    Args:
        location: a path, a `sqlite:///PATH` URL or a `postgresql://…` URL.
        objects: the folder of edit objects, where the database is on a server; None takes the environment's
            KNDB_OBJECTS, and there may be none.

    Raises:
        UsageError: if the location is another kind of URL, or a folder of objects is named for a file, which has one.
    """
    if isinstance(location, Backend):
        return location
    if is_server(str(location)):
        from .postgres import PostgresBackend

        return PostgresBackend(str(location), objects)
    path = database_path(location)
    if objects is not None:
        from ...advice import option
        from ...errors import UsageError

        raise UsageError(
            f"{option('objects')} is for databases on a server; the edit objects of {path} lie beside it, in "
            f"{path.with_suffix('.objects')}"
        )
    return SqliteBackend(path)


def backend_of(connection: Connection) -> Backend:
    """The backend of a connection of the store's."""
    backend = connection.get_execution_options()[BACKEND]
    assert isinstance(backend, Backend)
    return backend
