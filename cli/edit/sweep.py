"""`kndb edit sweep`."""

from __future__ import annotations

from itertools import product
from typing import Annotated

import typer

from kndb.errors import UsageError
from kndb.records.figures import PLAIN, FigureOptions

from ..figure_options import require_plot, takes_figure_options
from ..options import (
    DatabaseOption,
    FormatOption,
    ModelOption,
    RefinementOption,
    RelationsOption,
    open_existing,
)
from ..output import OutputFormat, progress_bar
from .trial_options import (
    InterOption,
    IntraOption,
    MethodOption,
    PlotOption,
    RuleOption,
    SeedOption,
    numbers_of,
    print_trial,
    words_of,
)
from .update import new_factor


@takes_figure_options
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
    figure: FigureOptions = PLAIN,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Try settings of a way to edit, each on the same facts: success against collateral; goes on where it stopped.

    Example: kndb edit sweep --model lab-bert --lambda-new 1,2,4,8 --neurons 1,4,all --plot sweep.svg
    """
    require_plot(plot, figure)
    from kndb.database.edits.trial_measures import EditMethod, TrialSizes

    counts = [None if word == "all" else _count(word) for word in words_of("--neurons", neurons)]
    if method == "update":
        away: list[float | None] = [None] if lambda_old is None else [*numbers_of("--lambda-old", lambda_old)]
        factors = product([new_factor(word) for word in words_of("--lambda-new", lambda_new)], away, counts)
        methods = [
            EditMethod(method, old, new, max_share=max_share, neurons=count, rule=rule) for new, old, count in factors
        ]
    else:
        pairs = product(numbers_of("--keep", keep), counts)
        methods = [
            EditMethod(method, keep=beta, steps=steps, max_share=max_share, neurons=count) for beta, count in pairs
        ]
    with open_existing(db) as database:
        if plot is not None:
            database.plots.check(plot)
        with progress_bar("Sweeping", "edits") as tick:
            trial = database.trials.sweep(
                model,
                methods,
                sizes=TrialSizes(facts, intra, inter),
                relations=relation or (),
                refinement=refinement,
                seed=seed,
                progress=tick,
            )
        print_trial(database, trial.id, plot, figure, output)


def _count(word: str) -> int:
    if not word.isdigit() or int(word) < 1:
        raise UsageError(f"found {word!r} in --neurons; expected numbers of at least 1, or all")
    return int(word)
