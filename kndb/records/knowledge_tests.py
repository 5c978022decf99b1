"""Knowledge tests: what a model must answer, and what it did; which step of a history broke them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..advice import option
from ..errors import UsageError
from .display import Record, many, quoted
from .facts import BLANK
from .models import Answer
from .versions import HistoryEntry

TRAINING, HELD_OUT, ALL = PROMPT_CHOICES = ("training", "held-out", "all")
"""Which of a fact's prompts a test asks: those that are attributed, those of held-out templates, or both."""
PASSED, FAILED, ERROR = STATUSES = ("passed", "failed", "error")
"""How a test ends; `error`: it could not be asked."""
MASK = "[MASK]"
"""Another way to write the blank of a prompt."""
_LONGEST_NAME = 400


@dataclass(frozen=True)
class KnowledgeTest(Record):
    """What a model must answer to a prompt, or to the prompts of a fact; or what it must not.

    Attributes:
        name: what reports call it, up to 400 characters that can be printed; no two tests of a list share one.
        prompt: a sentence with one `[Y]` or `[MASK]`; for a causal model, also one that just ends. None asks the
            store's prompts of a fact.
        fact: the fact's number; it may be named by the next two instead, or as well.
        relation, subject: its relation's key and its subject.
        prompts: which of the fact's prompts, one of `PROMPT_CHOICES`.
        answers: one of these must be the most probable answer; without any, and without `refused`, the object of the
            fact. With `above`, it need not be the most probable.
        refused: none of these may be the most probable answer.
        probability: the least probability of the most probable one of `answers`, over 0 and up to 1.
        above: the most probable one of `answers` must be more probable than each of these.
        note: words for those who read the file.
    """

    name: str
    prompt: str | None = None
    fact: int | None = None
    relation: str | None = None
    subject: str | None = None
    prompts: str = TRAINING
    answers: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    probability: float | None = None
    above: tuple[str, ...] = ()
    note: str | None = None

    def __post_init__(self) -> None:
        """Refuses a test that asks nothing, or that nothing could pass.

        Raises:
            UsageError: if it is one; the message begins with the field.
        """
        for name in ("answers", "refused", "above"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        _check_name(self.name)
        self._check_question()
        self._check_expectation()

    @property
    def of_fact(self) -> bool:
        """Whether it asks a fact's prompts."""
        return self.prompt is None

    @property
    def asks(self) -> str:
        """What it asks, in a line."""
        if self.prompt is not None:
            return self.prompt
        named = f"{self.relation or ''} {self.subject or ''}".strip()
        number = "" if self.fact is None else f"fact {self.fact}"
        which = {TRAINING: "prompts", HELD_OUT: "held-out prompts", ALL: "all prompts"}[self.prompts]
        return f"{which} of {', '.join(part for part in (number, named) if part)}"

    @property
    def expects(self) -> str:
        """What must be answered, in a line."""
        answers = " or ".join(map(repr, self.answers)) or ("" if self.refused else "the fact's object")
        bound = "" if self.probability is None else f" with probability {self.probability:g}"
        parts = [answers + bound] if answers else []
        parts += [f"above {' and '.join(map(repr, self.above))}"] if self.above else []
        parts += [f"not {' or '.join(map(repr, self.refused))}"] if self.refused else []
        return ", ".join(parts)

    def _line(self) -> str:
        return f"{quoted(self.name)}, {quoted(self.asks)}, {self.expects}"

    def _check_question(self) -> None:
        named = self.fact is not None or (self.relation is not None and self.subject is not None)
        if self.prompt is None and not named:
            raise UsageError("'prompt' is missing; a test has that, or 'fact', or 'relation' and 'subject'")
        if self.prompt is not None:
            given = next((name for name in ("fact", "relation", "subject") if getattr(self, name) is not None), None)
            if given is not None:
                raise UsageError(
                    f"'prompt' and {given!r} contradict each other; a test has a prompt, or a fact's prompts"
                )
            if self.prompts != TRAINING:
                raise UsageError("'prompts' says which of a fact's prompts to ask; leave it out beside 'prompt'")
            _check_prompt(self.prompt)
        if self.fact is not None and (type(self.fact) is not int or self.fact < 1):
            raise UsageError(f"'fact' must be a fact's number, from 1 (got {self.fact!r})")
        if self.prompts not in PROMPT_CHOICES:
            raise UsageError(f"'prompts' must be one of {', '.join(PROMPT_CHOICES)} (got {self.prompts!r})")

    def _check_expectation(self) -> None:
        for name, field_name in (("answers", "answer"), ("refused", "not"), ("above", "above")):
            for text in getattr(self, name):
                if not isinstance(text, str) or not text.strip():
                    raise UsageError(f"{field_name!r} must hold texts, none of them empty (got {text!r})")
        both = sorted({one.strip() for one in self.answers} & {one.strip() for one in (*self.refused, *self.above)})
        if both:
            raise UsageError(f"'answer' and what it is held against both have {both[0]!r}; no model can pass that")
        if self.prompt is not None and not self.answers and not self.refused:
            raise UsageError("'answer' is missing; a test of a prompt must have 'answer' or 'not'")
        if self.probability is not None:
            number = isinstance(self.probability, (int, float)) and not isinstance(self.probability, bool)
            if not number or not 0 < self.probability <= 1:
                raise UsageError(f"'probability' must be above 0 and at most 1 (got {self.probability!r})")
        for name, given in (("probability", self.probability is not None), ("above", bool(self.above))):
            if given and self.refused and not self.answers:
                raise UsageError(f"{name!r} is about 'answer', which is missing")


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise UsageError(
            f"'name' must be text of 1 to {_LONGEST_NAME} characters that can be printed (got {quoted(str(name))})"
        )


def _check_prompt(prompt: str) -> None:
    blanks = prompt.count(BLANK) + prompt.count(MASK)
    if not prompt.strip():
        raise UsageError("'prompt' is empty; it must be a sentence with a blank")
    if blanks > 1:
        raise UsageError(f"'prompt' has {blanks} blanks; it must have one {BLANK} or {MASK}")


@dataclass(frozen=True)
class PromptOutcome(Record):
    """What a model answered to one prompt of a test.

    Attributes:
        prompt: the prompt, with its blank as `[Y]`.
        status: one of `STATUSES`.
        why: what is wrong; empty if the prompt passed.
        probability: of the most probable acceptable answer: the geometric mean over its tokens; None if the test has
            none, or none can be asked.
        top: the most probable tokens at the blank; empty if the prompt can't be asked.
    """

    prompt: str
    status: str
    why: str = ""
    probability: float | None = None
    top: tuple[Answer, ...] = ()

    def _line(self) -> str:
        return f"{self.status}, {quoted(self.prompt)}" + (f": {self.why}" if self.why else "")


@dataclass(frozen=True)
class KnowledgeOutcome(Record):
    """How a test ended on one version.

    Attributes:
        test: the test.
        status: one of `STATUSES`: `error` if one of its prompts could not be asked, else `failed` if one failed.
        prompts: what was answered, prompt by prompt; empty if there was none to ask.
        why: what is wrong with the test itself, or with the first prompt that did not pass; empty if it passed.
        left_out: prompts of its fact that a causal model can't be asked, as their blank is not their end.
    """

    test: KnowledgeTest
    status: str
    prompts: tuple[PromptOutcome, ...] = ()
    why: str = ""
    left_out: int = 0

    @property
    def name(self) -> str:
        """The test's name."""
        return self.test.name

    def _line(self) -> str:
        return f"{quoted(self.name)}, {self.status}" + (f": {self.why}" if self.why else "")


@dataclass(frozen=True)
class KnowledgeRun(Record):
    """What tests found on one version of a model.

    Attributes:
        model: the model's name.
        version: the version's id.
        asked_as: the version as it was asked for, such as `base`.
        outcomes: one for each test, in the order of the list.
        seconds: how long the model was asked.
    """

    model: str
    version: str
    asked_as: str
    outcomes: tuple[KnowledgeOutcome, ...]
    seconds: float = field(default=0.0, compare=False)

    def count(self, status: str) -> int:
        """How many tests ended so; `status` is one of `STATUSES`."""
        return sum(outcome.status == status for outcome in self.outcomes)

    @property
    def ok(self) -> bool:
        """Whether every test passed."""
        return self.count(PASSED) == len(self.outcomes)

    @property
    def words(self) -> str:
        """The counts in a line: `8 of 10 tests passed, 2 failed`."""
        rest = [f", {self.count(status)} {name}" for status, name in _REST if self.count(status)]
        return f"{self.count(PASSED)} of {many(len(self.outcomes), 'test')} passed{''.join(rest)}"

    def _line(self) -> str:
        return f"{self.model}, version {self.version}, {self.words}"


_REST = ((FAILED, "failed"), (ERROR, "could not be asked"))


@dataclass(frozen=True)
class WrittenTests(Record):
    """Tests that were made from the edits of a version.

    Attributes:
        tests: the tests; all of them pass on that version.
        edited: how many ask for an edit's new answer; `kept`: how many for a neighbour's own.
        left_out: what is not in them, and why, in words.
    """

    tests: tuple[KnowledgeTest, ...]
    edited: int
    kept: int
    left_out: tuple[str, ...] = ()

    def _line(self) -> str:
        return f"{many(len(self.tests), 'test')}, {self.edited} of edits, {self.kept} of neighbours"


@dataclass(frozen=True)
class HistoryStep(Record):
    """A step of a model's history, with what it did.

    Attributes:
        entry: the step, as the log has it.
        does: `apply` or `revert`, of a step of a restore too.
        title: what its edit is for.
        kind: the edit's kind.
        planned_by: who planned the edit; `planned_at`: when.
    """

    entry: HistoryEntry
    does: str
    title: str
    kind: str
    planned_by: str | None
    planned_at: str

    @property
    def words(self) -> str:
        """In a line, such as `step 7: apply edit 3 (Sweden · P36 · Stockholm → Oslo)`."""
        edit = "" if self.entry.edit is None else f" edit {self.entry.edit}"
        return f"step {self.entry.id}: {self.does}{edit}" + (f" ({self.title})" if self.title else "")

    def _line(self) -> str:
        return self.words


@dataclass(frozen=True)
class BisectReport(Record):
    """Which step of a model's history broke tests.

    Attributes:
        model: the model's name.
        good, bad: ids of the versions between which was searched.
        step: the step at which the first of the tests broke.
        broken: what those tests answered right after the step that passed right before it.
        broke_later: names of tests that pass after that step, and fail at `bad`.
        left_out: names of tests that did not pass at `good` already.
        steps: how many steps lie between the two; `probes`: how many versions were asked.
    """

    model: str
    good: str
    bad: str
    step: HistoryStep
    broken: tuple[KnowledgeOutcome, ...]
    broke_later: tuple[str, ...]
    left_out: tuple[str, ...]
    steps: int
    probes: int

    def _line(self) -> str:
        return f"{self.model}, {self.step.words}, {many(len(self.broken), 'test')} broken, {many(self.probes, 'probe')}"


@dataclass(frozen=True)
class HistoryMatrix(Record):
    """How tests ended on each version of a stretch of a model's history.

    Attributes:
        model: the model's name.
        versions: ids of the versions, in the order of the history; the first is the one before the first step.
        steps: what led from each to the next: one fewer.
        names: the tests' names.
        statuses: for each test, how it ended on each of the versions.
        probes: how many versions were asked: each once, however often the history comes back to it.
    """

    model: str
    versions: tuple[str, ...]
    steps: tuple[HistoryStep, ...]
    names: tuple[str, ...]
    statuses: tuple[tuple[str, ...], ...]
    probes: int

    def changes(self) -> Iterator[tuple[HistoryStep, str, str, str]]:
        """Each step at which a test ended otherwise than before it: the step, the test, before and after."""
        for place, step in enumerate(self.steps):
            for name, row in zip(self.names, self.statuses, strict=True):
                if row[place] != row[place + 1]:
                    yield step, name, row[place], row[place + 1]

    def _line(self) -> str:
        return f"{self.model}, {many(len(self.names), 'test')}, {many(len(self.steps), 'step')}"


def chosen_tests(tests: Sequence[KnowledgeTest], names: Sequence[str]) -> list[KnowledgeTest]:
    """The tests of some names, in the order of the list; all of them for no names.

    Raises:
        UsageError: if there is none of a name.
    """
    known = {test.name for test in tests}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"{option('only')}: there is no test {name!r}{hint}")
    wanted = set(names)
    return [test for test in tests if not names or test.name in wanted]


def require_distinct(tests: Sequence[KnowledgeTest]) -> None:
    """Checks that there are tests, and that no two share a name.

    Raises:
        UsageError: if not.
    """
    if not tests:
        raise UsageError("there is no test in the list; it must have at least one")
    seen: set[str] = set()
    for test in tests:
        if test.name in seen:
            raise UsageError(f"two tests are called {test.name!r}; each must have a name of its own")
        seen.add(test.name)


def as_fields(test: KnowledgeTest) -> Mapping[str, Any]:
    """A test as a file of tests has it: field by field, without those that say nothing."""
    fields: dict[str, Any] = {
        "name": test.name,
        "prompt": test.prompt,
        "fact": test.fact,
        "relation": test.relation,
        "subject": test.subject,
        "prompts": None if test.prompts == TRAINING else test.prompts,
        "answer": list(test.answers) if len(test.answers) > 1 else next(iter(test.answers), None),
        "not": list(test.refused) if len(test.refused) > 1 else next(iter(test.refused), None),
        "probability": test.probability,
        "above": list(test.above) if len(test.above) > 1 else next(iter(test.above), None),
        "note": test.note,
    }
    return {name: value for name, value in fields.items() if value is not None}
