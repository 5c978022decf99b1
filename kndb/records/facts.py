"""Fact lists, facts and prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..errors import RejectedLine
from .display import Record, fact_words, many, quoted

SUBJECT_SLOT = "[X]"
"""Where a template takes the subject."""


BLANK = "[Y]"
"""Where a template or prompt leaves out the answer."""


FREE_PROMPTS = "free-prompts"
"""The relation of the prompts that were given to `kndb attribute --prompt`, without a list of facts."""


@dataclass(frozen=True)
class TemplateRecord:
    """A sentence with `[X]` for the subject and `[Y]` for the answer, as a file gives it."""

    relation: str
    text: str
    held_out: bool = False


PARAPHRASE, NEIGHBOURHOOD, ATTRIBUTE, LOCALITY, PORTABILITY, GENERATION = EVALUATION_KINDS = (
    "paraphrase",
    "neighbourhood",
    "attribute",
    "locality",
    "portability",
    "generation",
)
"""What prompts that only measure edits of a fact ask for: the fact in other words; another subject with the fact's
object; another subject with the new answer; anything that the edit should leave; what follows from the new answer; a
text to be continued."""


@dataclass(frozen=True)
class NeededEdit:
    """A further edit without which an evaluation prompt's answers don't hold: this fact has this new answer."""

    relation: str
    subject: str
    to: str


@dataclass(frozen=True)
class NeededAnswer:
    """A prompt that a model has to answer before an edit, for an evaluation prompt to be asked after it.

    Attributes:
        text: the prompt, with its blank as `[Y]`.
        answers: acceptable answers.
    """

    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class EvaluationPrompt:
    """A prompt that measures edits of a fact and is never attributed.

    Attributes:
        kind: one of `EVALUATION_KINDS`.
        axis: what its source calls it, such as `Subject_Aliasing`.
        text: the prompt, with its blank as `[Y]`; those of kind `generation` have none.
        answers: acceptable answers; empty if the source names none. Those of kind `paraphrase` have none: their answer
            is the fact's object, or an edit's new answer.
        new_object: the edit's new answer under which the answers hold; None if they hold whatever it is.
        needs_edits: further edits without which they don't hold.
        needs_answers: what the model has to know before the edit.
    """

    kind: str
    axis: str
    text: str
    answers: tuple[str, ...] = ()
    new_object: str | None = None
    needs_edits: tuple[NeededEdit, ...] = ()
    needs_answers: tuple[NeededAnswer, ...] = ()


@dataclass(frozen=True)
class RequestedEdit:
    """The new answer that an edit list gives a fact.

    Attributes:
        line: where in its file, from 1.
        answers: each new answer by the name of its field; several where the list leaves open which one is meant.
    """

    line: int
    answers: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True, slots=True)
class FactRecord:
    """A fact as a file gives it, with the prompts that the file writes out for it (if any).

    Attributes:
        relation: the relation's key, for example `P176`.
        subject: None where the source does not name it (the paper's own bags).
        object: the answer.
        external_id: the source's own identifier, or None.
        prompts: prompts of this fact alone: subject filled in, the blank as `[Y]`. Prompts that come from
            templates are not listed here: they follow from template × fact.
        evaluation: prompts that only measure edits of this fact.
        edit: the edit that an edit list asks for; None in lists of facts.
    """

    relation: str
    subject: str | None
    object: str
    external_id: str | None = None
    prompts: tuple[str, ...] = ()
    evaluation: tuple[EvaluationPrompt, ...] = ()
    edit: RequestedEdit | None = None

    @property
    def name(self) -> tuple[str, str | None, str | None]:
        """What names it: relation, subject and object; without a subject, relation and identifier."""
        return self.relation, self.subject, self.external_id if self.subject is None else self.object


@dataclass(frozen=True)
class FactFile:
    """All that one input file (or pair of files) holds.

    Attributes:
        source: the file as the user named it.
        relations: relation key to label; every relation that a fact or template names is a key.
    """

    source: str
    relations: Mapping[str, str | None]
    templates: tuple[TemplateRecord, ...] = ()
    facts: tuple[FactRecord, ...] = ()
    rejected: tuple[RejectedLine, ...] = ()


@dataclass(frozen=True)
class IngestReport(Record):
    """What an ingest did. `facts_seen` counts every fact read, new or not.

    `new_answers` is the number of facts for which an edit list has a new answer: those are not applied. See
    `EditCommands.targets`.
    """

    facts_added: int
    facts_seen: int
    prompts_added: int
    templates_added: int
    relations: int
    rejected: tuple[RejectedLine, ...] = ()
    prompts_blank_last: int = 0
    evaluation_prompts_added: int = 0
    new_answers: int = 0


@dataclass(frozen=True)
class Relation(Record):
    """A relation, with the number of its facts, templates and prompts."""

    id: int
    key: str
    label: str | None
    facts: int
    templates: int
    prompts: int

    def _line(self) -> str:
        label = "" if self.label is None else f", {quoted(self.label)}"
        return f"{self.key}{label}, {many(self.facts, 'fact')}, {many(self.prompts, 'prompt')}"


@dataclass(frozen=True)
class Fact(Record):
    """A fact ⟨subject, relation, object⟩, with the number of its prompts, and of its evaluation prompts by kind.

    kndb's own questions leave the latter out.
    """

    id: int
    relation: str
    subject: str | None
    object: str
    external_id: str | None = None
    prompts: int = 0
    evaluation_prompts: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def title(self) -> str:
        """The fact in one line, for messages."""
        return f"⟨{self.subject or '(not named)'}, {self.relation}, {self.object}⟩"

    def _line(self) -> str:
        return f"{self.id}, {fact_words(self)}"


@dataclass(frozen=True)
class Prompt(Record):
    """A prompt with the answer that its fact gives. `text` has the blank as `[Y]`.

    Attributes:
        subject_span: where the subject begins and ends in the text; None if nobody can say.
    """

    id: int
    fact_id: int
    text: str
    answer: str
    held_out: bool = False
    subject_span: tuple[int, int] | None = field(default=None, compare=False)

    def _line(self) -> str:
        return f"{self.id}, fact {self.fact_id}, {quoted(self.text)} → {quoted(self.answer)}"


def by_fact(prompts: Iterable[Prompt]) -> dict[int, list[Prompt]]:
    """Prompts by their facts' numbers; facts and prompts in the order in which they come."""
    found: dict[int, list[Prompt]] = {}
    for prompt in prompts:
        found.setdefault(prompt.fact_id, []).append(prompt)
    return found
