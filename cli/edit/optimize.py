"""`kndb edit optimize`."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from kndb.database.edits.draft import Draft
    from kndb.database.models import ModelVersion


@takes_fact_list
def optimize(
    model: ModelOption,
    fact: FactOption = None,
    to: ToOption = None,
    listed: FactList = NO_LIST,
    steps: Annotated[int, typer.Option("--steps", help="Take at most so many gradient steps.")] = 60,
    learning_rate: Annotated[
        float,
        typer.Option("--learning-rate", help="Move a slot about so far in the first step, in lengths of a mean slot."),
    ] = 0.4,
    keep: Annotated[
        float, typer.Option("--keep", help="Penalty for changing other facts' answers (β in the docs).")
    ] = 16.0,
    bound: Annotated[
        float, typer.Option("--bound", help="Change a slot by at most this, in lengths of that slot.")
    ] = 20.0,
    target: Annotated[
        float,
        typer.Option(
            "--target", help="Stop once the new answer has at least this probability (0 to 1) and --drift is reached."
        ),
    ] = 0.5,
    drift: Annotated[
        float,
        typer.Option(
            "--drift",
            help="Stop once other answers diverge by at most this on average, in nats, and --target is reached.",
        ),
    ] = 0.02,
    neighbours: Annotated[
        int,
        typer.Option("--neighbours", help="Keep the answers of so many other facts of the relation, drawn at random."),
    ] = 40,
    others: Annotated[
        int, typer.Option("--others", help="Keep the answers of so many facts of other relations, drawn at random.")
    ] = 240,
    prompts: Annotated[int, typer.Option("--prompts", help="Use so many prompts of each of these facts.")] = 1,
    at_once: Annotated[int, typer.Option("--at-once", help="Use so many of these prompts in each step.")] = 16,
    max_share: Annotated[
        float,
        typer.Option(
            "--max-share", help="Leave out neurons that more than this share (0 to 1) of the relation's facts hold."
        ),
    ] = 1.0,
    neurons: NeuronsOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Random seed.")] = 0,
    refinement: RefinementOption = None,
    method: RefinementMethodOption = None,
    threads: ThreadsOption = None,
    preview: PreviewOption = False,
    part: PreviewPartOption = None,
    list_flips: FlipsOption = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Plan an edit that gives a fact a new answer, by gradient steps on its value slots; nothing is applied.

    With --facts, for each fact in a file.

    Example: kndb edit optimize --model lab-bert --fact 588 --to Toyota
    """
    one = require_one_way(fact, to, listed, part)
    check_preview(preview, part, output, parts=one is not None, list_flips=list_flips)
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

        if one is None:
            plan_file(database, model, listed, plan, preview=preview, output=output, db=db)
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
