"""`kndb edit optimize`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kndb.records.edit_settings import Neighbours, OptimizeSettings
from kndb.records.recipes import OptimizeRecipe, Recipe

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
from .planning import (
    FactOption,
    FlipsOption,
    NeuronsOption,
    PreviewOption,
    PreviewPartOption,
    SkipOption,
    TargetsOption,
    ToOption,
    check_preview,
    finish_plan,
    plan_file,
    require_one_way,
)

if TYPE_CHECKING:
    from kndb.database.edits.draft import Draft
    from kndb.database.models import ModelVersion


def optimize(
    model: ModelOption,
    fact: FactOption = None,
    to: ToOption = None,
    facts: TargetsOption = None,
    skip_unusable: SkipOption = False,
    steps: Annotated[int, typer.Option("--steps", help="Gradient steps at most.")] = 60,
    learning_rate: Annotated[
        float,
        typer.Option("--learning-rate", help="How far a slot moves in the first step, in slot lengths."),
    ] = 0.4,
    keep: Annotated[float, typer.Option("--keep", help="Weight of the answers that are to stay.")] = 16.0,
    bound: Annotated[float, typer.Option("--bound", help="Largest change of a slot, in lengths of it.")] = 20.0,
    target: Annotated[float, typer.Option("--target", help="Stop at this probability of the new answer,")] = 0.5,
    drift: Annotated[
        float, typer.Option("--drift", help="and with other answers within this mean divergence, in nats.")
    ] = 0.02,
    neighbours: Annotated[
        int, typer.Option("--neighbours", help="Other facts of the relation whose answers are to stay.")
    ] = 40,
    others: Annotated[int, typer.Option("--others", help="Facts of other relations whose answers are to stay.")] = 240,
    prompts: Annotated[int, typer.Option("--prompts", help="Prompts of each of these facts that count.")] = 1,
    at_once: Annotated[int, typer.Option("--at-once", help="How many of these prompts count in one step.")] = 16,
    max_share: Annotated[
        float, typer.Option("--max-share", help="Leave out neurons that more of the relation's facts hold.")
    ] = 1.0,
    neurons: NeuronsOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the draw of these facts, and the order they come in.")] = 0,
    refinement: RefinementOption = None,
    method: RefinementMethodOption = None,
    threads: ThreadsOption = None,
    preview: PreviewOption = False,
    part: PreviewPartOption = None,
    list_flips: FlipsOption = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Plan, by gradient steps on a fact's value slots, that the model gives a new answer; nothing is applied.

    With --facts, for each fact in a file.

    Example: kndb edit optimize --model lab-bert --fact 588 --to Toyota
    """
    one = require_one_way(fact, to, facts, skip_unusable, part)
    check_preview(preview, part, output, parts=facts is None, list_flips=list_flips)
    settings = OptimizeSettings(
        steps=steps,
        learning_rate=learning_rate,
        keep=keep,
        bound=bound,
        target=target,
        drift=drift,
        at_once=at_once,
        seed=seed,
        neighbours=Neighbours(neighbours, others, prompts),
        max_share=max_share,
        neurons=neurons,
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

        if isinstance(one, Path):
            plan_file(database, model, one, plan, skip_unusable=skip_unusable, preview=preview, output=output, db=db)
            return
        with progress_bar("Optimising", "steps") as tick:
            draft = plan(*one, progress=tick)
        _note_outcome(draft.content.recipe)
        finish_plan(database, draft, preview, part, output, db, list_flips=list_flips)


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
