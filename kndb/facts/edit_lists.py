"""What lists of edits have in common: a list of cases, prompts without blanks, and relations that are not named.

A prompt of such a list ends where its answer begins, or is a question: its blank, `[Y]`, goes to its end.

Of a list that names no relation, a record's relation is its prompt with `[X]` in place of the subject; that prompt is
the relation's template. Where the subject does not stand in the prompt as words of its own, or stands there several
times, the relation is the prompt as it is, and the prompt is written out for this one fact: nothing is lost, and
nothing guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..records.facts import BLANK, SUBJECT_SLOT, EvaluationPrompt, FactFile
from . import checks
from .checks import Record
from .collector import Collector, cases
from .formats import Fields, Format, Shape
from .prompts import fill

HOLE = "{}"
"""Where ROME's lists and MQuAKE's take the subject."""


@dataclass(frozen=True)
class Wording:
    """How a list asks for a fact.

    Attributes:
        relation: the relation's key.
        template: the relation's template; None if the prompt is this fact's alone.
        prompt: the fact's prompt, with `[Y]`.
    """

    relation: str
    template: str | None
    prompt: str


def edit_list(
    name: str,
    expected: str,
    add: Callable[[Record, int, Collector], None],
    recognises: Callable[[Shape, Fields], bool],
) -> Format:
    """A format whose file is a list of cases: one JSON list, or JSON lines.

    Args:
        name: what it is called.
        expected: what a file should be, for messages.
        add: adds what a case holds; it is given the case, its number from 1, and where it goes. A rejected case's line
            is its number in the list, or its line.
        recognises: whether a record is of it.
    """

    def read(path: Path) -> list[FactFile]:
        collector = Collector(path)
        for number, case in cases(path, expected, collector):
            with collector.rejecting(path, number):
                add(case, number, collector)
        return [collector.finish()]

    return Format(name, read, recognises)


def blank_at_end(prompt: str, name: str) -> str:
    """A prompt with its blank: `The capital of Sweden is [Y]`."""
    checks.no_slots(prompt, name)
    return f"{prompt} {BLANK}"


def with_hole(record: Record, subject: str) -> tuple[str, str]:
    """The template and the filled prompt of a record's `prompt`, which marks the subject's place with `{}`."""
    prompt = checks.text(record, "prompt")
    checks.no_slots(prompt, "prompt")
    checks.once(prompt, HOLE, "prompt")
    template = f"{prompt.replace(HOLE, SUBJECT_SLOT)} {BLANK}"
    return template, fill(template, subject)


def worded(prompt: str, subject: str) -> Wording:
    """How a list asks for a fact whose relation it does not name.

    Args:
        prompt: the prompt, with the subject in it.
        subject: the subject.
    """
    written = blank_at_end(prompt, "prompt")
    before, found, after = prompt.partition(subject)
    if not found or subject in after or _joined(before, subject) or _joined(subject, after):
        return Wording(prompt, None, written)
    relation = f"{before}{SUBJECT_SLOT}{after}"
    return Wording(relation, f"{relation} {BLANK}", written)


def _joined(left: str, right: str) -> bool:
    """Whether two pieces of a text meet within a word; in scripts without capitals, words are not told apart."""
    return bool(left) and bool(right) and _of_a_word(left[-1]) and _of_a_word(right[0])


def _of_a_word(character: str) -> bool:
    return character.isdigit() or character.lower() != character.upper()


def answers(value: object, name: str) -> tuple[str, ...]:
    """Acceptable answers: a text, or a list of texts, or of lists of them; each once and in their order."""
    found: list[str] = []
    for outer in value if isinstance(value, list) else [value]:
        every = outer if isinstance(outer, list) else [outer]
        found += [checks.clean(item, name) for item in every if item is not None and item != ""]
    return tuple(dict.fromkeys(found))


def prompts(record: Record, name: str, kind: str, answers: tuple[str, ...] = ()) -> list[EvaluationPrompt]:
    """Evaluation prompts of a field that has one text, a list of texts, or is missing or empty."""
    value = record.get(name)
    texts = [] if value is None else [value] if isinstance(value, str) else checks.texts(record, name)
    return [
        EvaluationPrompt(kind, name, blank_at_end(checks.clean(text, name), name), answers)
        for text in texts
        if text.strip()
    ]
