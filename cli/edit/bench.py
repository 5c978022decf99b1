"""`kndb edit bench`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kndb.errors import UsageError
from kndb.records.bench_methods import needs_neurons
from kndb.records.edit_settings import EditSettings, OptimizeSettings, TrialSettings, UpdateSettings
from kndb.records.figures import PLAIN, FigureOptions
from kndb.records.work import LOCAL, WorkEngine

from ..answering import choose
from ..option_groups import require_plot, takes_figure_options
from ..options import (
    AddressOption,
    DatabaseOption,
    EngineOption,
    FormatOption,
    GpusPerWorkerOption,
    ModelOption,
    RefinementOption,
    RelationsOption,
    ThreadsOption,
    WorkersOption,
    computing,
    open_existing,
)
from ..output import OutputFormat, progress_bar
from .method_settings import bench_methods
from .trial_options import (
    InterOption,
    IntraOption,
    MethodsOption,
    PlotOption,
    RuleOption,
    SeedOption,
    numbers_of,
    optimize_settings,
    print_trial,
)
from .update import new_factor

if TYPE_CHECKING:
    from kndb.database import Database
    from kndb.records.attribution import RefinementChoice
    from kndb.records.bench_methods import BenchMethod

_SHARE, _FACTS = TrialSettings.share, TrialSettings.facts


@takes_figure_options
def bench(
    model: ModelOption,
    facts: Annotated[
        int | None,
        typer.Option(
            "--facts",
            help="Edit so many facts, drawn at random. Default: 100; of several methods, the largest of --sizes.",
            show_default=False,
        ),
    ] = None,
    method: MethodsOption = None,
    sizes: Annotated[
        str,
        typer.Option(
            "--sizes",
            metavar="LIST",
            help="Measure after so many edits: piled up or, by a method that plans many facts, in one.",
        ),
    ] = "1,10,100",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="METHOD.NAME=VALUE",
            help="Of several methods, a setting of one, such as memit.preserve=0.3 or together.layers=0-3. Repeatable.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            metavar="FILE",
            help="Of several methods, their settings: a JSON object with one for each method.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds",
            metavar="LIST",
            help="Compare methods with each of these seeds, and take the means. Default: --seed.",
            show_default=False,
        ),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(
            "--share",
            help="Of several methods, let plans look at this share of the other facts (0 to 1); what is measured is "
            "drawn from the rest. Default: 0.5.",
            show_default=False,
        ),
    ] = None,
    known: Annotated[
        float | None,
        typer.Option(
            "--known",
            metavar="SHARE",
            help="Of several methods, edit only facts that the model answers on at least this share of their prompts "
            "(0 to 1). Default: any facts.",
            show_default=False,
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            "--tokens",
            help="Of several methods, let a causal model continue a prompt of each edited fact by so many tokens, and "
            "measure how fluent it is. Default: not at all.",
            show_default=False,
        ),
    ] = None,
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
    threads: ThreadsOption = None,
    engine: EngineOption = LOCAL,
    workers: WorkersOption = None,
    address: AddressOption = None,
    gpus_per_worker: GpusPerWorkerOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Edit many facts in memory, beside random neurons, and compare methods. Run it again to resume.

    Example: kndb edit bench --model lab-bert --facts 100 --method update --plot decay.svg
    """
    require_plot(plot, figure)
    work = WorkEngine(engine, workers, address, gpus_per_worker, threads)
    names = method or [UpdateSettings.method]
    counts = [int(count) for count in numbers_of("--sizes", sizes, whole=True)]
    drawn = TrialSettings(_FACTS if facts is None else facts, intra, inter, tuple(relation or ()), seed)
    of_several = (set_, settings, seeds, share, known, tokens)
    told = any(value is not None for value in of_several)
    alone = len(names) == 1 and names[0] in (UpdateSettings.method, OptimizeSettings.method) and not told
    compared: list[BenchMethod] = []
    chosen: EditSettings = UpdateSettings()
    if alone and names[0] == UpdateSettings.method:
        chosen = UpdateSettings(rule, lambda_old, new_factor(lambda_new), max_share, neurons)
    elif alone:
        chosen = optimize_settings(names[0], keep=keep, steps=steps, max_share=max_share, neurons=neurons)
    else:
        _refuse_options_of_one(rule, lambda_old, lambda_new, keep, steps, max_share, neurons)
        compared = bench_methods(names, settings, set_ or ())
        wanted = max(counts) if facts is None else facts
        drawn = replace(
            drawn,
            facts=wanted,
            share=_SHARE if share is None else share,
            known=known or 0.0,
            generate=tokens or 0,
        )
    numbers = [] if seeds is None else [int(one) for one in numbers_of("--seeds", seeds, whole=True)]
    with open_existing(db) as database, computing(work.own_threads):
        if plot is not None:
            database.plots.check(plot)
        if compared:
            trial = _compare(database, model, compared, drawn, counts, numbers, refinement, work)
        else:
            with progress_bar("Benching", "edits") as tick:
                answers = choose(database, refinement, None, model, relations=relation or [])
                trial = database.trials.bench(
                    model, chosen, drawn, counts=counts, refinement=answers, engine=work, progress=tick
                ).id
        print_trial(database, trial, plot, figure, output)


def _compare(
    database: Database,
    model: str,
    methods: Sequence[BenchMethod],
    drawn: TrialSettings,
    sizes: Sequence[int],
    seeds: Sequence[int],
    refinement: int | None,
    work: WorkEngine,
) -> int:
    answers: RefinementChoice = refinement
    if any(needs_neurons(method, by_depth=True) for method in methods):
        answers = choose(database, refinement, None, model, relations=list(drawn.relations))
    elif refinement is not None and not any(map(needs_neurons, methods)):
        raise UsageError("--refinement is for methods that change knowledge neurons, and none of these does")
    with progress_bar("Comparing", "cells") as tick:
        trial = database.trials.compare(
            model, methods, drawn, sizes=sizes, seeds=seeds, refinement=answers, engine=work, progress=tick
        )
    return trial.id


def _refuse_options_of_one(
    rule: str,
    lambda_old: float | None,
    lambda_new: str | None,
    keep: float,
    steps: int,
    max_share: float | None,
    neurons: int | None,
) -> None:
    """Refuses the options of a bench of one method, update or optimize, where methods are compared.

    Raises:
        UsageError: for the first one that was given.
    """
    given = {
        "--rule": rule != "gradient",
        "--lambda-old": lambda_old is not None,
        "--lambda-new": lambda_new is not None,
        "--keep": keep != OptimizeSettings.keep,
        "--steps": steps != OptimizeSettings.steps,
        "--max-share": max_share is not None,
        "--neurons": neurons is not None,
    }
    for name, flag in given.items():
        if flag:
            setting = name.removeprefix("--").replace("-", "_")
            raise UsageError(
                f"{name} is of a bench of update or optimize alone; of compared methods, write --set "
                f"update.{setting}=… or --set optimize.{setting}=…"
            )
