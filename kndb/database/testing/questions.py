"""Which prompts a knowledge test asks a model, and with which answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...advice import call
from ...errors import NotFoundError, UsageError
from ...models.adapter import Blank
from ...models.prompting import EncodedPrompt, Encoder, Skipped
from ...records.facts import BLANK, Fact
from ...records.knowledge_tests import ALL, HELD_OUT, KnowledgeTest
from ...records.skip_reasons import SKIP_NOT_LAST, SKIP_REASONS
from ...store import facts as store_facts
from ..models import question_text


@dataclass(frozen=True)
class AskedPrompt:
    """A prompt of a test, as a model is asked it.

    Attributes:
        text: the prompt, with its blank as `[Y]`.
        answers: the acceptable answers of the test.
        open: the prompt with a blank of one token; None if it can't be asked at all.
        encoded: the prompt with each answer of the test that can be asked, by the answer's text.
        unable: why an answer can't be asked, by its text; why the prompt can't, under "".
    """

    text: str
    answers: tuple[str, ...]
    open: EncodedPrompt | None = None
    encoded: Mapping[str, EncodedPrompt] = field(default_factory=dict)
    unable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AskedTest:
    """A test, as a model is asked it.

    Attributes:
        test: the test.
        prompts: its prompts.
        problem: why there is none to ask; empty if there are some.
        left_out: prompts of its fact whose blank is not their end, of which a causal model has none.
    """

    test: KnowledgeTest
    prompts: tuple[AskedPrompt, ...] = ()
    problem: str = ""
    left_out: int = 0


def asked_tests(connection: Any, encoder: Encoder, tests: Sequence[KnowledgeTest]) -> list[AskedTest]:
    """Finds the prompts of tests, and encodes them. What can't be asked is said in place of being asked.

    Args:
        connection: an open transaction.
        encoder: of the model.
        tests: the tests.
    """
    facts = _Facts(connection) if any(test.of_fact for test in tests) else None
    return [
        _of_prompt(encoder, test) if facts is None or not test.of_fact else facts.asked(encoder, test) for test in tests
    ]


def _of_prompt(encoder: Encoder, test: KnowledgeTest) -> AskedTest:
    assert test.prompt is not None, "a test without a prompt is of a fact"
    example = call("models.ask", name="NAME", text=f"The capital of France is {BLANK}.")
    try:
        text = question_text(test.prompt, encoder.blank, example)
    except UsageError as error:
        return AskedTest(test, problem=str(error))
    return AskedTest(test, (_encoded(encoder, test, text, test.answers, None),))


class _Facts:
    """The store's facts, by number and by name."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._by_number: dict[int, Fact] = {}
        self._by_name: dict[tuple[str, str | None], list[Fact]] = {}
        for fact in store_facts.find_facts(connection):
            self._by_number[fact.id] = fact
            self._by_name.setdefault((fact.relation, fact.subject), []).append(fact)

    def asked(self, encoder: Encoder, test: KnowledgeTest) -> AskedTest:
        """A test of a fact's prompts."""
        try:
            facts = self._named(test)
        except NotFoundError as error:
            return AskedTest(test, problem=str(error))
        answers = test.answers or (() if test.refused else tuple(dict.fromkeys(fact.object for fact in facts)))
        held_out = None if test.prompts == ALL else test.prompts == HELD_OUT
        prompts = store_facts.prompts(self._connection, [fact.id for fact in facts], held_out=held_out)
        # A subject with several objects has the same sentences under each of them.
        distinct = list({prompt.text: prompt for prompt in prompts}.values())
        which = "" if test.prompts == ALL else f"{test.prompts} "
        if not distinct:
            return AskedTest(test, problem=f"{test.asks}: the store has no {which}prompt of it")
        asked = [_encoded(encoder, test, one.text, answers, one.subject_span) for one in distinct]
        usable = [one for one in asked if not _ends_elsewhere(encoder, one)]
        if not usable:
            return AskedTest(test, problem=f"{test.asks}: {SKIP_REASONS[SKIP_NOT_LAST]}", left_out=len(asked))
        return AskedTest(test, tuple(usable), left_out=len(asked) - len(usable))

    def _named(self, test: KnowledgeTest) -> list[Fact]:
        """The facts that a test may mean: all that it says of them holds."""
        if test.fact is None:
            found = self._by_name.get((str(test.relation), test.subject), [])
        else:
            fact = self._by_number.get(test.fact)
            fits = fact and test.relation in (None, fact.relation) and test.subject in (None, fact.subject)
            found = [fact] if fact is not None and fits else []
        if not found:
            named = " ".join(
                repr(part) if part is test.subject else str(part)
                for part in (f"fact {test.fact}" if test.fact else None, test.relation, test.subject)
                if part is not None
            )
            raise NotFoundError(f"the store has no {'such fact' if test.fact else 'fact'}: {named}")
        return found


def _ends_elsewhere(encoder: Encoder, prompt: AskedPrompt) -> bool:
    return encoder.blank is Blank.CUT and prompt.unable.get("") == SKIP_REASONS[SKIP_NOT_LAST]


def _encoded(
    encoder: Encoder, test: KnowledgeTest, text: str, answers: tuple[str, ...], subject: tuple[int, int] | None
) -> AskedPrompt:
    opened = encoder.encode(0, text, None, subject=subject)
    if isinstance(opened, Skipped):
        return AskedPrompt(text, answers, unable={"": SKIP_REASONS[opened.reason]})
    encoded: dict[str, EncodedPrompt] = {}
    unable: dict[str, str] = {}
    for answer in dict.fromkeys((*answers, *test.refused, *test.above)):
        found = encoder.encode(0, text, answer, subject=subject)
        if isinstance(found, Skipped):
            unable[answer] = SKIP_REASONS[found.reason]
        else:
            encoded[answer] = found
    return AskedPrompt(text, answers, opened, encoded, unable)


def questions_of(tests: Iterable[AskedTest]) -> list[AskedPrompt]:
    """The prompts of tests that can be asked, in their order."""
    return [prompt for test in tests for prompt in test.prompts if prompt.open is not None]
