"""Ways to make kndb break its promise that a work is one transaction: whoever looks for faults has to notice them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from sqlalchemy import Engine, event

from kndb.database.edits.commands import EditCommands
from kndb.database.exchange import facts as exchange_facts
from kndb.database.facts import FactCommands
from kndb.store import ingest

Mutant = Callable[[Callable[[], object]], AbstractContextManager[object]]
"""Breaks kndb while the context lasts; is given the work itself, on a folder to spare."""

BEGIN = "BEGIN IMMEDIATE"
WRITES = ("INSERT", "UPDATE", "DELETE", "REPLACE")


def one_by_one(method: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """A method of `EditCommands` that takes one edit after the other, each in a transaction of its own."""
    return lambda self, edits, **how: [taken for edit in edits for taken in method(self, [edit], **how)]


def apply_each(_: object) -> AbstractContextManager[object]:
    return patch.object(EditCommands, "apply_all", one_by_one(EditCommands.apply_all))


def revert_each(_: object) -> AbstractContextManager[object]:
    method = one_by_one(EditCommands.revert_all)
    return patch.object(EditCommands, "revert_all", lambda self, edits: method(self, sorted(edits, reverse=True)))


def ingest_each(_: object) -> AbstractContextManager[object]:
    """A transaction for each file."""

    def store_files(self: FactCommands, files: list[Any], *most: int) -> Any:
        for file in files:
            with self._store.writing() as connection:
                report = ingest.ingest(connection, [file], *most)
        return report

    return patch.object(FactCommands, "store_files", store_files)


def import_each(_: object) -> AbstractContextManager[object]:
    """A transaction for each file that `import_facts` reads."""
    real = exchange_facts.store_facts

    def store_facts(store: Any, paths: list[Any], *rest: Any) -> Any:
        return [real(store, [path], *rest) for path in paths][-1]

    return patch.object(exchange_facts, "store_facts", store_facts)


@contextmanager
def commit_before(chosen: int) -> Iterator[list[str]]:
    """Commits before a transaction's n-th writing statement, and begins again; gives those of the last that wrote."""
    seen: list[str] = []
    begun = False

    def executes(connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        nonlocal begun
        if statement == BEGIN:
            begun = True
        if statement.lstrip().upper().startswith(WRITES):
            if begun:
                seen.clear()
                begun = False
            seen.append(statement)
            if len(seen) == chosen:
                commit(connection)

    event.listen(Engine, "before_cursor_execute", executes)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", executes)


def commit(connection: Any) -> None:
    """Ends SQLite's transaction and begins another one, past SQLAlchemy."""
    driver = connection.connection.dbapi_connection
    driver.execute("COMMIT")
    driver.execute(BEGIN)


@contextmanager
def halfway(act: Callable[[], object]) -> Iterator[None]:
    """Commits once in the middle of all that a work writes."""
    with commit_before(0) as seen:
        act()
    assert len(seen) > 1, "the work writes by one statement"
    with commit_before(len(seen) // 2 + 1):
        yield


@contextmanager
def each_edit(_: object) -> Iterator[None]:
    """Commits after each edit that is added: a transaction for each edit of a batch, or of a file that is pulled."""
    from kndb.database.edits import batch, pull

    def add_object(connection: Any, *arguments: Any) -> int:
        number = real(connection, *arguments)
        commit(connection)
        return number

    real = batch.add_object
    with patch.object(batch, "add_object", add_object), patch.object(pull, "add_object", add_object):
        yield


MUTANTS: dict[str, Mutant] = {
    "apply each": apply_each,
    "revert each": revert_each,
    "ingest each": ingest_each,
    "import each": import_each,
    "add each": each_edit,
    "halfway": halfway,
}
