"""The sentences that a lab model learns from: every fact of a list in every template of its relation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import InputError
from ..models.adapter import Blank
from ..records.facts import BLANK, SUBJECT_SLOT, FactFile
from ..sentences import blank_is_last


@dataclass(frozen=True)
class PromptExample:
    """A prompt with its answer; held-out ones are never trained on."""

    relation: str
    subject: str
    text: str
    answer: str
    held_out: bool


@dataclass(frozen=True)
class Corpus:
    """All examples of a fact list, in the order of the list."""

    examples: tuple[PromptExample, ...]
    facts: int
    relations: tuple[str, ...]

    def usable(self, blank: Blank) -> tuple[PromptExample, ...]:
        """The examples that a model with this kind of blank can be asked."""
        if blank is Blank.MASK:
            return self.examples
        return tuple(example for example in self.examples if blank_is_last(example.text))


def build_corpus(files: Iterable[FactFile]) -> Corpus:
    """Joins the facts and templates of fact files.

    Facts and templates that occur in several files count once. Facts whose subject is not named, and prompts
    that a file wrote out, are left out: they can't be put into a held-out template.

    Raises:
        InputError: if there is no fact with a template to train on.
    """
    templates: dict[str, dict[str, bool]] = defaultdict(dict)
    facts: dict[tuple[str, str, str], None] = {}
    for file in files:
        for template in file.templates:
            templates[template.relation].setdefault(template.text, template.held_out)
        for fact in file.facts:
            if fact.subject is not None:
                facts.setdefault((fact.relation, fact.subject, fact.object))
    examples = tuple(
        PromptExample(relation, subject, text.replace(SUBJECT_SLOT, subject), answer, held_out)
        for relation, subject, answer in facts
        for text, held_out in templates[relation].items()
    )
    if not any(not example.held_out for example in examples):
        raise InputError(
            "there is no fact to train on: at least one fact with a named subject must have a template of its relation "
            f"(got {len(facts)} such facts and {sum(map(len, templates.values()))} templates)"
        )
    return Corpus(examples, len(facts), tuple(dict.fromkeys(example.relation for example in examples)))


def words_of(examples: Sequence[PromptExample]) -> tuple[list[str], list[str]]:
    """The distinct answers, and all texts with their answer filled in, for a tokenizer to learn from."""
    answers = list(dict.fromkeys(example.answer for example in examples))
    texts = [example.text.replace(BLANK, example.answer) for example in examples]
    return answers, texts
