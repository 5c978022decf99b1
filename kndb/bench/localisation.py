"""How well refined sets find planted storage: counts, and what chance would give.

A planted model (`kndb.lab.planting`) was trained so that each fact passes through neurons chosen beforehand: a few of
its own and a few of its relation's. A refined set is scored against those, which are the truth here as nowhere else.

    precision = planted neurons of the fact among the refined pairs ÷ refined pairs
    recall    = planted neurons of the fact among the refined pairs ÷ planted neurons of the fact

both over all facts together, so that large sets weigh more. By chance, a set of as many neurons drawn from all of the
model's would have a precision of planted ÷ all neurons, and a recall of set size ÷ all neurons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import TypeVar

from ..errors import UsageError
from ..records.attribution import LocalisationScore
from ..records.models import Neuron

Key = TypeVar("Key")


@dataclass(frozen=True)
class PlantedNeurons:
    """Where one fact was planted.

    Attributes:
        own: the fact's own neurons.
        relation: its relation's, which every fact of the relation passes through.
        block: all neurons of the relation, those of its other facts included; holds `own` and `relation`.
    """

    own: frozenset[Neuron]
    relation: frozenset[Neuron]
    block: frozenset[Neuron]


def score_sets(
    method: str,
    refined: Mapping[Key, Set[Neuron]],
    planted: Mapping[Key, PlantedNeurons],
    neurons: int,
) -> LocalisationScore:
    """Scores the refined sets of one method.

    Args:
        method: the method's name.
        refined: each attributed fact's refined set; an empty one counts.
        planted: where each of them, at least, was planted.
        neurons: how many FFN neurons the model has.

    Raises:
        UsageError: if there is no fact, or a fact was not planted.
    """
    if not refined:
        raise UsageError("no fact was attributed; choose relations that the model was planted with")
    missing = next((fact for fact in refined if fact not in planted), None)
    if missing is not None:
        raise UsageError(f"fact {missing} was not planted in this model; score the list that it was trained on")
    # Whose is a neuron? The same one may be planted for facts of other relations only in the last case but one.
    everywhere = frozenset().union(*(places.block for places in planted.values()))
    held: Counter[str] = Counter()
    truths = chance_truths = 0
    for fact, found in refined.items():
        places = planted[fact]
        truths += len(places.own | places.relation)
        chance_truths += len(places.own | places.relation) * len(found)
        held.update(_owner(neuron, places, everywhere) for neuron in found)
    pairs = sum(held.values())
    right = held["own"] + held["relation"]
    return LocalisationScore(
        method=method,
        facts=len(refined),
        neurons_per_fact=pairs / len(refined),
        planted_per_fact=truths / len(refined),
        precision=_ratio(right, pairs),
        precision_by_chance=_ratio(chance_truths, pairs * neurons),
        recall=_ratio(right, truths),
        recall_by_chance=_ratio(chance_truths, truths * neurons),
        **{name: _ratio(held[name], pairs) for name in ("own", "relation", "block", "foreign", "free")},
    )


def _owner(neuron: Neuron, places: PlantedNeurons, everywhere: frozenset[Neuron]) -> str:
    if neuron in places.own:
        return "own"
    if neuron in places.relation:
        return "relation"
    if neuron in places.block:
        return "block"
    return "foreign" if neuron in everywhere else "free"


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
