"""How a parameter [rows, columns] holds the value slots of n neurons, d numbers each: the one place that knows.

A parameter of E experts, [E, rows, columns], holds those of the first expert, then those of the second: neuron i of
expert e is number e·n/E + i.

An adapter states a layout; all others ask it for slots, as [k, d] whatever the layout, or for where their bytes lie.
Imports no torch: a command that only moves bytes asks here, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

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
    """parameter[i, :], as in GPT-2's Conv1D; of experts parameter[e, i, :]."""
    COLUMN = "column"
    """parameter[:, i], as in torch's Linear; of experts parameter[e, :, i]."""

    def slots(self, shape: tuple[int, ...]) -> int:
        """The number n of slots in a parameter of a shape."""
        *experts, rows, columns = shape
        return math.prod(experts) * (rows if self is SlotLayout.ROW else columns)

    def width(self, shape: tuple[int, ...]) -> int:
        """The number d of numbers in each."""
        return shape[-1] if self is SlotLayout.ROW else shape[-2]

    def runs(self, shape: tuple[int, ...], neuron: int) -> SlotRuns:
        """Where a slot's numbers lie, for a neuron from 0 to n − 1."""
        rows, columns = shape[-2:]
        expert, within = divmod(neuron, self.slots((rows, columns)))
        start = expert * rows * columns
        if self is SlotLayout.ROW:
            return SlotRuns(start + within * columns, columns, 1, columns)
        return SlotRuns(start + within, columns, rows, 1)

    @property
    def word(self) -> LayoutWord:
        """How files call it."""
        return "row" if self is SlotLayout.ROW else "column"

    @property
    def fan_in_fan_out(self) -> bool:
        """Whether the parameter is [in, out], as tools of adapters call it: GPT-2's Conv1D, not torch's Linear."""
        return self is SlotLayout.ROW

    def by_neuron(self, parameter: torch.Tensor) -> torch.Tensor:
        """The parameter as [n, d]: row i is neuron i's value slot. A view, but for experts' columns."""
        slots = self.by_expert(parameter)
        return slots if slots.ndim == 2 else slots.flatten(0, 1)

    def by_expert(self, parameter: torch.Tensor) -> torch.Tensor:
        """A view of experts' parameter as [E, m, d]; of another as [n, d]."""
        return parameter if self is SlotLayout.ROW else parameter.transpose(-1, -2)

    def applied(self, matrix: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Rows [r, in] through a projection that is stored in this way, as torch's Linear or as Conv1D: [r, out]."""
        return rows @ (matrix if self is SlotLayout.ROW else matrix.T)

    def read(self, parameter: torch.Tensor, neurons: torch.Tensor) -> torch.Tensor:
        """Copies the slots of neurons [k] out of a parameter, as [k, d] on the CPU."""
        import torch

        if parameter.ndim == 2:
            dimension = 0 if self is SlotLayout.ROW else 1
            chosen = self.by_neuron(parameter.detach().index_select(dimension, neurons.to(parameter.device)))
        else:
            chosen = parameter.detach()[self._place(parameter, neurons)]
        return chosen.cpu().clone(memory_format=torch.contiguous_format)

    def write(self, parameter: torch.Tensor, neurons: torch.Tensor, values: torch.Tensor) -> None:
        """Writes values [k, d] into the slots of neurons [k], in place."""
        if parameter.ndim == 2:
            self.by_neuron(parameter.detach())[neurons.to(parameter.device)] = values.to(parameter.device)
        else:
            parameter.detach()[self._place(parameter, neurons)] = values.to(parameter.device)

    def _place(self, parameter: torch.Tensor, neurons: torch.Tensor) -> tuple[Any, ...]:
        """The index of neurons [k] in a parameter of experts, which gives [k, d]."""
        each = self.slots(tuple(parameter.shape[-2:]))
        numbers = neurons.to(parameter.device)
        expert, within = numbers // each, numbers % each
        return (expert, within) if self is SlotLayout.ROW else (expert, slice(None), within)
