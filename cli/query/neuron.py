"""`kndb query neuron`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.advice import Placeholder, call
from kndb.records.attribution import Refinement
from kndb.records.models import Neuron

from ..answering import in_json, note_refinement
from ..edit.steps import origin
from ..option_groups import ANY, Which, takes_which
from ..options import (
    DatabaseOption,
    FormatOption,
    PartOption,
    open_existing,
)
from ..output import OutputFormat, Row, as_row, note, print_parts, require_part, sorted_rows
from .rows import require_positive

if TYPE_CHECKING:
    from kndb.database import Database
    from kndb.records.queries import NeuronFindings


_NEURON_PARTS = ("neuron", "relations", "facts", "edits", "tokens")


Parts = dict[str, tuple[Sequence[Row], list[str]]]


@takes_which
def neuron(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NEURON", help="The neuron, such as L10.N2827: layer 10, neuron 2827, both counted from 0."
        ),
    ],
    which: Which = ANY,
    top: Annotated[int, typer.Option("--top", help="List so many promoted and so many demoted tokens.")] = 10,
    tokens: Annotated[
        bool, typer.Option("--tokens/--no-tokens", help="Load the model to find the value slot's effect on tokens.")
    ] = True,
    version: Annotated[
        str,
        typer.Option(
            "--version", help="Take the value slot of this version: base, current, a version id, or a snapshot's name."
        ),
    ] = "current",
    limit: Annotated[
        int | None, typer.Option("--limit", help="List at most so many facts. Default: all.", show_default=False)
    ] = None,
    part: PartOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show what is known of one neuron: relations and facts that hold it, tokens it promotes, and edits of it.

    Example: kndb query neuron L2.N182 --limit 20
    """
    place = Neuron.parse(name)
    require_part(_NEURON_PARTS if tokens else _NEURON_PARTS[:-1], output, part)
    require_positive(limit)
    with open_existing(db) as database:
        chosen = which.chosen(database)
        found = database.query.neuron(place, refinement=chosen.refinement)
        parts = _neuron_parts(found, limit)
        if tokens and part in (None, "tokens"):
            rows = _token_rows(database, chosen.refinement, place, version, top, required=part is not None)
            parts.update({} if rows is None else {"tokens": (rows, ["kind", "token", "effect"])})
    number = found.facts_holding
    holders = "no fact holds it" if not number else f"{number} {'fact holds' if number == 1 else 'facts hold'} it"
    note_refinement(chosen)
    note(f"Neuron {place}: {holders}.")
    short = {"neuron": ["name", "facts_holding", "mean_score"]}
    print_parts(parts, output, part, {"refinement": in_json(chosen.refinement)}, short=short)


def _token_rows(
    database: Database, refinement: Refinement, neuron: Neuron, version: str, top: int, *, required: bool
) -> list[dict[str, Any]] | None:
    """Rows of promoted and demoted tokens; None, with a note, where the model is known by imported results alone."""
    model = database.query.model_of(refinement.id)
    if not model.has_checkpoint and not required:
        note(
            f"Of model {model.name} there are imported results only, so tokens are left out; give it its checkpoint "
            f"with: {call('models.add', Placeholder('PATH'), name=model.name)}"
        )
        return None
    found = database.models.token_effects(model.name, neuron, version=version, top=top)
    kinds = zip(("promoted", "demoted"), found, strict=True)
    return [{"kind": kind, **as_row(effect)} for kind, effects in kinds for effect in effects]


def _neuron_parts(found: NeuronFindings, limit: int | None) -> Parts:
    summary = {
        "name": str(Neuron(found.layer, found.neuron)),
        "layer": found.layer,
        "neuron": found.neuron,
        "facts_holding": found.facts_holding,
        "mean_score": found.mean_score,
    }
    facts = sorted_rows([as_row(row) for row in found.facts])[:limit]
    return {
        "neuron": ([summary], list(summary)),
        "relations": ([as_row(row) for row in found.relations], ["relation", "label", "facts", "share", "mean_score"]),
        "facts": (facts, ["fact", "relation", "subject", "object", "prompts", "mean_score"]),
        "edits": (
            [{**as_row(row), "from": origin(pulled=row.pulled)} for row in found.edits],
            ["edit", "kind", "target", "applied", "created_at", "from"],
        ),
    }
