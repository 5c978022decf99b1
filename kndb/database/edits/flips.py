"""Answers that were to stay and that an edit changes, with names in place of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...analysis.edit_measures import Flip
from ...records.facts import Fact
from ..models import ModelVersion


@dataclass(frozen=True)
class FlippedFact:
    """An answer that was to stay, and that an edit changes.

    Attributes:
        group: of the prompts: `own` (of an erase), `own_held_out`, `intra` or `inter`.
        fact, relation, subject, object: the fact.
        old_answer, new_answer: the model's most probable token before and after.
        prompts: for how many of the fact's prompts; `asked`: how many were asked.
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
