"""Databases for tests that run on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postgres_server import shared_server

SQLITE, POSTGRESQL = "sqlite", "postgresql"
BOTH = (SQLITE, POSTGRESQL)
"""What a module of tests names `BACKENDS` if its tests are to run on both."""
FEW_ON_SERVER = 4
"""Of many examples of one thing, so many are tried on the server, too."""
_EMPTY, _HEAD = "template1", "kndb_head"
_numbers = itertools.count(1)
_free: list[str] = []
"""Databases on the server that tests of this process are done with."""


def examples(all_of_them: Iterable[Any]) -> list[tuple[str, Any]]:
    """Pairs of a backend and an example: all on SQLite, the first few on the server, for what differs little."""
    found = list(all_of_them)
    return [*((SQLITE, one) for one in found), *((POSTGRESQL, one) for one in found[:FEW_ON_SERVER])]


@dataclass(frozen=True)
class Place:
    """Where a database is, and the folder of its edit objects if it has none of its own."""

    location: Any
    objects: Path | None

    def store(self, *, create: bool = True, **options: Any) -> Any:
        """Opens the store."""
        from kndb.store.engine import open_store

        return open_store(self.location, create=create, objects=self.objects, **options)

    def database(self, *, create: bool = True) -> Any:
        """Opens the database."""
        from kndb.database import open_database

        return open_database(self.location, create=create, objects=self.objects)

    @property
    def words(self) -> list[str]:
        """The words by which a command line names it."""
        return ["--db", str(self.location), *([] if self.objects is None else ["--objects", str(self.objects)])]


class Places:
    """Makes databases of one backend in a folder; `close` drops them."""

    def __init__(self, backend: str, folder: Path) -> None:
        self.backend, self._folder = backend, folder
        self._dropped: list[str] = []
        self._used: list[str] = []

    def empty(self, name: str = "kndb") -> Place:
        """No file, or a database on the server that has no tables."""
        if self.backend == SQLITE:
            return Place(self._folder / f"{name}.db", None)
        return self._made(name, _EMPTY)

    def new(self, name: str = "kndb") -> Place:
        """The same, with kndb's tables where that saves time; tests that change the tables take one `apart`."""
        if self.backend == SQLITE:
            return self.empty(name)
        database = _wiped()
        self._used.append(database)
        return Place(shared_server().url(database), self._folder / f"{name}.objects")

    def apart(self, name: str = "kndb") -> Place:
        """The same, which no other test gets."""
        return self.empty(name) if self.backend == SQLITE else self._made(name, _head())

    def copy_of(self, folder: Path, name: str = "kndb") -> Place:
        """A copy of the database `kndb.db` in a folder, with all that lies beside it."""
        if self.backend == SQLITE:
            target = self._folder / name
            shutil.copytree(folder, target)
            return Place(target / "kndb.db", None)
        place = self._made(name, _copied(folder))
        if (folder / "kndb.objects").is_dir():
            shutil.copytree(folder / "kndb.objects", place.objects)
        return place

    def close(self) -> None:
        """Drops what was made on the server, or keeps it for the next test."""
        for name in self._dropped:
            run_on_server(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        _free.extend(self._used)

    def _made(self, name: str, template: str) -> Place:
        database = f"t{os.getpid()}_{next(_numbers)}"
        run_on_server(f'CREATE DATABASE "{database}" TEMPLATE "{template}" STRATEGY file_copy')
        self._dropped.append(database)
        return Place(shared_server().url(database), self._folder / f"{name}.objects")


def _wiped() -> str:
    """A database without rows: of one that a test of this process is done with, they go faster than a new one comes."""
    import psycopg

    from kndb.store.tables import Table

    while _free:
        name = _free.pop()
        tables = [table.name for table in reversed(Table.metadata.sorted_tables)]
        numbered = [table.name for table in Table.metadata.sorted_tables if "id" in table.columns]
        statements = ["SET lock_timeout = '2s'", *(f"DELETE FROM {table}" for table in tables)]
        statements += [f"SELECT setval('{table}_id_seq', 1, false)" for table in numbered]
        with contextlib.suppress(psycopg.Error), psycopg.connect(shared_server().url(name)) as connection:
            connection.execute("; ".join(statements))
            return name
    name = f"w{os.getpid()}_{next(_numbers)}"
    run_on_server(f'CREATE DATABASE "{name}" TEMPLATE "{_head()}" STRATEGY file_copy')
    return name


def _head() -> str:
    from kndb.store.schema import upgrade

    _once(_HEAD, lambda url: upgrade(url, create=True))
    return _HEAD


def _copied(folder: Path) -> str:
    from kndb.database import copy_database

    name = f"copy_{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"
    with tempfile.TemporaryDirectory() as aside:  # Its objects are copied with each of its copies.
        _once(name, lambda url: copy_database(folder / "kndb.db", url, target_objects=aside))
    return name


def _once(name: str, fill: Callable[[str], object]) -> None:
    """Makes a database that others are made of, unless this run of the tests has it."""
    server = shared_server()
    with (server.folder / "templates.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _connected() as connection:
            there = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if there is None:
            run_on_server(f'CREATE DATABASE "{name}_begun" TEMPLATE "{_EMPTY}" STRATEGY file_copy')
            fill(server.url(f"{name}_begun"))
            run_on_server(f'ALTER DATABASE "{name}_begun" RENAME TO "{name}"')


def run_on_server(statement: str) -> None:
    """Runs a statement of the server's own, outside of any transaction, as its superuser."""
    with _connected() as connection:
        connection.execute(statement)


@contextlib.contextmanager
def _connected() -> Iterator[Any]:
    import psycopg

    with psycopg.connect(shared_server().url(), autocommit=True) as connection:
        yield connection
