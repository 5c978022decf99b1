"""Where the recipe of a merge is from, and what a merge does to each fact of the edits that it is of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import UsageError
from .display import Record, fact_words
from .json_values import JsonObject, list_of, refused, said, text, whole

_HASH = re.compile(r"[0-9a-f]{64}")


def _digest(value: object) -> str:
    found = text(value)
    return found if _HASH.fullmatch(found) else refused(value)


@dataclass(frozen=True, kw_only=True)
class MergedFrom(JsonObject):
    """One of the edits that a merge is of.

    Attributes:
        edit: its number in the store where the merge was planned, at least 1.
        object_hash: sha256 of its object, by which it is the same edit in every store.
        facts: the facts of the merge that have their answers from it, by their numbers in the recipe.
    """

    edit: int = field(metadata=said(whole))
    object_hash: str = field(metadata=said(_digest, key="object"))
    facts: tuple[int, ...] = field(metadata=said(list_of(whole), list))


def check_merged_from(sources: Sequence[MergedFrom], facts: Sequence[int]) -> None:
    """Refuses what no merge can be of.

    Args:
        sources: the edits.
        facts: the facts of the merge's recipe.

    Raises:
        UsageError: if there are fewer than two edits, one is there twice, or one gives answers of other facts.
    """
    hashes = {one.object_hash for one in sources}
    if len(sources) < 2 or len(hashes) < len(sources) or any(one.edit < 1 for one in sources):
        raise UsageError("merged_from must name at least two edits, each once")
    known = set(facts)
    if any(not known.issuperset(one.facts) for one in sources):
        raise UsageError("merged_from names facts that the recipe does not have")


def edits_in_words(sources: Sequence[MergedFrom]) -> str:
    """The edits that a merge is of, such as `edits 3, 5`."""
    named = ", ".join(str(one.edit) for one in sources[:_NAMED])
    more = f" and {len(sources) - _NAMED} more" if len(sources) > _NAMED else ""
    return f"edits {named}{more}"


_NAMED = 5
"""Edits that a title names."""


@dataclass(frozen=True)
class MergedFact(Record):
    """What becomes of a fact of an edit that is merged.

    Attributes:
        edit: the edit.
        fact, relation, subject, object: the fact, by its number in this store.
        to: the answer that the edit gives it.
        stands: whether the merge gives this answer, too; else another edit's was preferred.
        prompts: how many of the fact's prompts the model is asked, held-out ones included.
        alone: the share of them on which the answer wins with the edit alone, on the version that it was planned on.
        merged: the same with the merge; None where the answer does not stand, or the fact could not be planned.
    """

    edit: int
    fact: int
    relation: str
    subject: str | None
    object: str
    to: str
    stands: bool
    prompts: int
    alone: float | None
    merged: float | None

    def _line(self) -> str:
        return f"edit {self.edit}, {fact_words(self)}, to {self.to!r}"
