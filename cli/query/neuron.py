"""`kndb query neuron`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.advice import Placeholder, call
from kndb.errors import UsageError
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
    from kndb.database.models import ModelVersion
    from kndb.records.queries import NeuronFindings


_NEURON_PARTS = ("neuron", "relations", "facts", "edits")
_TOKENS, _PROMPTS = "tokens", "prompts"


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
    top: Annotated[
        int, typer.Option("--top", help="List so many promoted and demoted tokens, and highest and lowest prompts.")
    ] = 10,
    tokens: Annotated[
        bool, typer.Option("--tokens/--no-tokens", help="Load the model to find the value slot's effect on tokens.")
    ] = True,
    prompts: Annotated[
        int,
        typer.Option(
            "--prompts", metavar="N", help="Load the model to find the prompts, of N asked, that fire it most."
        ),
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of the draw of --prompts.")] = 0,
    version: Annotated[
        str,
        typer.Option(
            "--version", help="Ask this version of the model: base, current, a version id, or a snapshot's name."
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
    if prompts < 0:
        raise UsageError(f"--prompts must be at least 0 (got {prompts})")
    asked = [part for part, wanted in ((_TOKENS, tokens), (_PROMPTS, prompts)) if wanted]
    require_part((*_NEURON_PARTS, *asked), output, part)
    require_positive(limit)
    with open_existing(db) as database:
        chosen = which.chosen(database)
        found = database.query.neuron(place, refinement=chosen.refinement)
        parts = _neuron_parts(found, limit)
        asked = [one for one in asked if part in (None, one)]
        model = _asked_model(database, chosen.refinement, required=part is not None) if asked else None
        if model is not None:
            version_of_it = database.models.load(model, version)
            for one in asked:
                ask = _token_rows if one == _TOKENS else _prompt_rows
                parts[one] = ask(database, version_of_it, found, top, prompts, seed)
    number = found.facts_holding
    holders = "no fact holds it" if not number else f"{number} {'fact holds' if number == 1 else 'facts hold'} it"
    note_refinement(chosen)
    note(f"Neuron {place}: {holders}.")
    short = {"neuron": ["name", "facts_holding", "mean_score"]}
    print_parts(parts, output, part, {"refinement": in_json(chosen.refinement)}, short=short)


def _asked_model(database: Database, refinement: Refinement, *, required: bool) -> str | None:
    """The model that can be asked; None, with a note, where it is known by imported results alone."""
    model = database.query.model_of(refinement.id)
    if not model.has_checkpoint and not required:
        note(
            f"Of model {model.name} there are imported results only, so what asks it is left out; give it its "
            f"checkpoint with: {call('models.add', Placeholder('PATH'), name=model.name)}"
        )
        return None
    return model.name


def _token_rows(
    database: Database, on: ModelVersion, found: NeuronFindings, top: int, *_: int
) -> tuple[list[dict[str, Any]], list[str]]:
    effects = database.models.token_effects(on.record.name, Neuron(found.layer, found.neuron), top=top, on=on)
    kinds = zip(("promoted", "demoted"), effects, strict=True)
    rows = [{"kind": kind, **as_row(effect)} for kind, some in kinds for effect in some]
    return rows, ["kind", "token", "effect"]


def _prompt_rows(
    database: Database, on: ModelVersion, found: NeuronFindings, top: int, sample: int, seed: int
) -> tuple[list[dict[str, Any]], list[str]]:
    found_prompts = database.models.activating_prompts(
        on.record.name,
        Neuron(found.layer, found.neuron),
        holders=[one.fact for one in found.facts],
        top=top,
        sample=sample,
        seed=seed,
        on=on,
    )
    kinds = zip(("highest", "lowest"), found_prompts, strict=True)
    rows = [{"kind": kind, **as_row(row)} for kind, some in kinds for row in some]
    return rows, ["kind", "activation", "text", "fact", "relation", "subject", "object", "holds"]


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
