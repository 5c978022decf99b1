"""How alike the coarse sets of a fact's prompts are: whether its paraphrases find the same neurons."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from itertools import combinations
from statistics import fmean, quantiles

from ..records.queries import Consistency


def mean_jaccard(sets: Collection[Set[object]]) -> float | None:
    """The mean Jaccard index |A ∩ B| ÷ |A ∪ B| over all pairs of sets.

    Two empty sets have no index: such a pair is left out. An empty set and another have 0.

    Args:
        sets: the coarse sets of one fact's prompts.

    Returns:
        0 to 1; None if no pair is left, as with fewer than two sets.
    """
    total, pairs = 0.0, 0
    for one, other in combinations(sets, 2):
        shared = len(one & other)
        together = len(one) + len(other) - shared
        if together:
            total += shared / together
            pairs += 1
    return total / pairs if pairs else None


def distribution(relation: str | None, values: Sequence[float]) -> Consistency:
    """Mean and quartiles (linear rule) of the consistencies of a relation's facts, at least one."""
    first, median, third = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return Consistency(relation, len(values), fmean(values), first, median, third)
