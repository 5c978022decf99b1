"""How a parameter [rows, columns] holds the value slots of n neurons, d numbers each: the one place that knows.

An adapter states a layout; all others ask it for slots, as [k, d] whatever the layout, or for where their bytes lie.
Imports no torch: a command that only moves bytes asks here, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch


LayoutWord = Literal["row", "column"]


@dataclass(frozen=True)
class SlotRuns:
    """Where a slot's numbers lie in its parameter's, row after row: `count` runs of `width` numbers each.

    Attributes:
        first: place of the first number.
        stride: from the start of one run to that of the next.
        count: how many runs.
        width: numbers in each.
    """

    first: int
    stride: int
    count: int
    width: int


class SlotLayout(Enum):
    """Where the down projection's parameter holds the value slot of neuron i. Values are the words in files."""

    ROW = "row"
    """parameter[i, :], as in GPT-2's Conv1D."""
    COLUMN = "column"
    """parameter[:, i], as in torch's Linear."""

    def slots(self, shape: tuple[int, int]) -> int:
        """The number n of slots in a parameter of a shape."""
        return shape[0] if self is SlotLayout.ROW else shape[1]

    def width(self, shape: tuple[int, int]) -> int:
        """The number d of numbers in each."""
        return shape[1] if self is SlotLayout.ROW else shape[0]

    def runs(self, shape: tuple[int, int], neuron: int) -> SlotRuns:
        """Where a slot's numbers lie, for a neuron from 0 to n − 1."""
        rows, columns = shape
        if self is SlotLayout.ROW:
            return SlotRuns(neuron * columns, columns, 1, columns)
        return SlotRuns(neuron, columns, rows, 1)

    @property
    def word(self) -> LayoutWord:
        """How files call it."""
        return "row" if self is SlotLayout.ROW else "column"

    def by_neuron(self, parameter: torch.Tensor) -> torch.Tensor:
        """The parameter as [n, d], a view: row i is neuron i's value slot."""
        return parameter if self is SlotLayout.ROW else parameter.T

    def read(self, parameter: torch.Tensor, neurons: torch.Tensor) -> torch.Tensor:
        """Copies the slots of neurons [k] out of a parameter, as [k, d] on the CPU."""
        import torch

        dimension = 0 if self is SlotLayout.ROW else 1
        chosen = self.by_neuron(parameter.detach().index_select(dimension, neurons.to(parameter.device)))
        return chosen.cpu().clone(memory_format=torch.contiguous_format)

    def write(self, parameter: torch.Tensor, neurons: torch.Tensor, values: torch.Tensor) -> None:
        """Writes values [k, d] into the slots of neurons [k], in place."""
        self.by_neuron(parameter.detach())[neurons.to(parameter.device)] = values.to(parameter.device)
