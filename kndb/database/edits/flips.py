"""Answers that were to stay and that an edit changes, with names in place of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...analysis.edit_measures import Flip
from ...analysis.evaluation_prompts import PromptFlip
from ...records.facts import EvaluationPrompt, Fact
from ..models import ModelVersion


@dataclass(frozen=True)
class FlippedFact:
    """An answer that was to stay, and that an edit changes.

    Attributes:
        group: of the prompts: `own` (of an erase), `own_held_out`, `intra` or `inter`.
        fact, relation, subject, object: the fact.
        old_answer, new_answer: the model's most probable token before and after.
        prompts: for how many of the fact's prompts; `asked`: how many were asked.
        prompt: of an evaluation prompt, its text; the group is then its kind, and `object` the first answer that its
            source names.
    """

    group: str
    fact: int
    relation: str
    subject: str | None
    object: str
    old_answer: str
    new_answer: str
    prompts: int
    asked: int
    prompt: str | None = None


def flipped_facts(version: ModelVersion, flips: Sequence[Flip], facts: Mapping[int, Fact]) -> list[FlippedFact]:
    """Flips with names in place of numbers.

    Args:
        version: the model version whose tokens they are.
        flips: the flips.
        facts: at least their facts, by number.
    """
    named = []
    for flip in flips:
        fact = facts[flip.fact]
        old, new = (version.loaded.decode(token) for token in (flip.old, flip.new))
        about = (flip.group, fact.id, fact.relation, fact.subject, fact.object)
        named.append(FlippedFact(*about, old, new, flip.prompts, flip.asked))
    return named


def flipped_prompts(
    version: ModelVersion,
    flips: Sequence[PromptFlip],
    facts: Mapping[int, Fact],
    prompts: Mapping[int, Sequence[EvaluationPrompt]],
) -> list[FlippedFact]:
    """Flips of facts' evaluation prompts.

    Args:
        version: the model version whose tokens they are.
        flips: the flips.
        facts: at least their facts, by number.
        prompts: these facts' evaluation prompts, by fact.
    """
    answers = {
        (number, prompt.kind, prompt.text): prompt.answers
        for number, own in prompts.items()
        for prompt in own
        if prompt.answers
    }
    named = []
    for flip in flips:
        fact = facts[flip.fact]
        old, new = (version.loaded.decode(token) for token in (flip.old, flip.new))
        about = (flip.kind, fact.id, fact.relation, fact.subject, answers[fact.id, flip.kind, flip.text][0])
        named.append(FlippedFact(*about, old, new, 1, 1, flip.text))
    return named
