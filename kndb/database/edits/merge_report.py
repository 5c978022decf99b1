"""What becomes of each fact of edits that are merged: with its own edit alone, and with the merge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...analysis.evaluation_prompts import entries_of, read_answer
from ...analysis.readings import Question, as_they_are, read_states
from ...editing.objects.diff_file import EditObject
from ...editing.objects.slots import edited
from ...models.prompting import EncodedPrompt
from ...records.facts import Prompt
from ...records.merges import MergedFact
from ...store import facts as store_facts
from ...store.engine import Store
from ..models import ModelVersion
from .merge_base import SteppedModel
from .merge_facts import ChosenFacts, SourceFact


def report_merge(
    store: Store,
    stepped: SteppedModel,
    base: Sequence[int],
    content: EditObject,
    chosen: ChosenFacts,
    built: Mapping[int, Sequence[int]],
) -> list[MergedFact]:
    """Asks each fact for its new answer on all its prompts, held-out ones included.

    Args:
        store: the store.
        stepped: the model, at the version that the merge is planned on; it is there again when this returns.
        base: the edits that build that version.
        content: the merge.
        chosen: the facts.
        built: for each merged edit, the edits that build the version on which it was planned.
    """
    numbers = sorted({one.fact.id for one in chosen.every})
    with store.reading() as connection:
        prompts = store_facts.prompts(connection, fact_ids=numbers)
    of_fact: dict[int, list[Prompt]] = {number: [] for number in numbers}
    for prompt in prompts:
        of_fact[prompt.fact_id].append(prompt)
    version = stepped.version
    planned = {fact.id for fact in getattr(content.recipe, "facts", ())}
    standing = [place for place, number in enumerate(chosen.stands) if number is not None and number in planned]
    parameters = dict(version.model.named_parameters())
    with edited(parameters, content):
        merged = dict(
            zip(standing, _shares(version, [chosen.every[place] for place in standing], of_fact), strict=True)
        )
    alone: dict[int, tuple[int, float | None]] = {}
    try:
        for edit, edits in built.items():
            stepped.go_to([*edits, edit])
            places = [place for place, one in enumerate(chosen.every) if one.edit == edit]
            found = _shares(version, [chosen.every[place] for place in places], of_fact)
            alone |= dict(zip(places, found, strict=True))
    finally:
        stepped.go_to(base)
    return [
        MergedFact(
            edit=one.edit,
            fact=one.fact.id,
            relation=one.fact.relation,
            subject=one.fact.subject,
            object=one.fact.object,
            to=one.to,
            stands=chosen.stands[place] is not None,
            prompts=alone[place][0],
            alone=alone[place][1],
            merged=merged[place][1] if place in merged else None,
        )
        for place, one in enumerate(chosen.every)
    ]


def _shares(
    version: ModelVersion, facts: Sequence[SourceFact], prompts: Mapping[int, Sequence[Prompt]]
) -> list[tuple[int, float | None]]:
    """For each fact, how many prompts the model is asked, and the share of them on which the answer wins."""
    asked: list[list[EncodedPrompt]] = []
    for one in facts:
        encoded = (version.encoder.encode(prompt.id, prompt.text, one.to) for prompt in prompts[one.fact.id])
        asked.append([prompt for prompt in encoded if isinstance(prompt, EncodedPrompt)])
    questions = [Question(one, 0) for of_fact in asked for prompt in of_fact for one in prompt.questions]
    (reading,) = read_states(version.network, questions, [as_they_are])
    entries = entries_of(reading)
    found: list[tuple[int, float | None]] = []
    for of_fact in asked:
        wins = [read_answer(prompt, entries)[0] for prompt in of_fact]
        found.append((len(wins), sum(wins) / len(wins) if wins else None))
    return found
