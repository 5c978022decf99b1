"""The prompts on which an edit is computed: those of its fact, and those of other facts, whose answers should stay."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from ...advice import Placeholder, call
from ...errors import EditError
from ...models.prompting import EncodedPrompt, Skipped
from ...records.edit_settings import Neighbours
from ...records.edits import Edit
from ...records.facts import Fact, Prompt, by_fact
from ...records.group_recipes import GroupRecipe
from ...records.many_recipes import ManyRecipe
from ...records.recipes import OptimizeRecipe, Recipe, UpdateRecipe, facts_of
from ...store import facts as store_facts
from ..models import ModelVersion
from .edited_sentences import edited_sentences, sentences_of_facts


def draw_neighbours(
    facts: Iterable[Fact], fact: Fact, counts: Neighbours, seed: int, within: Collection[int] | None = None
) -> list[int]:
    """The numbers of the facts whose answers should stay the same, drawn at random, rising.

    Args:
        facts: all facts of the store.
        fact: the one to be edited; neither it nor another fact of its relation and subject is drawn.
        counts: how many.
        seed: of the draw.
        within: only these facts may be drawn; None for all.
    """
    every = list(facts)
    edited = edited_sentences(every, (), (fact.id,)).facts
    others = [other for other in every if other.id not in edited and (within is None or other.id in within)]
    inside = [other.id for other in others if other.relation == fact.relation]
    outside = [other.id for other in others if other.relation != fact.relation]
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    drawn = chance.sample(sorted(inside), min(counts.relation, len(inside)))
    return sorted(drawn + chance.sample(sorted(outside), min(counts.elsewhere, len(outside))))


def kept_prompts(
    connection: Any, fact: Fact, counts: Neighbours, seed: int, within: Collection[int] | None = None
) -> tuple[list[int], list[Prompt]]:
    """The facts whose answers should stay, and their prompts; held-out ones, and those that ask for the fact, left out.

    Args:
        connection: an open transaction.
        fact: the one to be edited.
        counts: how many facts.
        seed: of the draw.
        within: only these facts may be drawn; None for all.
    """
    drawn = draw_neighbours(store_facts.find_facts(connection), fact, counts, seed, within)
    return drawn, prompts_of_others(connection, [fact.id], drawn, counts.prompts)


def prompts_of_others(connection: Any, own: Sequence[int], kept: Sequence[int], each: int | None) -> list[Prompt]:
    """The prompts of facts whose answers should stay the same; held-out ones, and those that ask for edited facts, not.

    Args:
        connection: an open transaction.
        own: the edited facts.
        kept: the facts whose answers should stay.
        each: so many prompts of each; None takes all.
    """
    every = sentences_of_facts(connection, own).others(store_facts.prompts(connection, fact_ids=kept, held_out=False))
    found: list[Prompt] = []
    for place, prompts in enumerate(by_fact(every).values()):
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
    own, kept = facts_in_recipe(edit)
    if not own:
        return []
    each = getattr(edit.recipe, "prompts_each", None)
    others = prompts_of_others(connection, own, kept, each if isinstance(each, int) else None)
    return [*store_facts.prompts(connection, fact_ids=own, held_out=False), *others]


def encode_open(version: ModelVersion, prompts: Iterable[Prompt]) -> list[EncodedPrompt]:
    """Prompts as the model sees them, their answers left open; those that it can't be asked are left out."""
    encoded = (version.encoder.encode(prompt.id, prompt.text, None, subject=prompt.subject_span) for prompt in prompts)
    return [prompt for prompt in encoded if isinstance(prompt, EncodedPrompt)]


def encode_single(version: ModelVersion, prompt: Prompt, answer: str | None = None) -> EncodedPrompt | Skipped:
    """A prompt as the model sees it, asked for an answer of one token: the fact's own, or another."""
    asked, span = prompt.answer if answer is None else answer, prompt.subject_span
    return version.encoder.encode(prompt.id, prompt.text, asked, single_token=True, subject=span)


def facts_in_recipe(edit: Edit) -> tuple[list[int], list[int]]:
    """The facts on whose prompts an edit was computed, by their numbers here: its own, and those that were to stay.

    An update by rule `output` has its own, for the signs of its neurons; erases and the published rule have none.

    Raises:
        EditError: if the recipe names none, or one is not in this store.
    """
    recipe = edit.recipe
    signed = isinstance(recipe, UpdateRecipe) and recipe.rule == "output"
    if not signed and not needs_prompts(recipe):
        return [], []
    own = [fact.id for fact in facts_of(recipe)]
    kept = () if signed else getattr(recipe, "kept_facts", None)
    if isinstance(recipe, ManyRecipe):
        kept = recipe.kept_facts or ()
    if not own or kept is None:
        raise EditError(f"the recipe of edit {edit.id} does not say on which facts it was computed")
    return [local_fact(edit, number) for number in own], [local_fact(edit, number) for number in kept]


def needs_prompts(recipe: Recipe) -> bool:
    """Whether an edit can be recomputed only on prompts: one by gradient steps, or an update along a gradient."""
    if isinstance(recipe, UpdateRecipe):
        return recipe.rule == "gradient"
    return isinstance(recipe, OptimizeRecipe | GroupRecipe)


def own_prompts(edit: Edit, prompts: Iterable[Prompt]) -> list[Prompt]:
    """Of the prompts of `prompts_in_recipe`, those of the edit's facts; none of an edit that has none."""
    own, _ = facts_in_recipe(edit)
    return [prompt for prompt in prompts if prompt.fact_id in own]


def kept_of(edit: Edit, prompts: Iterable[Prompt]) -> list[Prompt]:
    """Of the prompts of `prompts_in_recipe`, those whose answers should stay the same."""
    own, _ = facts_in_recipe(edit)
    return [prompt for prompt in prompts if prompt.fact_id not in own]


def local_fact(edit: Edit, number: int) -> int:
    """The number in this store of a fact that an edit's recipe names.

    Raises:
        EditError: if the edit is from another store, and the fact is not in this one.
    """
    if edit.fact_numbers is None:
        return number
    found = edit.fact_numbers.get(str(number))
    if found is None:
        raise EditError(
            f"edit {edit.id} came from another store, and fact {number} of its recipe was not in this one; ingest the "
            f"facts that it was planned with ({call('facts.ingest', Placeholder('PATH'))}), then pull its file again"
        )
    return found
