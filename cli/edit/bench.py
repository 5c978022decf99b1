"""`kndb edit bench`."""

from __future__ import annotations

from typing import Annotated

import typer

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
)
from .update import new_factor


@takes_figure_options
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
    figure: FigureOptions = PLAIN,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Edit many facts in memory, one at a time and one on the other, beside random neurons; goes on where it stopped.

    Example: kndb edit bench --model lab-bert --facts 100 --method update --plot decay.svg
    """
    require_plot(plot, figure)
    from kndb.database.edits.trial_measures import EditMethod, TrialSizes

    chosen = EditMethod(method, lambda_old, new_factor(lambda_new), keep, steps, max_share, neurons, rule)
    sizes, counts = TrialSizes(facts, intra, inter), [int(count) for count in numbers_of("--at", at, whole=True)]
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
        print_trial(database, trial.id, plot, figure, output)
