"""Knowledge tests from the edits of a version: their new answers, and what neighbours answer beside them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import UsageError
from ...records.display import many
from ...records.edits import Edit
from ...records.facts import Fact, Prompt, by_fact
from ...records.knowledge_tests import PASSED, KnowledgeTest, WrittenTests
from ...records.progress import Progress
from ...records.recipes import new_answers
from ...store import facts as store_facts
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ...store.engine import Store
from ..edits.edited_sentences import sentences_of_facts
from ..models import ModelCommands
from .versions import TestedModel

_CANDIDATES = 5
"""Neighbours that are asked for each one that is wanted: some are not known to the model."""
_NAME = 200
"""Characters of a subject or a relation in a name."""


@dataclass(frozen=True)
class _NewAnswer:
    """A fact's new answer, and the edit that gives it: the last one, if several do."""

    fact: Fact
    to: str
    edit: int


def tests_of_edits(
    store: Store,
    models: ModelCommands,
    model: str,
    version: str,
    neighbours: int,
    seed: int,
    device: str,
    progress: Progress | None,
) -> WrittenTests:
    """Makes tests from a version's edits; see `KnowledgeTestCommands.of_edits`."""
    if neighbours < 0:
        raise UsageError(f"neighbours must be at least 0 (got {neighbours})")
    record = models.get(model)
    resolved = models.resolve_version(model, version)
    with store.reading() as connection:
        numbers = store_versions.version_edits(connection, record.id, resolved)
        edits = [store_edits.edit(connection, number) for number in numbers]
        answers, left_out = _new_answers(connection, edits)
        own = _own_tests(connection, answers)
        others = _neighbours(connection, answers, neighbours * len(answers) * _CANDIDATES, seed)
    if not edits:
        raise UsageError(f"version {version} of {model} has no edit, so there is nothing to make tests from")
    asked = [*own, *others]
    passed: set[str] = set()
    if asked:
        tested = TestedModel(store, models, model, resolved, device)
        run = tested.run(tested.asked(asked), version, progress)
        passed = {one.name for one in run.outcomes if one.status == PASSED}
    kept = [test for test in own if test.name in passed]
    beside = [test for test in others if test.name in passed][: neighbours * len(answers)]
    if len(kept) < len(own):
        left_out.append(
            f"{len(own) - len(kept)} of {many(len(own), 'prompt')} of edited facts: the model does not give the new "
            "answer to them at this version, or can't be asked them"
        )
    return WrittenTests((*kept, *beside), len(kept), len(beside), tuple(left_out))


def _new_answers(connection: Any, edits: Iterable[Edit]) -> tuple[list[_NewAnswer], list[str]]:
    """The new answers that hold after all edits, and which edits give none that can be asked."""
    found: dict[int, _NewAnswer] = {}
    left_out: list[str] = []
    for edit in edits:
        given = new_answers(edit.recipe)
        if not given:
            left_out.append(f"edit {edit.id}, of kind {edit.kind}: it gives no fact a new answer")
        unknown = 0
        for named, to in given:
            number = named.id if edit.fact_numbers is None else edit.fact_numbers.get(str(named.id))
            if number is None:
                unknown += 1
                continue
            found.pop(number, None)
            found[number] = _NewAnswer(store_facts.fact(connection, number), to, edit.id)
        if unknown:
            left_out.append(f"{many(unknown, 'fact')} of edit {edit.id}, which came from a file: not in this store")
    return list(found.values()), left_out


def _own_tests(connection: Any, answers: Sequence[_NewAnswer]) -> list[KnowledgeTest]:
    prompts = _prompts_of(connection, [one.fact.id for one in answers])
    return [
        KnowledgeTest(f"edit {one.edit}, fact {_named(one.fact)}, prompt {number}", prompt.text, answers=(one.to,))
        for one in answers
        for number, prompt in enumerate(prompts.get(one.fact.id, ()), 1)
    ]


def _neighbours(connection: Any, answers: Sequence[_NewAnswer], count: int, seed: int) -> list[KnowledgeTest]:
    """Tests of other facts of the edited relations, drawn at random: the first prompt of each, and its object."""
    if not answers or not count:
        return []
    edited = sentences_of_facts(connection, [one.fact.id for one in answers])
    relations = list(dict.fromkeys(one.fact.relation for one in answers))
    facts = {fact.id: fact for fact in store_facts.find_facts(connection, relations)}
    candidates = sorted({prompt.fact_id for prompt in edited.others(_all_prompts(connection, list(facts)))})
    drawn = random.Random(seed).sample(candidates, min(count, len(candidates)))  # noqa: S311
    first = {number: prompts[0] for number, prompts in _prompts_of(connection, drawn).items()}
    objects = Counter((fact.relation, fact.subject) for fact in facts.values())
    return [
        KnowledgeTest(f"neighbour, fact {_named(facts[one])}", first[one].text, answers=(facts[one].object,))
        for one in drawn
        # Of a subject with several objects, any of them may be the answer.
        if one in first and objects[facts[one].relation, facts[one].subject] == 1
    ]


def _prompts_of(connection: Any, facts: Sequence[int]) -> dict[int, list[Prompt]]:
    return by_fact(_all_prompts(connection, facts))


def _all_prompts(connection: Any, facts: Sequence[int]) -> list[Prompt]:
    return store_facts.prompts(connection, facts)


def _named(fact: Fact) -> str:
    """A fact for a name: its number, subject and relation, as far as they can be printed."""
    text = f"{(fact.subject or '(not named)')[:_NAME]} · {fact.relation[:_NAME]}"
    return f"{fact.id}: " + "".join(one if one.isprintable() else "?" for one in text)[:_NAME]
