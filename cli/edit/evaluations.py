"""`kndb edit evaluations`: a table over edits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.advice import Placeholder, call
from kndb.errors import UsageError
from kndb.records.edits import in_words

from ..numbers import parse_numbers
from ..options import (
    DatabaseOption,
    FormatOption,
    OptionalModelOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_rows

if TYPE_CHECKING:
    from kndb.database.edits.evaluations import EvaluatedEdit


_SHORT_MEASURES = ("success", "paraphrase", "neighbourhood", "inter_change")


def evaluations(
    edits: Annotated[
        list[str] | None,
        typer.Argument(metavar="[EDIT]...", help="Numbers of edits, or ranges such as 7-12. Default: all."),
    ] = None,
    model: OptionalModelOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show every evaluation of an edit, not only the newest.")
    ] = False,
    measure: Annotated[
        str | None,
        typer.Option(
            "--measure", metavar="NAME", help="Show this measure alone, with its interval.", show_default=False
        ),
    ] = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Tabulate what each edit did, and what as many random neurons did, by its newest evaluation.

    Example: kndb edit evaluations
    """
    numbers = parse_numbers(edits or ())
    with open_existing(db) as database:
        found = database.edits.evaluated(numbers, model=model, every=every)
        known = database.edits.evaluated_measures
    if measure is not None and measure not in known:
        raise UsageError(f"--measure must be one of {', '.join(known)} (got {measure})")
    rows = [row for one in found for row in _rows(one, measure)]
    if not rows:
        note(f"Nothing was evaluated yet; evaluate an edit with: {call('edits.evaluate', Placeholder('EDIT'))}")
    parts = ("value", "low", "high") if measure else [f"{name}{part}" for name in known for part in _PARTS]
    columns = ["evaluation", "edit", "kind", "model", "what", "version_before", "version_after", "weights", *parts]
    short = ["edit", "what", "weights", *(parts if measure else _SHORT_MEASURES)]
    print_rows(rows, columns, output, short=short)


_PARTS = ("", "_low", "_high")


def _rows(one: EvaluatedEdit, measure: str | None) -> Iterator[dict[str, Any]]:
    what = in_words(one.recipe.title, pulled=one.pulled)
    sides = [("edit", one.edited), ("random neurons", one.control)]
    # What made a capture is not known, and a plan for whole layers leaves no random neurons: neither has a control.
    controlled = any(value is not None for value, *_ in one.control.values())
    for weights, values in sides[: 2 if controlled else 1]:
        row = {**as_row(one), "what": what, "weights": weights}
        if measure is not None:
            yield row | dict(zip(("value", "low", "high"), values[measure], strict=True))
        else:
            ends = {f"{name}{part}": end for name in values for part, end in zip(_PARTS, values[name], strict=True)}
            yield row | ends
