"""`kndb edit bench`."""

from __future__ import annotations

from typing import Annotated

import typer

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
)
from .update import new_factor


@takes_figure_options
def bench(
    model: ModelOption,
    facts: Annotated[int, typer.Option("--facts", help="Edit so many facts, drawn at random.")] = 100,
    method: MethodOption = "update",
    at: Annotated[
        str, typer.Option("--at", metavar="LIST", help="Measure after so many edits, piled up.")
    ] = "1,10,100",
    relation: RelationsOption = None,
    rule: RuleOption = "gradient",
    lambda_old: Annotated[
        float | None,
        typer.Option("--lambda-old", help="With update, λ₁. Default: that of kndb edit update.", show_default=False),
    ] = None,
    lambda_new: Annotated[
        str | None,
        typer.Option(
            "--lambda-new",
            metavar="NUMBER|auto",
            help="With update, λ₂. Default: that of kndb edit update.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        float, typer.Option("--keep", help="With optimize, the penalty for changing other facts' answers (β).")
    ] = 16.0,
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
        int | None,
        typer.Option("--neurons", help="Change only so many neurons of a fact. Default: all.", show_default=False),
    ] = None,
    intra: IntraOption = 50,
    inter: InterOption = 50,
    seed: SeedOption = 0,
    refinement: RefinementOption = None,
    plot: PlotOption = None,
    figure: FigureOptions = PLAIN,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Edit many facts in memory, alone and piled up, beside random neurons. Run it again to resume.

    Example: kndb edit bench --model lab-bert --facts 100 --method update --plot decay.svg
    """
    require_plot(plot, figure)
    chosen: EditSettings
    if method == UpdateSettings.method:
        chosen = UpdateSettings(rule, lambda_old, new_factor(lambda_new), max_share, neurons)
    else:
        chosen = optimize_settings(method, keep=keep, steps=steps, max_share=max_share, neurons=neurons)
    settings = TrialSettings(facts, intra, inter, tuple(relation or ()), seed)
    counts = [int(count) for count in numbers_of("--at", at, whole=True)]
    with open_existing(db) as database:
        if plot is not None:
            database.plots.check(plot)
        with progress_bar("Benching", "edits") as tick:
            trial = database.trials.bench(
                model,
                chosen,
                settings,
                counts=counts,
                refinement=choose(database, refinement, None, model, relations=relation or []),
                progress=tick,
            )
        print_trial(database, trial.id, plot, figure, output)
