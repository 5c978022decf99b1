"""`kndb query run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kndb.records.skip_reasons import SKIP_REASONS

from .. import completion
from ..options import DatabaseOption, FormatOption, PartOption, open_existing
from ..output import OutputFormat, as_row, note, print_parts, require_part
from .refinements import refinement_rows

if TYPE_CHECKING:
    from kndb.records.run_findings import RunFindings

    from .neuron import Parts

_PARTS = ("run", "errors", "layers", "worst", "skipped", "refinements")
_RUN = ["id", "model", "version", "method", "status", "prompts", "skipped", "above_tolerance", "error_limit"]
_RUN += ["known_answers", "probability", "completeness_error", "completeness_error_max", "evaluations", "settings"]
_RUN += ["created_at", "finished_at"]
_REFINEMENTS = ["id", "facts", "neurons_per_fact", "complete", "negative", "default", "settings", "created_at"]
_SHORT = {
    "run": ["id", "model", "method", "status", "prompts", "skipped", "known_answers", "evaluations"],
    "worst": ["fact", "text", "answer", "error", "layer"],
    "refinements": ["id", "facts", "neurons_per_fact", "complete", "default"],
}
"""The columns of each part's table without --wide."""


def run(
    number: Annotated[
        int,
        typer.Argument(metavar="RUN", help="The run's number; see: kndb query runs.", autocompletion=completion.runs),
    ],
    worst: Annotated[
        int, typer.Option("--worst", help="List so many of the prompts with the largest completeness errors.")
    ] = 20,
    part: PartOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show one attribution run: how exact its scores are, which prompts it skipped and why, what was made of it.

    Example: kndb query run 1
    """
    from kndb.database.error_words import verdict_in_words

    require_part(_PARTS, output, part)
    with open_existing(db) as database:
        found = database.query.run(number, worst=worst)
        every = database.query.refinements(found.run.model)
        refinements = refinement_rows(database, [one for one in every if one.run_id == number])
    note(f"Run {number} ({found.run.method}, {found.run.model} {found.run.version}).")
    if found.errors.prompts:
        warned = "Warning: " if found.errors.above and found.errors.asked else ""
        note(f"{warned}{verdict_in_words(found.errors)}.")
    if found.run.status != "complete":
        note("It is not complete: the command that began it resumes it.")
    if not refinements:
        note(found.run.not_refined)
    parts = _parts(found) | {"refinements": (refinements, _REFINEMENTS)}
    print_parts(parts, output, part, short=_SHORT)


def _parts(found: RunFindings) -> Parts:
    limit = found.errors.limit if found.errors.prompts else None
    about = as_row(found.run) | dict(found.trust) | {"error_limit": limit, "known_answers": found.trust["correct"]}
    skipped = [
        {"reason": reason, "words": SKIP_REASONS.get(reason, reason), "prompts": count}
        for reason, count in found.skipped.items()
    ]
    return {
        "run": ([about], _RUN),
        "errors": ([as_row(row) for row in found.distribution], ["above", "up_to", "prompts"]),
        "layers": ([as_row(row) for row in found.errors.layers], ["layer", "prompts", "worst"]),
        "worst": ([as_row(row) for row in found.worst], ["prompt", "fact", "text", "answer", "error", "layer"]),
        "skipped": (skipped, ["reason", "words", "prompts"]),
    }
