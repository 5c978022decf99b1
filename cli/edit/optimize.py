"""`kndb edit optimize`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kndb.errors import UsageError
from kndb.records.edit_settings import Neighbours, OptimizeSettings
from kndb.records.recipes import OptimizeRecipe, Recipe
from kndb.records.together import KeptFacts, fitted_in_words

from ..answering import warn
from ..options import (
    DatabaseOption,
    FormatOption,
    ModelOption,
    RefinementMethodOption,
    RefinementOption,
    ThreadsOption,
    computing,
    open_existing,
)
from ..output import OutputFormat, Tick, note, progress_bar
from .conditions import NOTHING, Required, takes_conditions
from .fact_list import NO_LIST, FactList, takes_fact_list
from .planning import (
    FactOption,
    FlipsOption,
    NeuronsOption,
    PreviewOption,
    PreviewPartOption,
    ToOption,
    check_preview,
    finish_plan,
    plan_file,
    require_one_way,
)
from .together import (
    AT_ONCE_IN_WORDS,
    STEPS_IN_WORDS,
    BatchSizeOption,
    CheckOption,
    DecayOption,
    FirstStepOption,
    JointPlan,
    KeepLastOption,
    LayersOption,
    PatienceOption,
    RidgeOption,
    ScopeOption,
    StepsFileOption,
    SuccessOption,
    ValidationOption,
    given,
    parse_layers,
    plan_together,
    refuse,
    together_settings,
)

if TYPE_CHECKING:
    from kndb.database.edits.draft import Draft
    from kndb.database.models import ModelVersion


@takes_fact_list
@takes_conditions
def optimize(
    model: ModelOption,
    fact: FactOption = None,
    to: ToOption = None,
    listed: FactList = NO_LIST,
    together: Annotated[
        bool,
        typer.Option(
            "--together", help="With --facts, plan one edit for all facts together. New answers may be several tokens."
        ),
    ] = False,
    scope: ScopeOption = None,
    layers: LayersOption = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            help=f"Take at most so many gradient steps. Default: 60; with --together, {STEPS_IN_WORDS}.",
            show_default=False,
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            help="Move a slot about so far in the first step, in lengths of a mean slot. Default: 0.4; with "
            "--together, fitted to the model by --first-step.",
            show_default=False,
        ),
    ] = None,
    first_step: FirstStepOption = None,
    patience: PatienceOption = None,
    keep: Annotated[
        float | None,
        typer.Option(
            "--keep",
            help="Penalty for changing other facts' answers (β in the docs). Default: 16; with --together "
            f"{fitted_in_words('keep')}.",
            show_default=False,
        ),
    ] = None,
    keep_last: KeepLastOption = None,
    decay: DecayOption = None,
    ridge: RidgeOption = None,
    bound: Annotated[
        float, typer.Option("--bound", help="Change a slot by at most this, in lengths of that slot.")
    ] = 20.0,
    target: Annotated[
        float | None,
        typer.Option(
            "--target",
            help="A new answer has won once it has at least this probability (0 to 1). The steps stop once all have "
            "and --drift is reached. Default: 0.5.",
            show_default=False,
        ),
    ] = None,
    success: SuccessOption = None,
    drift: Annotated[
        float | None,
        typer.Option(
            "--drift",
            help="Stop once other answers diverge by at most this on average, in nats, and the new answers have won. "
            "Default: 0.02; 0.01 with --together.",
            show_default=False,
        ),
    ] = None,
    neighbours: Annotated[
        int | None,
        typer.Option(
            "--neighbours",
            help="Keep the answers of so many other facts of the relation, or relations, drawn at random. Default: "
            "40; 1000 with --together.",
            show_default=False,
        ),
    ] = None,
    others: Annotated[
        int | None,
        typer.Option(
            "--others",
            help="Keep the answers of so many facts of other relations, drawn at random. Default: 240; 500 with "
            "--together.",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        int | None,
        typer.Option(
            "--prompts",
            help="Use so many prompts of each of these facts. Default: 1; 4 with --together.",
            show_default=False,
        ),
    ] = None,
    at_once: Annotated[
        int | None,
        typer.Option(
            "--at-once",
            help="Use so many of these prompts in each step; with --together, and as many of the edited facts. "
            f"Default: 16; with --together, of edited and of kept facts {AT_ONCE_IN_WORDS}.",
            show_default=False,
        ),
    ] = None,
    validation: ValidationOption = None,
    check: CheckOption = None,
    steps_file: StepsFileOption = None,
    batch_size: BatchSizeOption = None,
    max_share: Annotated[
        float | None,
        typer.Option(
            "--max-share",
            help="Leave out neurons that more than this share (0 to 1) of the relation's facts hold. Default: 1; not "
            "with --together.",
            show_default=False,
        ),
    ] = None,
    neurons: NeuronsOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Random seed.")] = 0,
    refinement: RefinementOption = None,
    method: RefinementMethodOption = None,
    threads: ThreadsOption = None,
    preview: PreviewOption = False,
    part: PreviewPartOption = None,
    list_flips: FlipsOption = False,
    required: Required = NOTHING,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Plan an edit that gives a fact a new answer, by gradient steps on its value slots; nothing is applied.

    With --facts, for each fact in a file; with --together, one edit for all of them.

    Example: kndb edit optimize --model lab-bert --fact 588 --to Toyota
    """
    one = require_one_way(fact, to, listed, part)
    check_preview(preview, part, output, parts=one is not None, list_flips=list_flips)
    own = {"max_share": max_share, "neurons": neurons}
    of_together = {
        "scope": scope,
        "decay": decay,
        "ridge": ridge,
        "first_step": first_step,
        "patience": patience,
        "keep_last": keep_last,
        "success": success,
        "validation": validation,
        "check": check,
    }
    shared = {
        "steps": steps,
        "learning_rate": learning_rate,
        "keep": keep,
        "bound": bound,
        "target": target,
        "drift": drift,
        "seed": seed,
    }
    kept = {"neighbours": neighbours, "others": others, "prompts": prompts}
    if together:
        if one is not None:
            raise UsageError("--together needs --facts: it plans one edit for all facts of a file")
        refuse(own, "--{} is for edits of one fact; leave it out, or leave out --together")
        if list_flips:
            raise UsageError("--list-flips is for edits of one fact; use: kndb edit eval --list-flips")
        plan_together(
            JointPlan(
                model,
                listed,
                together_settings({**shared, **of_together}, at_once),
                KeptFacts(**given(kept)),
                parse_layers(layers),
                steps_file=steps_file,
                batch_size=batch_size,
            ),
            refinement,
            method,
            threads,
            preview=preview,
            db=db,
            output=output,
            required=required,
        )
        return
    refuse(
        {**of_together, "layers": layers, "steps_file": steps_file, "batch_size": batch_size},
        "--{} needs --together, with --facts",
    )
    usual = Neighbours()
    settings = OptimizeSettings(
        **given({**shared, **own, "at_once": at_once}),
        neighbours=Neighbours(
            usual.relation if neighbours is None else neighbours,
            usual.elsewhere if others is None else others,
            1 if prompts is None else prompts,
        ),
    )
    said: set[str] = set()
    with open_existing(db) as database, computing(threads):

        def plan(number: int, answer: str, on: ModelVersion | None = None, progress: Tick | None = None) -> Draft:
            return database.edits.drafts.optimize(
                model,
                number,
                answer,
                settings,
                refinement=warn(database, refinement, method, model, facts=[number], said=said),
                progress=progress,
                on=on,
            )

        if one is None:
            plan_file(database, model, listed, plan, preview=preview, output=output, db=db, required=required)
            return
        with progress_bar("Optimising", "steps") as tick:
            draft = plan(*one, progress=tick)
        _note_outcome(draft.content.recipe)
        finish_plan(database, draft, preview, part, output, db, list_flips=list_flips, required=required)


def _note_outcome(recipe: Recipe) -> None:
    """Says how the steps went."""
    if not isinstance(recipe, OptimizeRecipe) or recipe.outcome is None:
        return
    outcome = recipe.outcome
    reached = "target reached" if outcome.reached else "stopped before target and drift were both reached"
    note(
        f"{outcome.steps} steps, {reached}: probability of the new answer at least {outcome.least_probability:.3f}, "
        f"divergence of other answers {outcome.divergence:.4f} nats."
    )
    if recipe.neurons_far_below:
        note(f"Left out, as they lie far below all others: {', '.join(map(str, recipe.neurons_far_below))}.")
