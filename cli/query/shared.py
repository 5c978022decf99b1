"""`kndb query shared`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from kndb.advice import call, option
from kndb.errors import UsageError
from kndb.records.models import Neuron

from ..answering import note_refinement
from ..option_groups import ANY, Which, takes_which
from ..options import (
    DatabaseOption,
    FormatOption,
    RelationsOption,
    open_existing,
)
from ..output import OutputFormat, as_row, manner, note, print_rows, sorted_rows

COLUMNS = ["name", "layer", "neuron", "facts", "share", "relations"]


@takes_which
def shared(
    relation: RelationsOption = None,
    across: Annotated[
        int | None,
        typer.Option(
            "--across",
            help="List only neurons that facts of at least so many relations hold. Default: 1.",
            show_default=False,
        ),
    ] = None,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--between",
            metavar="KEY KEY",
            help="List only neurons that facts of both these relations hold.",
            show_default=False,
        ),
    ] = None,
    top: Annotated[
        int | None, typer.Option("--top", help="List at most so many neurons. Default: all.", show_default=False)
    ] = None,
    min_share: Annotated[
        float,
        typer.Option("--min-share", help="List only neurons that at least this share (0 to 1) of the facts hold."),
    ] = 0.0,
    which: Which = ANY,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """List the neurons that the facts of some relations share, the most widely held first.

    Example: kndb query shared --relation P176 --top 10
    """
    relations, least = _sharing(relation or [], across, between)
    with open_existing(db) as database:
        chosen = which.chosen(database, relations=relations)
        # Sorted by another column, the first of all rows are wanted, not the first of the most widely held ones.
        most = None if manner.sort and (top is None or top > 0) else top
        rows = database.query.shared(
            relations, refinement=chosen.refinement, across=least, top=most, min_share=min_share
        )
    note_refinement(chosen)
    if not rows and chosen.held != 0:
        note(_why_none(relations, least, min_share, between=between is not None))
    named_rows = [{"name": str(Neuron(row.layer, row.neuron)), **as_row(row)} for row in rows]
    print_rows(sorted_rows(named_rows)[:top], COLUMNS, output, short=["name", *COLUMNS[3:]])


def _why_none(relations: Sequence[str], across: int | None, min_share: float, *, between: bool) -> str:
    """Why no neuron is listed of relations whose facts are attributed."""
    if between and not min_share:
        return f"No neuron is held by facts of both {' and '.join(relations)}."
    of = "of these relations" if relations else "relations of the refinement"
    asked = [] if across is None or across < 2 else [f"facts of {across} {of}"]
    asked += [f"{100 * min_share:.3g} % of the facts"] if min_share else []
    if not asked:
        return "None of these facts has a knowledge neuron: no neuron reached the thresholds in enough prompts."
    named = (("across", None if between else across), ("min_share", min_share))
    lower = " or ".join(option(name) for name, given in named if given)
    return f"No neuron is held by {' and by '.join(asked)}; lower {lower}."


def _sharing(
    relations: Sequence[str], across: int | None, between: tuple[str, str] | None
) -> tuple[list[str], int | None]:
    """The relations to choose, and how many of them must hold a neuron."""
    if between is None:
        if not relations and across is None:
            example = call("query.shared", relations=["P176"])
            raise UsageError(f"one of --relation, --across and --between is required; for example: {example}")
        return list(relations), across
    if relations or across is not None:
        other = "--relation" if relations else "--across"
        raise UsageError(
            f"--between goes without {other}: it names both relations itself. For more than two relations use "
            "--relation for each of them, and --across with their number"
        )
    if between[0] == between[1]:
        raise UsageError(f"--between must name two different relations (got {between[0]} twice)")
    return list(between), 2
