"""`kndb edit bench`, `kndb edit sweep` and `kndb edit trials`: edits of many facts, tried in memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.errors import UsageError
from kndb.findings import EDIT_MEASURES

from .edit_update import new_factor
from .options import (
    DatabaseOption,
    FormatOption,
    ModelOption,
    OptionalModelOption,
    RefinementOption,
    RelationsOption,
    open_existing,
)
from .output import OutputFormat, as_row, note, print_rows, progress_bar

if TYPE_CHECKING:
    from kndb.database import Database

MethodOption = Annotated[str, typer.Option("--method", help="update or optimize.")]
RuleOption = Annotated[str, typer.Option("--rule", metavar="gradient|output|paper", help="Of update: how slots move.")]
IntraOption = Annotated[int, typer.Option("--intra", help="Facts of the edited relations to measure.")]
InterOption = Annotated[int, typer.Option("--inter", help="Facts of other relations to measure.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Of all that is drawn.")]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw it, too: .png, .svg or .pdf.", show_default=False),
]
_SHOWN = ["success", "paraphrase", "neighbourhood", "intra_change", "inter_change", "inter_locality", "divergence"]


def bench(
    model: ModelOption,
    facts: Annotated[int, typer.Option("--facts", help="Facts to edit, drawn at random.")] = 100,
    method: MethodOption = "update",
    at: Annotated[
        str, typer.Option("--at", metavar="LIST", help="Measure after so many edits, one on the other.")
    ] = "1,10,100",
    relation: RelationsOption = None,
    rule: RuleOption = "gradient",
    lambda_old: Annotated[
        float | None,
        typer.Option("--lambda-old", help="Of update: λ₁. Default: as of kndb edit update.", show_default=False),
    ] = None,
    lambda_new: Annotated[
        str | None,
        typer.Option(
            "--lambda-new",
            metavar="NUMBER|auto",
            help="Of update: λ₂. Default: as of kndb edit update.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[float, typer.Option("--keep", help="Of optimize: β.")] = 16.0,
    steps: Annotated[int, typer.Option("--steps", help="Of optimize: gradient steps at most.")] = 60,
    max_share: Annotated[
        float | None,
        typer.Option("--max-share", help="Default: as of kndb edit update; 1 for optimize.", show_default=False),
    ] = None,
    neurons: Annotated[
        int | None,
        typer.Option("--neurons", help="Change only so many neurons of a fact. Default: all.", show_default=False),
    ] = None,
    intra: IntraOption = 50,
    inter: InterOption = 50,
    seed: SeedOption = 0,
    refinement: RefinementOption = None,
    plot: PlotOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Edit many facts in memory, one at a time and one on the other, beside random neurons; goes on where it stopped.

    Example: kndb edit bench --model lab-bert --facts 100 --method update --plot decay.svg
    """
    from kndb.database.trial_measures import Method, Sizes

    chosen = Method(method, lambda_old, new_factor(lambda_new), keep, steps, max_share, neurons, rule)
    sizes, counts = Sizes(facts, intra, inter), [int(count) for count in _numbers("--at", at, whole=True)]
    with open_existing(db) as database:
        if plot is not None:
            database.plots.check(plot)
        with progress_bar("Benching", "edits") as tick:
            trial = database.trials.bench(
                model,
                chosen,
                sizes=sizes,
                counts=counts,
                relations=relation or (),
                refinement=refinement,
                seed=seed,
                progress=tick,
            )
        _print_trial(database, trial.id, plot, output)


def sweep(
    model: ModelOption,
    facts: Annotated[int, typer.Option("--facts", help="Facts to edit, drawn at random.")] = 20,
    method: MethodOption = "update",
    relation: RelationsOption = None,
    rule: RuleOption = "gradient",
    lambda_old: Annotated[
        str | None,
        typer.Option(
            "--lambda-old",
            metavar="LIST",
            help="Of update: values of λ₁ to try. Default: as of kndb edit update.",
            show_default=False,
        ),
    ] = None,
    lambda_new: Annotated[
        str, typer.Option("--lambda-new", metavar="LIST", help="Of update: values of λ₂ to try, and auto.")
    ] = "auto,0.1,0.3,1",
    keep: Annotated[str, typer.Option("--keep", metavar="LIST", help="Of optimize: values of β to try.")] = "1,8",
    steps: Annotated[int, typer.Option("--steps", help="Of optimize: gradient steps at most.")] = 60,
    max_share: Annotated[
        float | None,
        typer.Option("--max-share", help="Default: as of kndb edit update; 1 for optimize.", show_default=False),
    ] = None,
    neurons: Annotated[
        str, typer.Option("--neurons", metavar="LIST", help="Numbers of neurons of a fact to try, and all.")
    ] = "1,4,all",
    intra: IntraOption = 50,
    inter: InterOption = 50,
    seed: SeedOption = 0,
    refinement: RefinementOption = None,
    plot: PlotOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Try settings of a way to edit, each on the same facts: success against collateral; goes on where it stopped.

    Example: kndb edit sweep --model lab-bert --lambda-new 1,2,4,8 --neurons 1,4,all --plot sweep.svg
    """
    from kndb.database.trial_measures import Method, Sizes

    counts = [None if word == "all" else _count(word) for word in _words("--neurons", neurons)]
    if method == "update":
        away: list[float | None] = [None] if lambda_old is None else [*_numbers("--lambda-old", lambda_old)]
        factors = product([new_factor(word) for word in _words("--lambda-new", lambda_new)], away, counts)
        methods = [
            Method(method, old, new, max_share=max_share, neurons=count, rule=rule) for new, old, count in factors
        ]
    else:
        pairs = product(_numbers("--keep", keep), counts)
        methods = [Method(method, keep=beta, steps=steps, max_share=max_share, neurons=count) for beta, count in pairs]
    with open_existing(db) as database:
        if plot is not None:
            database.plots.check(plot)
        with progress_bar("Sweeping", "edits") as tick:
            trial = database.trials.sweep(
                model,
                methods,
                sizes=Sizes(facts, intra, inter),
                relations=relation or (),
                refinement=refinement,
                seed=seed,
                progress=tick,
            )
        _print_trial(database, trial.id, plot, output)


def trials(
    trial: Annotated[
        int | None, typer.Argument(metavar="[TRIAL]", help="Show this one's table.", show_default=False)
    ] = None,
    model: OptionalModelOption = None,
    plot: PlotOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """List the benches and sweeps, or show one's table again.

    Example: kndb edit trials
    """
    with open_existing(db) as database:
        if trial is not None:
            _print_trial(database, trial, plot, output)
            return
        if plot is not None:
            raise UsageError("found --plot without a trial's number; expected one: kndb edit trials TRIAL --plot FILE")
        rows = [{**as_row(one), **_told(one.settings)} for one in database.trials.all(model)]
    columns = ["id", "kind", "model", "version", "status", "settings", "created_at", "finished_at"]
    if output is OutputFormat.TABLE:
        columns[5:6] = ["method", "facts", "tried"]
    print_rows(rows, columns, output)


def _told(settings: Any) -> dict[str, Any]:
    """What a list of trials says of their settings; all of them are in the other formats."""
    cells = settings.get("cells")
    tried = f"{len(cells)} settings" if cells else f"after {', '.join(map(str, settings['counts']))} edits"
    return {"method": (cells[0] if cells else settings)["method"], "facts": settings["facts"], "tried": tried}


def _print_trial(database: Database, trial: int, plot: Path | None, output: OutputFormat) -> None:
    found = database.trials.get(trial)
    rows = list(_rows(database, trial))
    unplanned = database.trials.unplanned(trial)
    note(f"Trial {trial}, a {found.kind} of model {found.model} at {found.version}: {found.status}.")
    if unplanned:
        few = "; ".join(f"fact {fact}: {reason}" for fact, reason in unplanned[:3])
        note(f"No edit could be planned in {len(unplanned)} cases, which count as not changed: {few}")
    varied = [name for name in _settings_of(rows) if len({str(row.get(name)) for row in rows}) > 1]
    columns = ["part", "edits", *varied, "weights", "facts", "planned", "neurons_changed", *_SHOWN]
    if output is not OutputFormat.TABLE:
        ends = [f"{name}{part}" for name in EDIT_MEASURES for part in ("", "_low", "_high")]
        columns = ["part", "edits", *_settings_of(rows), "weights", "facts", "planned", "neurons_changed", *ends]
    print_rows(rows, columns, output)
    if plot is not None:
        note(f"Drew {database.plots.trial(plot, trial)}")


def _rows(database: Database, trial: int) -> Iterator[dict[str, Any]]:
    for one in database.trials.table(trial):
        row = {**as_row(one), "neurons_changed": one.neurons, **one.settings}
        for name in EDIT_MEASURES:
            ends = one.measures.get(name, (None, None, None))
            row |= {f"{name}{part}": end for part, end in zip(("", "_low", "_high"), ends, strict=True)}
        yield row


def _settings_of(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["settings"]))


def _words(option: str, text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise UsageError(f"found nothing in {option}; expected values with commas between them")
    return words


def _numbers(option: str, text: str, *, whole: bool = False) -> list[float]:
    try:
        return [int(word) if whole else float(word) for word in _words(option, text)]
    except ValueError:
        expected = "whole numbers" if whole else "numbers"
        raise UsageError(f"found {text!r} in {option}; expected {expected} with commas between them") from None


def _count(word: str) -> int:
    if not word.isdigit() or int(word) < 1:
        raise UsageError(f"found {word!r} in --neurons; expected numbers of at least 1, or all")
    return int(word)
