"""The votes of a fact's prompts: which coarse sets hold a neuron, against the number that its refinement asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from ..records.attribution import KnowledgeNeuron
from ..records.queries import Votes

Place = tuple[int, int]
"""A neuron's layer and number."""


def votes(
    coarse_sets: Mapping[int, Mapping[Place, float]], refined: Sequence[KnowledgeNeuron], needed: float | None
) -> tuple[Votes, ...]:
    """The votes of each neuron that is in a coarse set or in the refined one.

    Args:
        coarse_sets: for each attributed prompt, the neurons of its coarse set with their scores.
        refined: the fact's refined set; what it says of a neuron goes before what no coarse set says.
        needed: the number of coarse sets that the refinement asked for; None if it does not say.

    Returns:
        The most votes first, then the largest mean score (its size, where scores are negative), then by layer and
        neuron. A neuron whose votes nobody knows comes last.
    """
    scores: dict[Place, list[float]] = {}
    for members in coarse_sets.values():
        for place, score in members.items():
            scores.setdefault(place, []).append(score)
    kept = {(row.layer, row.neuron): row for row in refined}
    found = [Votes(*place, len(some), needed, place in kept, fmean(some)) for place, some in scores.items()]
    found += [
        Votes(*place, row.prompts, needed, kept=True, mean_score=row.mean_score)
        for place, row in kept.items()
        if place not in scores
    ]
    return tuple(sorted(found, key=_rank))


def _rank(row: Votes) -> tuple[int, float, int, int]:
    prompts = -1 if row.prompts is None else row.prompts
    return -prompts, -abs(row.mean_score or 0.0), row.layer, row.neuron
