"""`kndb edit sweep`."""

from __future__ import annotations

from itertools import product
from typing import Annotated

import typer

from kndb.errors import UsageError
from kndb.records.edit_settings import EditSettings, TrialSettings, UpdateSettings
from kndb.records.figures import PLAIN, FigureOptions

from ..answering import choose
from ..option_groups import require_plot, takes_figure_options
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
    optimize_settings,
    print_trial,
    words_of,
)
from .update import new_factor


@takes_figure_options
def sweep(
    model: ModelOption,
    facts: Annotated[int, typer.Option("--facts", help="Edit so many facts, drawn at random.")] = 20,
    method: MethodOption = "update",
    relation: RelationsOption = None,
    rule: RuleOption = "gradient",
    lambda_old: Annotated[
        str | None,
        typer.Option(
            "--lambda-old",
            metavar="LIST",
            help="With update, try these values of λ₁. Default: that of kndb edit update.",
            show_default=False,
        ),
    ] = None,
    lambda_new: Annotated[
        str, typer.Option("--lambda-new", metavar="LIST", help="With update, try these values of λ₂; auto fits it.")
    ] = "auto,0.1,0.3,1",
    keep: Annotated[str, typer.Option("--keep", metavar="LIST", help="With optimize, try these values of β.")] = "1,8",
    steps: Annotated[int, typer.Option("--steps", help="With optimize, take at most so many gradient steps.")] = 60,
    max_share: Annotated[
        float | None,
        typer.Option(
            "--max-share",
            help="Leave out neurons that more than this share (0 to 1) of the relation's facts hold. Default: that "
            "of kndb edit update; 1 for optimize.",
            show_default=False,
        ),
    ] = None,
    neurons: Annotated[
        str,
        typer.Option("--neurons", metavar="LIST", help="Try changing so many neurons of a fact; all for all of them."),
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
    """Try settings of a way to edit, each on the same facts: success against collateral. Run it again to resume.

    Example: kndb edit sweep --model lab-bert --lambda-new 1,2,4,8 --neurons 1,4,all --plot sweep.svg
    """
    require_plot(plot, figure)
    counts = [None if word == "all" else _count(word) for word in words_of("--neurons", neurons)]
    methods: list[EditSettings]
    if method == UpdateSettings.method:
        away: list[float | None] = [None] if lambda_old is None else [*numbers_of("--lambda-old", lambda_old)]
        factors = product([new_factor(word) for word in words_of("--lambda-new", lambda_new)], away, counts)
        methods = [UpdateSettings(rule, old, new, max_share, count) for new, old, count in factors]
    else:
        pairs = product(numbers_of("--keep", keep), counts)
        methods = [
            optimize_settings(method, keep=beta, steps=steps, max_share=max_share, neurons=count)
            for beta, count in pairs
        ]
    settings = TrialSettings(facts, intra, inter, tuple(relation or ()), seed)
    with open_existing(db) as database:
        if plot is not None:
            database.plots.check(plot)
        with progress_bar("Sweeping", "edits") as tick:
            trial = database.trials.sweep(
                model,
                methods,
                settings,
                refinement=choose(database, refinement, None, model, relations=relation or []),
                progress=tick,
            )
        print_trial(database, trial.id, plot, figure, output)


def _count(word: str) -> int:
    if not word.isdigit() or int(word) < 1:
        raise UsageError(f"--neurons must be numbers of at least 1, or all, with commas between them (got {word!r})")
    return int(word)
