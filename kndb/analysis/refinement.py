"""From coarse sets to knowledge neurons (Dai et al. 2022, section 3.2; the adaptation is the official code's).

The coarse set of a prompt holds the neurons whose score reaches `threshold` times the prompt's largest score. The
refined set of a fact holds the neurons that are in the coarse sets of at least max(p·n, `min_prompts`) of its n
prompts (all n, where there are fewer). With adaptation, the share p is moved for each relation on its own until the
mean size of its refined sets lies between 2 and 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from ..advice import option
from ..errors import UsageError
from ..records.attribution import KnowledgeNeuron, RelationRefinement

STEP = 0.05
"""How far one adaptation pass moves the share."""
PASSES = 6
SMALLEST_MEAN, LARGEST_MEAN = 2.0, 5.0
_ROUNDING = 1e-9


@dataclass(frozen=True)
class RefinementSettings:
    """What decides a refinement.

    Attributes:
        threshold: share of a prompt's largest score that its coarse set asks for, above 0 to 1.
        share: share p of a fact's prompts whose coarse sets must hold a neuron, above 0 to 1.
        min_prompts: the least number of those prompts, at least 1.
        adapt: whether p is moved for each relation.
        negative: whether coarse sets hold the neurons of the lowest scores, which speak against the answer, up to
            `threshold` times the prompt's lowest.
    """

    threshold: float = 0.2
    share: float = 0.7
    min_prompts: int = 3
    adapt: bool = True
    negative: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise UsageError(f"{option('threshold')} must be above 0 and at most 1 (got {self.threshold})")
        if not 0 < self.share <= 1:
            raise UsageError(f"{option('share')} must be above 0 and at most 1 (got {self.share})")
        if self.min_prompts < 1:
            raise UsageError(f"{option('min_prompts')} must be at least 1 (got {self.min_prompts})")

    def as_settings(self) -> dict[str, object]:
        """Plain values, for the store."""
        return asdict(self)


def refine_relation(
    relation: str,
    prompts_of_fact: Mapping[int, int],
    candidates: Sequence[KnowledgeNeuron],
    settings: RefinementSettings,
) -> tuple[RelationRefinement, list[KnowledgeNeuron]]:
    """Refines one relation.

    Args:
        relation: the relation's key, handed through.
        prompts_of_fact: each attributed fact and the number of its attributed prompts.
        candidates: neurons of each fact with the number of coarse sets that hold them.
        settings: thresholds and adaptation.

    Returns:
        The outcome, and the candidates that are in a refined set.
    """
    share, passes = settings.share, 0
    kept = _reach(share, prompts_of_fact, candidates, settings.min_prompts)
    while settings.adapt and passes < PASSES:
        mean = len(kept) / max(1, len(prompts_of_fact))
        moved = _move(share, mean)
        if moved == share:
            break
        share, passes = moved, passes + 1
        kept = _reach(share, prompts_of_fact, candidates, settings.min_prompts)
    outcome = RelationRefinement(
        relation=relation,
        share=share,
        passes=passes,
        facts=len(prompts_of_fact),
        facts_with_neurons=len({neuron.fact_id for neuron in kept}),
        mean_size=len(kept) / max(1, len(prompts_of_fact)),
    )
    return outcome, kept


def prompts_needed(share: float, prompts: int, min_prompts: int) -> float:
    """How many of a fact's attributed prompts must have a neuron in their coarse sets: max(p·n, `min_prompts`).

    No more than all n; and by a hair less than p·n, as 0.55 · 20 is not quite 11 to a computer.
    """
    return max(share * prompts - _ROUNDING, min(min_prompts, prompts))


def _move(share: float, mean: float) -> float:
    if mean < SMALLEST_MEAN:
        return round(max(min(STEP, share), share - STEP), 10)
    if mean > LARGEST_MEAN:
        return round(min(1.0, share + STEP), 10)
    return share


def _reach(
    share: float, prompts_of_fact: Mapping[int, int], candidates: Sequence[KnowledgeNeuron], min_prompts: int
) -> list[KnowledgeNeuron]:
    needed = {fact: prompts_needed(share, prompts, min_prompts) for fact, prompts in prompts_of_fact.items()}
    return [one for one in candidates if one.prompts is not None and one.prompts >= needed[one.fact_id]]
