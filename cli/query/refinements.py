"""`kndb query refinements`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kndb.advice import Placeholder
from kndb.records.attribution import attribute_and_refine

from ..options import (
    DatabaseOption,
    FormatOption,
    OptionalModelOption,
    open_existing,
)
from ..output import OutputFormat, as_row, manner, note, print_rows, print_text

if TYPE_CHECKING:
    from kndb.database import Database
    from kndb.records.attribution import Refinement

_COLUMNS = ["id", "model", "method", "run_id", "version", "complete", "negative", "imported", "default"]
_COLUMNS += ["relations", "facts", "neurons_per_fact", "settings", "created_at"]
_SHORT = ["id", "method", "run", "version", "facts", "relations", "neurons", "state"]
_VERSION = 9
"""Characters of a version that the short table shows."""


def refinements(
    model: OptionalModelOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """List the refinements: of which method, run and version each is, what it holds, and which answers by default.

    Example: kndb query refinements
    """
    with open_existing(db) as database:
        rows = refinement_rows(database, database.query.refinements(model))
    if not rows:
        note(f"There is no refinement yet; make one with: {attribute_and_refine(model or Placeholder('NAME'))}")
    if output is not OutputFormat.TABLE or manner.wide or manner.sort is not None:
        print_rows(rows, _COLUMNS, output)
        return
    for place, name in enumerate(dict.fromkeys(row["model"] for row in rows)):
        print_text(("\n" if place else "") + name, strong=True)
        print_rows([_short(row) for row in rows if row["model"] == name], _SHORT, output)


def refinement_rows(database: Database, refinements: Iterable[Refinement]) -> list[dict[str, Any]]:
    """What there is to list of some refinements."""
    defaults = set(database.query.default_refinements().values())
    return [
        {
            **as_row(one),
            "negative": one.negative,
            "imported": one.imported,
            "default": one.id in defaults,
            "relations": len(one.relations),
            "facts": one.facts,
            "neurons_per_fact": database.query.neuron_counts(one.id)[1],
        }
        for one in refinements
    ]


def _short(row: dict[str, Any]) -> dict[str, Any]:
    state = [name for name in ("default", "negative") if row[name]]
    state += [] if row["complete"] else ["incomplete"]
    return {
        **row,
        "run": row["run_id"],
        "version": row["version"][:_VERSION],
        "neurons": round(row["neurons_per_fact"], 2),
        "state": ", ".join(state),
    }
