"""`kndb edit eval` and `kndb edit evaluations`: what edits did, beside random neurons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.errors import UsageError

from .edit_plans import FLIP_COLUMNS
from .numbers import parse_numbers
from .options import (
    DatabaseOption,
    DeviceOption,
    EditArgument,
    FormatOption,
    OptionalModelOption,
    ThreadsOption,
    computing,
    open_existing,
)
from .output import OutputFormat, as_row, note, print_json, print_parts, print_rows

if TYPE_CHECKING:
    from kndb.database.edit_evaluations import EvaluatedEdit

_MEASURE_COLUMNS = ["group", "measure", "edit", "low", "high", "random_neurons", "random_low", "random_high"]
_TOKENS = 50
_GROUPS = ("own", "own_held_out", "intra", "inter")
_TABLE_COLUMNS = [
    "edit",
    "kind",
    "what",
    "weights",
    "success",
    "paraphrase",
    "neighbourhood",
    "intra_change",
    "inter_change",
    "inter_locality",
    "divergence",
]


def evaluate(
    edit: EditArgument,
    fact: Annotated[
        int | None,
        typer.Option("--fact", metavar="ID", help="Of a capture, the fact that it is for.", show_default=False),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="OBJECT", help="Of a capture, the answer that it is to give.", show_default=False),
    ] = None,
    sample: Annotated[int, typer.Option("--sample", help="Facts of other relations to measure.")] = 300,
    seed: Annotated[int, typer.Option("--seed", help="Of that sample, the control's neurons, and the intervals.")] = 0,
    list_flips: Annotated[
        bool,
        typer.Option("--list-flips", help="Name the other facts whose answers change. CSV has only them."),
    ] = False,
    generate: Annotated[
        bool,
        typer.Option("--generate", help="Continue the fact's prompts, before and after; of causal models."),
    ] = False,
    tokens: Annotated[
        int | None,
        typer.Option("--tokens", help="Of --generate, tokens to continue by. Default: 50.", show_default=False),
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Measure an edit on its own fact or relation and on others, beside a random-neuron control; stored.

    Example: kndb edit eval 1 --list-flips
    """
    if tokens is not None and not generate:
        raise UsageError("--tokens needs --generate")
    if tokens is not None and tokens < 1:
        raise UsageError(f"--tokens must be at least 1 (got {tokens})")
    if generate and list_flips and output is OutputFormat.CSV:
        raise UsageError("CSV prints one list; leave out --generate or --list-flips")
    length = (tokens or _TOKENS) if generate else 0
    with open_existing(db) as database, computing(threads):
        evaluation = database.edits.evaluate(
            edit, fact=fact, to=to, sample=sample, seed=seed, device=device, generate=length
        )
    if output is OutputFormat.JSON:
        print_json(as_row(evaluation))
        return
    found: Any = evaluation.measures
    note(
        f"Evaluation {evaluation.id} of edit {edit}: {evaluation.version_before} → {evaluation.version_after}. "
        "Low and high: 95 % intervals over facts."
    )
    flips = found["flips"]
    count, prompts = len({flip["fact"] for flip in flips}), sum(flip["prompts"] for flip in flips)
    hint = "" if list_flips or not flips else "; name them with --list-flips"
    note(f"Answers that were to stay and changed: of {count} facts, to {prompts} prompts{hint}.")
    parts: dict[str, tuple[list[dict[str, Any]], list[str]]] = {"measures": (list(_measures(found)), _MEASURE_COLUMNS)}
    if list_flips:
        parts["flips"] = (flips, FLIP_COLUMNS)
    if generate:
        made = found["generated"]
        note(
            f"Fluency of {made['tokens']} tokens: {made['fluency_before']:.2f} before, {made['fluency_after']:.2f} "
            "after (weighted mean of 2- and 3-gram entropies, bits)."
        )
        parts["continuations"] = (made["texts"], ["prompt", "before", "after"])
    if len(parts) == 1:
        print_rows(*parts["measures"], output)
    else:
        print_parts(parts, output, [*parts][1] if output is OutputFormat.CSV else None)


def evaluations(
    edits: Annotated[
        list[str] | None,
        typer.Argument(metavar="[EDIT]...", help="Edits' numbers, or ranges such as 7-12. Default: all."),
    ] = None,
    model: OptionalModelOption = None,
    every: Annotated[bool, typer.Option("--all", help="Every evaluation of an edit, not only the newest.")] = False,
    measure: Annotated[
        str | None,
        typer.Option("--measure", metavar="NAME", help="One measure alone, with its interval.", show_default=False),
    ] = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """A table over edits: what each did, and what as many random neurons did, by its newest evaluation.

    Example: kndb edit evaluations
    """
    numbers = parse_numbers(edits or ())
    with open_existing(db) as database:
        found = database.edits.evaluated(numbers, model=model, every=every)
        known = database.edits.evaluated_measures
    if measure is not None and measure not in known:
        raise UsageError(f"found measure {measure!r}; expected one of {', '.join(known)}")
    rows = [row for one in found for row in _rows(one, measure)]
    if not rows:
        note("Nothing was evaluated yet. Evaluate an edit with: kndb edit eval EDIT")
    columns = ["edit", "kind", "what", "weights", "value", "low", "high"] if measure else _TABLE_COLUMNS
    if output is not OutputFormat.TABLE:
        parts = ("value", "low", "high") if measure else [f"{name}{part}" for name in known for part in _PARTS]
        columns = ["evaluation", "edit", "kind", "model", "what", "version_before", "version_after", "weights", *parts]
    print_rows(rows, columns, output)


_PARTS = ("", "_low", "_high")


def _rows(one: EvaluatedEdit, measure: str | None) -> Iterator[dict[str, Any]]:
    from kndb.database.edits import title_of

    what = title_of(one.kind, one.recipe)
    sides = [("edit", one.edited), ("random neurons", one.control)]
    for weights, values in sides[: 1 if one.kind == "capture" else 2]:
        row = {**as_row(one), "what": what, "weights": weights}
        if measure is not None:
            yield row | dict(zip(("value", "low", "high"), values[measure], strict=True))
        else:
            ends = {f"{name}{part}": end for name in values for part, end in zip(_PARTS, values[name], strict=True)}
            yield row | ends


def _measures(measures: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    nothing: dict[str, Any] = {}
    ends = measures.get("intervals", {"edited": nothing, "control": nothing})
    for group in _GROUPS:
        values = measures["edited"].get(group, nothing)
        for name, value in values.items():
            low, high = ends["edited"].get(group, nothing).get(name, (None, None))
            random_low, random_high = ends["control"].get(group, nothing).get(name, (None, None))
            yield {
                "group": group,
                "measure": name,
                "edit": value,
                "low": low,
                "high": high,
                "random_neurons": measures["control"].get(group, nothing).get(name),
                "random_low": random_low,
                "random_high": random_high,
            }
