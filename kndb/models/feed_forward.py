"""The feed-forward block of a layer: dense, with one down projection; or of experts, of which a router chooses.

Shapes: R rows, d hidden size, n neurons of the layer, E experts of m neurons each, k of which a row is given to.

In a mixture of experts the neurons of a layer are those of all its experts, n = E·m: neuron i of expert e has number
e·m + i. Its activation is the number by which its value slot is multiplied in what the layer writes: the expert's
own activation times the weight that the router gives the expert, and 0 where the row is not given to that expert.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn

from .activations import fused
from .adapter import Experts, FeedForward
from .layout import SlotLayout
from .paths import optional, resolve


class FeedForwardBlock(ABC):
    """One feed-forward block, from its model's own modules.

    Attributes:
        down: the module whose output the block writes: the down projection, or all experts.
        layout: how `weight` holds the value slots.
    """

    down: nn.Module
    layout: SlotLayout

    @property
    @abstractmethod
    def weight(self) -> torch.Tensor:
        """The parameter that holds the value slots."""

    @property
    @abstractmethod
    def active(self) -> int:
        """How many neurons of a row are computed."""

    @abstractmethod
    def neurons(self, source: torch.Tensor) -> torch.Tensor:
        """Activations of rows: [..., d] to [..., n]."""

    @abstractmethod
    def beside(self, source: torch.Tensor) -> torch.Tensor | None:
        """What the block writes beside its neurons' value slots, [..., d]; None if that is the same for all rows."""

    @abstractmethod
    def written(self, neurons: torch.Tensor, beside: torch.Tensor | None = None) -> torch.Tensor:
        """What the block writes, [..., d], from activations [..., n] and what `beside` gave for their rows."""

    @abstractmethod
    def run(self, source: torch.Tensor) -> torch.Tensor:
        """What the block writes for rows: [..., d] to [..., d]."""

    @abstractmethod
    def on_slots(self, rows: torch.Tensor) -> torch.Tensor:
        """Products of rows with each neuron's value slot: [R, d] to [R, n], in the rows' precision."""

    @property
    @abstractmethod
    def bias(self) -> torch.Tensor:
        """What the block writes beside its neurons' value slots where that is the same for all rows, [d]."""


class DenseBlock(FeedForwardBlock):
    """One up projection, perhaps a gate, and one down projection for all rows."""

    def __init__(self, module: nn.Module, parts: FeedForward) -> None:
        self._up = resolve(module, parts.up)
        self._gate = optional(module, parts.gate)
        self._activation = fused(resolve(module, parts.activation))
        self.layout = parts.slots
        self.down = cast("nn.Module", resolve(module, parts.down))

    @property
    def weight(self) -> torch.Tensor:
        """The down projection's weight."""
        return cast("torch.Tensor", self.down.weight)

    @property
    def active(self) -> int:
        """All neurons."""
        return self.layout.slots(tuple(self.weight.shape))

    def neurons(self, source: torch.Tensor) -> torch.Tensor:
        """The activations that enter the down projection: rows [..., d] to [..., n]."""
        if self._gate is None:
            return cast("torch.Tensor", self._activation(self._up(source)))
        if self._gate is self._up:
            gate, up = self._up(source).chunk(2, dim=-1)
        else:
            gate, up = self._gate(source), self._up(source)
        return cast("torch.Tensor", self._activation(gate) * up)

    def beside(self, source: torch.Tensor) -> None:
        """Nothing but the bias."""

    def written(self, neurons: torch.Tensor, beside: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        """The down projection of activations."""
        return cast("torch.Tensor", self.down(neurons))

    def run(self, source: torch.Tensor) -> torch.Tensor:
        """What the block writes for rows: [..., d] to [..., d]."""
        return self.written(self.neurons(source))

    def on_slots(self, rows: torch.Tensor) -> torch.Tensor:
        """Products of rows with each neuron's value slot: [R, d] to [R, n], in the rows' precision."""
        return rows @ self.layout.by_neuron(self.weight).T.to(rows.dtype)

    @property
    def bias(self) -> torch.Tensor:
        """The down projection's bias [d], zeros if it has none."""
        bias, slots = getattr(self.down, "bias", None), self.layout.by_neuron(self.weight)
        return cast("torch.Tensor", bias) if bias is not None else slots.new_zeros(slots.shape[1])


class ExpertBlock(FeedForwardBlock):
    """Experts with one parameter for all, [E, …], and a router that gives each row to k of them."""

    def __init__(self, module: nn.Module, parts: Experts) -> None:
        self._router = resolve(module, parts.router)
        self._experts: Any = resolve(module, parts.experts)
        self._activation = parts.activation
        self.layout = parts.slots
        self.down = cast("nn.Module", self._experts)

    @property
    def weight(self) -> torch.Tensor:
        """The experts' down projections, [E, d, m] or [E, m, d]."""
        return cast("torch.Tensor", self._experts.down_proj)

    @property
    def active(self) -> int:
        """The neurons of k experts."""
        experts = int(self.weight.shape[0])
        return self.layout.slots(tuple(self.weight.shape)) // experts * int(self._router.top_k)

    def neurons(self, source: torch.Tensor) -> torch.Tensor:
        """Activations of all experts' neurons: rows [..., d] to [..., n]."""
        rows = source.reshape(-1, source.shape[-1])
        return self.neurons_of(rows, *self._routed(rows)).view(*source.shape[:-1], -1)

    def neurons_of(self, rows: torch.Tensor, experts: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The same of rows [R, d] that are given to experts [R, k] with weights [R, k]: [R, n]."""
        pairs = list(self._pairs(rows, experts, weights))
        values = torch.cat([values for _, _, values in pairs])
        places = torch.cat([place for _, place, _ in pairs])
        which = torch.cat([torch.full_like(place, expert) for expert, place, _ in pairs])
        every = values.new_zeros(len(rows), self.weight.shape[0], values.shape[-1])
        return every.index_put((places, which), values).flatten(1)

    def beside(self, source: torch.Tensor) -> torch.Tensor | None:
        """The biases of the rows' experts, weighted; None if there are no biases."""
        bias = getattr(self._experts, "down_proj_bias", None)
        if bias is None:
            return None
        rows = source.reshape(-1, source.shape[-1])
        experts, weights = self._routed(rows)
        weighted = weights.to(rows.dtype).unsqueeze(-1) * cast("torch.Tensor", bias)[experts]  # [R, k, d]
        return weighted.sum(-2).view(source.shape)

    def written(self, neurons: torch.Tensor, beside: torch.Tensor | None = None) -> torch.Tensor:
        """What activations [..., n] write; experts of which none is active are passed over."""
        by_expert = neurons.reshape(-1, self.weight.shape[0], neurons.shape[-1] // self.weight.shape[0])
        found = by_expert.new_zeros(len(by_expert), self._width)
        active = (by_expert.detach() != 0).any(-1)
        for expert in active.any(0).nonzero().flatten().tolist():
            place = active[:, expert].nonzero().flatten()
            found = found.index_add(0, place, self._down(expert, by_expert[place, expert]))
        found = found.view(*neurons.shape[:-1], -1)
        return found if beside is None else found + beside

    def run(self, source: torch.Tensor) -> torch.Tensor:
        """What the block writes for rows: [..., d] to [..., d]; of each row, only its k experts are computed."""
        rows = source.reshape(-1, source.shape[-1])
        experts, weights = self._routed(rows)
        found = torch.zeros_like(rows)
        for expert, place, values in self._pairs(rows, experts, weights):
            found = found.index_add(0, place, self._down(expert, values))
        beside = self.beside(rows)
        return (found if beside is None else found + beside).view(source.shape)

    def on_slots(self, rows: torch.Tensor) -> torch.Tensor:
        """Products of rows with each neuron's value slot: [R, d] to [R, n], in the rows' precision."""
        products = rows @ self.layout.by_expert(self.weight).transpose(1, 2).to(rows.dtype)  # [E, R, m]
        return products.transpose(0, 1).flatten(1)

    @property
    def bias(self) -> torch.Tensor:
        """Zeros [d]: biases of experts depend on the row, see `beside`."""
        return self.weight.new_zeros(self._width)

    @property
    def _width(self) -> int:
        return self.layout.width(tuple(self.weight.shape))

    def _routed(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """To which experts rows [R, d] are given, [R, k], and with which weights."""
        _, weights, experts = self._router(rows)
        return experts, weights

    def _pairs(
        self, rows: torch.Tensor, experts: torch.Tensor, weights: torch.Tensor
    ) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Each expert that has rows, these rows' numbers [r], and its neurons' activations there [r, m]."""
        for expert in torch.unique(experts).tolist():
            place, slot = (experts == expert).nonzero(as_tuple=True)
            values = self._activations(expert, rows[place]) * weights[place, slot].unsqueeze(-1)
            yield expert, place, values.to(rows.dtype)

    def _activations(self, expert: int, rows: torch.Tensor) -> torch.Tensor:
        """An expert's own activations, [r, d] to [r, m]."""
        weight, bias = self._experts.gate_up_proj[expert], getattr(self._experts, "gate_up_proj_bias", None)
        made = self.layout.applied(weight, rows)
        return self._activation(self._experts, made if bias is None else made + bias[expert])

    def _down(self, expert: int, values: torch.Tensor) -> torch.Tensor:
        """An expert's down projection without its bias, [r, m] to [r, d]."""
        return self.layout.applied(self.weight[expert], values)
