"""Sets of knowledge neurons as files give them: facts go by names, not by the store's numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import InputError


@dataclass(frozen=True)
class FactName:
    """How a file names a fact: what is not None has to fit.

    Attributes:
        id: the source's own identifier.
        relation: the relation's key.
        subject, object: the triple's other two, which name a fact together with the relation.
        number: the fact's number in the store.
    """

    id: str | None = None
    relation: str | None = None
    subject: str | None = None
    object: str | None = None
    number: int | None = None

    def __str__(self) -> str:
        if self.number is not None:
            return str(self.number)
        if self.id is not None:
            return self.id
        return f"⟨{self.subject or '(not named)'}, {self.relation}, {self.object}⟩"


class SetNeuron(NamedTuple):
    """A neuron of a fact's set, with the number of prompts and the mean score where the file has them."""

    layer: int
    neuron: int
    prompts: int | None = None
    mean_score: float | None = None


@dataclass(frozen=True)
class NeuronSet:
    """The refined set of one fact, by layer and neuron; it may be empty.

    Attributes:
        fact: the fact, as the file names it.
        neurons: the set.
        file: the file that it stands in, as the user named it.
    """

    fact: FactName
    neurons: tuple[SetNeuron, ...]
    file: str


@dataclass(frozen=True)
class Sizes:
    """How many layers a model has, and FFN neurons in each; what neurons of its files may be."""

    layers: int
    neurons: int

    def fault(self, layer: int, neuron: int) -> str | None:
        """Says what is wrong with a neuron's numbers; None if the model can have it."""
        if 0 <= layer < self.layers and 0 <= neuron < self.neurons:
            return None
        return (
            f"the model has no layer {layer} with a neuron {neuron}: its layers are 0 to {self.layers - 1}, its "
            f"neurons 0 to {self.neurons - 1}"
        )


def merged(sets: Iterable[NeuronSet]) -> list[NeuronSet]:
    """Takes the sets of several files together: one for each fact's name, in the order in which they first come.

    Raises:
        InputError: if a name comes twice with different sets.
    """
    found: dict[FactName, NeuronSet] = {}
    for one in sets:
        first = found.setdefault(one.fact, one)
        if first.neurons != one.neurons:
            other = "twice, with different sets" if first.file == one.file else f"with another set than {first.file}"
            raise InputError(
                f"{one.file}: it has {str(one.fact)!r} {other}. To keep both sets, put them in files of their own and "
                "import these one after the other"
            )
    return list(found.values())
