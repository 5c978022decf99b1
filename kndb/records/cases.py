"""Cases to try edits on: facts that a model knows with another answer, and what an edit of each is measured by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..advice import option
from ..errors import UsageError
from .display import Record, many, quoted
from .edit_settings import check_known, check_seed

LEFT_OUT = {
    "not-named": "its subject is not named",
    "several-objects": "its subject has several objects in the relation",
    "not-asked": "the model can't be asked it by any prompt",
    "not-known": "the model answers something else",
    "no-other-object": "the relation has no other object that the model can be asked for",
    "blank-not-last": "none of its prompts ends where the answer begins, as CounterFact's do",
}
"""Each reason for which a fact is no case, in words."""


@dataclass(frozen=True)
class CaseSettings:
    """Which facts are drawn as cases.

    Attributes:
        count: how many cases, at least 1; all that there are, if there are fewer.
        seed: of all that is drawn.
        known: the share of a fact's prompts, held-out ones included, that the model has to answer; from 0 to 1.
        neighbours: prompts of other subjects with the same object, at least 0; all that there are, if there are fewer.
    """

    count: int = 100
    seed: int = 0
    known: float = 1.0
    neighbours: int = 10

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            UsageError: if a setting is out of its range.
        """
        for name, allowed, must in (
            ("count", self.count >= 1, "at least 1"),
            ("neighbours", self.neighbours >= 0, "at least 0"),
        ):
            if not allowed:
                raise UsageError(f"{option(name)} must be {must} (got {getattr(self, name)})")
        check_known(self.known)
        check_seed(self.seed)


@dataclass(frozen=True)
class CasePrompt(Record):
    """A prompt that measures an edit.

    Attributes:
        text: with its blank as `[Y]`.
        subject: whom it asks about.
        span: where the subject begins and ends in the text; None if nobody can say.
    """

    text: str
    subject: str
    span: tuple[int, int] | None = None

    def _line(self) -> str:
        return quoted(self.text)


@dataclass(frozen=True)
class EditCase(Record):
    """A fact that a model knows, and another object of its relation, that its subject does not have.

    Attributes:
        relation, subject, object: the fact; `label`: what the relation is called.
        to: the new answer.
        prompts: the fact's prompts, held-out ones left out; `paraphrases`: held-out ones.
        neighbours: prompts of other subjects with the same object, that the model answers; none of them is a case.
    """

    relation: str
    label: str | None
    subject: str
    object: str
    to: str
    prompts: tuple[CasePrompt, ...]
    paraphrases: tuple[CasePrompt, ...]
    neighbours: tuple[CasePrompt, ...]

    def _line(self) -> str:
        return f"{self.relation}, {quoted(self.subject)}: {quoted(self.object)} → {quoted(self.to)}"


@dataclass(frozen=True)
class CaseSet(Record):
    """Cases, and which facts are none.

    Attributes:
        cases: the cases, in the order in which they were drawn.
        left_out: how many facts that were drawn are none, by reason (a key of `LEFT_OUT`).
        model, version: who knows them.
    """

    cases: tuple[EditCase, ...]
    model: str
    version: str
    left_out: Mapping[str, int] = field(default_factory=dict)

    def _line(self) -> str:
        return f"{many(len(self.cases), 'case')}, {self.model}"
