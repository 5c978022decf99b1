"""What a shell completes: names and numbers that the store has; without a store, nothing: it never complains."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import typer

from kndb.errors import KndbError
from kndb.records.models import LAB_MODELS

if TYPE_CHECKING:
    from kndb.database import Database

Completed = list[tuple[str, str]]
"""Values, each with what it is."""


def _completing(find: Callable[[Database], Iterable[tuple[object, str]]]) -> Callable[[typer.Context, str], Completed]:
    """Makes a typer completion of a question to the store."""

    def complete(ctx: typer.Context, incomplete: str) -> Completed:
        from kndb.database import open_database

        try:
            with open_database(_named(ctx), create=False) as database:
                found = [(str(value), what) for value, what in find(database)]
        except KndbError:
            return []
        return [(value, what) for value, what in found if value.startswith(incomplete)]

    return complete


def _named(ctx: typer.Context) -> str | None:
    """The database that the command line names so far."""
    return ctx.params.get("db") or ctx.find_root().params.get("db")


def _models(database: Database) -> Iterable[tuple[object, str]]:
    known = {model.name: f"{model.family}, {model.layers} layers" for model in database.models.all()}
    return {**dict.fromkeys(LAB_MODELS, "a lab model"), **known}.items()


def models(ctx: typer.Context, incomplete: str) -> Completed:
    """Completes models: those of the store, and the lab models, which need none."""
    found = _completing(_models)(ctx, incomplete)
    return found or [(name, "a lab model") for name in LAB_MODELS if name.startswith(incomplete)]


relations = _completing(lambda database: [(one.key, one.label or "") for one in database.facts.relations()])
refinements = _completing(lambda database: [(one.id, f"of run {one.run_id}") for one in database.query.refinements()])
runs = _completing(lambda database: [(one.id, f"{one.model}, {one.method}") for one in database.query.runs()])
edits = _completing(lambda database: [(one.id, f"{one.model}, {one.kind}") for one in database.edits.all()])
snapshots = _completing(lambda database: [(one.name, one.model) for one in database.snapshots.all()])
