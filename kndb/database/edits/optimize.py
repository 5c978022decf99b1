"""Edits computed on prompts: the facts whose answers are to stay, and the same optimisation of other neurons."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...editing.objects.diff_file import EditObject
from ...editing.planning import optimize
from ...editing.planning.replay import recipe_settings
from ...errors import EditError, UsageError
from ...models.network import Network
from ...models.prompting import EncodedPrompt
from ...records.edits import Edit
from ...records.facts import Fact, Prompt
from ...records.models import Neuron
from ...records.progress import Progress
from ...store import facts as store_facts
from ..models import ModelVersion
from .edited_sentences import edited_sentences, sentences_of_facts

OptimizeSettings = optimize.OptimizeSettings
_FAR_BELOW = 6
"""Layers between a neuron that is left out and those above it."""


@dataclass(frozen=True)
class Neighbours:
    """How many facts an optimisation keeps as they are; all that there are, if there are fewer.

    Attributes:
        relation: other facts of the relation, at least 0.
        elsewhere: facts of other relations, at least 0.
        prompts: how many prompts of each of them count, other ones for other facts, at least 1; None takes all.
    """

    relation: int = 40
    elsewhere: int = 240
    prompts: int | None = 1

    def __post_init__(self) -> None:
        """Refuses negative numbers.

        Raises:
            UsageError: for one.
        """
        for name, number in (("neighbours", self.relation), ("others", self.elsewhere)):
            if number < 0:
                raise UsageError(f"found {name} {number}; expected at least 0")
        if self.prompts is not None and self.prompts < 1:
            raise UsageError(f"found prompts {self.prompts}; expected at least 1")


def draw_neighbours(facts: Iterable[Fact], fact: Fact, counts: Neighbours, seed: int) -> list[int]:
    """The numbers of the facts whose answers are to stay, drawn at random, rising.

    Args:
        facts: all facts of the store.
        fact: the one to be edited; neither it nor another fact of its relation and subject is drawn.
        counts: how many.
        seed: of the draw.
    """
    every = list(facts)
    edited = edited_sentences(every, (), (fact.id,)).facts
    inside = [other.id for other in every if other.relation == fact.relation and other.id not in edited]
    outside = [other.id for other in every if other.relation != fact.relation]
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    drawn = chance.sample(sorted(inside), min(counts.relation, len(inside)))
    return sorted(drawn + chance.sample(sorted(outside), min(counts.elsewhere, len(outside))))


def kept_prompts(connection: Any, fact: Fact, counts: Neighbours, seed: int) -> tuple[list[int], list[Prompt]]:
    """The facts whose answers are to stay, and their prompts; held-out ones, and those that ask for the fact, left out.

    Args:
        connection: an open transaction.
        fact: the one to be edited.
        counts: how many facts.
        seed: of the draw.
    """
    drawn = draw_neighbours(store_facts.find_facts(connection), fact, counts, seed)
    return drawn, _others(connection, fact.id, drawn, counts.prompts)


def _others(connection: Any, own: int, kept: Sequence[int], each: int | None) -> list[Prompt]:
    """The prompts of facts whose answers are to stay, so many of each; none that asks for the edited fact."""
    every = sentences_of_facts(connection, (own,)).others(
        store_facts.prompts(connection, fact_ids=kept, held_out=False)
    )
    of_fact: dict[int, list[Prompt]] = {}
    for prompt in every:
        of_fact.setdefault(prompt.fact_id, []).append(prompt)
    found: list[Prompt] = []
    for place, prompts in enumerate(of_fact.values()):
        count = len(prompts) if each is None else min(each, len(prompts))
        # The next ones for the next fact: so all templates of a relation take their turns.
        found += [prompts[(place * count + number) % len(prompts)] for number in range(count)]
    return found


def prompts_in_recipe(connection: Any, edit: Edit) -> list[Prompt]:
    """The prompts on which an edit was computed: its fact's own, then those whose answers were to stay.

    See `facts_in_recipe`.

    Args:
        connection: an open transaction.
        edit: the edit.

    Raises:
        EditError: if the recipe names no facts, or one is not in this store.
    """
    facts = facts_in_recipe(edit)
    if not facts:
        return []
    own, *kept = facts
    each = edit.recipe.get("prompts_each")
    others = _others(connection, own, kept, each if isinstance(each, int) else None)
    return [*store_facts.prompts(connection, fact_ids=[own], held_out=False), *others]


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


def encode_open(version: ModelVersion, prompts: Iterable[Prompt]) -> list[EncodedPrompt]:
    """Prompts as the model sees them, their answers left open; those that it can't be asked are left out."""
    encoded = (version.encoder.encode(prompt.id, prompt.text, None) for prompt in prompts)
    return [prompt for prompt in encoded if isinstance(prompt, EncodedPrompt)]


def optimized_edit(
    version: ModelVersion,
    network: Network,
    neurons: Sequence[Neuron],
    prompts: Sequence[EncodedPrompt],
    others: Sequence[EncodedPrompt],
    settings: optimize.OptimizeSettings,
    *,
    recipe: Mapping[str, object],
    kind: str = "optimize",
    progress: Progress | None = None,
) -> EditObject:
    """An optimised edit of a model version towards the recipe's `new_token`.

    Args:
        version: the model version.
        network: the same model, in its own dtype.
        neurons: whose value slots change.
        prompts: the fact's prompts.
        others: those whose answers are to stay.
        settings: of the steps.
        recipe: what the edit is for.
        kind: name of the recipe.
        progress: told the steps taken.

    Raises:
        EditError: if there is no prompt, or no slot would change.
    """
    return optimize.plan_optimized(
        network,
        neurons,
        prompts,
        int(str(recipe["new_token"])),
        others,
        settings,
        fingerprint=version.record.fingerprint,
        kind=kind,
        recipe=recipe,
        progress=progress,
    )


def facts_in_recipe(edit: Edit) -> list[int]:
    """The facts on whose prompts an edit was computed: its own, and those whose answers were to stay.

    An update by rule `output` has its own, for the signs of its neurons; erases and the published rule have none.

    Raises:
        EditError: if the recipe names none.
    """
    signed = edit.kind == "update" and edit.recipe.get("rule") == "output"
    if not signed and not needs_prompts(edit):
        return []
    fact, kept = edit.recipe.get("fact"), [] if signed else edit.recipe.get("kept_facts")
    if not isinstance(fact, Mapping) or not isinstance(kept, list):
        raise EditError(f"the recipe of edit {edit.id} does not say on which facts it was computed")
    return [local_fact(edit, number) for number in (fact["id"], *kept)]


def needs_prompts(edit: Edit) -> bool:
    """Whether an edit can be computed anew only on prompts: an optimised one, or an update along a gradient."""
    return edit.kind == "optimize" or (edit.kind == "update" and edit.recipe.get("rule") == "gradient")


def own_prompts(edit: Edit, prompts: Iterable[Prompt]) -> list[Prompt]:
    """Of the prompts of `prompts_in_recipe`, those of the edit's fact; none of an edit that has none."""
    own = facts_in_recipe(edit)[:1]
    return [prompt for prompt in prompts if prompt.fact_id in own]


def kept_of(edit: Edit, prompts: Iterable[Prompt]) -> list[Prompt]:
    """Of the prompts of `prompts_in_recipe`, those whose answers are to stay."""
    own = facts_in_recipe(edit)[:1]
    return [prompt for prompt in prompts if prompt.fact_id not in own]


def local_fact(edit: Edit, number: object) -> int:
    """The number in this store of a fact that an edit's recipe names.

    Raises:
        EditError: if the edit is from another store, and the fact is not in this one.
    """
    if edit.fact_numbers is None:
        return int(str(number))
    found = edit.fact_numbers.get(str(number))
    if found is None:
        raise EditError(
            f"edit {edit.id} came from another store, and fact {number} of its recipe was not in this one. Ingest the "
            "facts that it was planned with (kndb ingest), then pull its file again"
        )
    return found


def optimized_anew(
    edit: Edit,
    version: ModelVersion,
    network: Network,
    neurons: Sequence[Neuron],
    prompts: Sequence[Prompt],
    *,
    recipe: Mapping[str, object],
    kind: str,
) -> EditObject:
    """The edit's own optimisation, with the settings of its recipe: of other neurons, or on other weights.

    Args:
        edit: an optimised edit.
        version: the model version.
        network: the same model, with the weights to start from.
        neurons: whose value slots to change.
        prompts: those of `prompts_in_recipe`.
        recipe: of the result.
        kind: of the result.

    Raises:
        EditError: if there is no prompt of the edit's fact, or no slot would change.
    """
    return optimized_edit(
        version,
        network,
        neurons,
        encode_open(version, own_prompts(edit, prompts)),
        encode_open(version, kept_of(edit, prompts)),
        recipe_settings(edit.recipe),
        recipe=recipe,
        kind=kind,
    )
