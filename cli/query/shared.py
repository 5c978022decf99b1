"""`kndb query shared`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from kndb.advice import call, option
from kndb.errors import UsageError

from ..answering import note_refinement
from ..options import (
    DatabaseOption,
    FormatOption,
    OptionalModelOption,
    RefinementMethodOption,
    RefinementOption,
    RelationsOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_rows


def shared(
    relation: RelationsOption = None,
    across: Annotated[
        int | None,
        typer.Option("--across", help="Only neurons that facts of so many relations hold.", show_default=False),
    ] = None,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option("--between", metavar="KEY KEY", help="Only neurons held by both relations.", show_default=False),
    ] = None,
    top: Annotated[int | None, typer.Option("--top", help="At most so many rows.", show_default=False)] = None,
    min_share: Annotated[
        float, typer.Option("--min-share", help="Only neurons held by at least this share of the facts.")
    ] = 0.0,
    model: OptionalModelOption = None,
    refinement: RefinementOption = None,
    method: RefinementMethodOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Which neurons the facts of some relations share, the most widely held first.

    Example: kndb query shared --relation P176 --top 10
    """
    relations, least = _sharing(relation or [], across, between)
    with open_existing(db) as database:
        chosen = database.query.choose(refinement, model, method=method, relations=relations)
        rows = database.query.shared(
            relations, refinement=chosen.refinement, across=least, top=top, min_share=min_share
        )
    note_refinement(chosen)
    if not rows and chosen.held != 0:
        note(_why_none(least, min_share))
    print_rows([as_row(row) for row in rows], ["layer", "neuron", "facts", "share", "relations"], output)


def _why_none(across: int | None, min_share: float) -> str:
    """Why no neuron is listed of relations whose facts are attributed."""
    asked = [] if across is None or across < 2 else [f"facts of {across} of these relations"]
    asked += [f"{100 * min_share:.3g} % of the facts"] if min_share else []
    if not asked:
        return "None of these facts has a knowledge neuron: no neuron reached the thresholds in enough prompts."
    lower = " or ".join(option(name) for name, given in (("across", across), ("min_share", min_share)) if given)
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
            f"--between names both relations itself, so leave out {other}; for more than two relations use --relation "
            "for each of them, and --across with their number"
        )
    if between[0] == between[1]:
        raise UsageError(f"--between must name two different relations (got {between[0]} {between[1]})")
    return list(between), 2
