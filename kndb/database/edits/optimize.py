"""Optimised edits: gradient steps on a fact's value slots, on its prompts and on those of facts whose answers stay."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ...editing.objects.diff_file import EditObject
from ...editing.planning.optimize import plan_optimized
from ...records.attribution import RefinementChoice
from ...records.edit_settings import OptimizeSettings
from ...records.edits import Edit
from ...records.facts import Prompt
from ...records.models import Neuron
from ...records.progress import Progress
from ...records.recipes import OptimizeRecipe
from ...store.engine import Store
from ..models import ModelCommands, ModelVersion
from .aim import aim_at
from .draft import Draft
from .kept_prompts import encode_open, kept_of, kept_prompts, own_prompts

_FAR_BELOW = 6
"""Layers between a neuron that is left out and those above it."""


def draft_optimize(
    store: Store,
    models: ModelCommands,
    model: str,
    fact: int,
    to: str,
    settings: OptimizeSettings,
    *,
    refinement: RefinementChoice,
    progress: Progress | None,
    on: ModelVersion | None,
    report: bool,
    within: Collection[int] | None = None,
) -> Draft:
    """Changes a fact's value slots by gradient steps, so that `to` wins; see `EditDrafts.optimize`."""
    aim = aim_at(store, models, model, fact, to, settings, refinement, on)
    with store.reading() as connection:
        drawn, others = kept_prompts(connection, aim.fact, settings.neighbours, settings.seed, within)
    chosen = without_far_below(aim.chosen.neurons)
    recipe = OptimizeRecipe(
        **{**aim.told, "neurons": tuple(chosen)},
        neurons_far_below=tuple(neuron for neuron in aim.chosen.neurons if neuron not in chosen),
        neighbours=settings.neighbours.relation,
        others=settings.neighbours.elsewhere,
        prompts_each=settings.neighbours.prompts,
        kept_facts=tuple(drawn),
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        keep=settings.keep,
        bound=settings.bound,
        target=settings.target,
        drift=settings.drift,
        at_once=settings.at_once,
        seed=settings.seed,
    )
    content = plan_optimized(
        aim.version.network,
        recipe,
        aim.prompts,
        encode_open(aim.version, others),
        fingerprint=aim.version.record.fingerprint,
        progress=progress,
    )
    return aim.draft(store, content, report=report)


def without_far_below(neurons: Sequence[Neuron]) -> list[Neuron]:
    """The neurons without those that lie far below all others: six layers or more, a quarter of them at most.

    Each layer above the lowest changed slot is run in every gradient step. In deep models many facts have a neuron or
    two in the lowest layers and all others in the upper ones: these would cost most of the time, and change what every
    layer above reads.
    """
    ordered = sorted(neurons)
    cuts = (
        count
        for count in range(1, len(ordered) // 4 + 1)
        if ordered[count].layer - ordered[count - 1].layer >= _FAR_BELOW
    )
    return ordered[max(cuts, default=0) :]


def optimized_anew(edit: Edit, recipe: OptimizeRecipe, version: ModelVersion, prompts: Sequence[Prompt]) -> EditObject:
    """An edit's optimisation once more, of other neurons or on other weights.

    Args:
        edit: the optimised edit.
        recipe: of the result: the edit's own, with other neurons or another note of where it is from.
        version: the model version, with the weights to start from.
        prompts: those of `prompts_in_recipe` for the edit.

    Raises:
        EditError: if there is no prompt of the edit's fact, or no slot would change.
    """
    return plan_optimized(
        version.network,
        recipe,
        encode_open(version, own_prompts(edit, prompts)),
        encode_open(version, kept_of(edit, prompts)),
        fingerprint=version.record.fingerprint,
    )
