"""One layer of a model in the pieces that attribution runs on their own.

Shapes: N sequences, T positions, R rows (positions that are computed), E encoder positions, d hidden size, n FFN
neurons, h heads of size s, of which g·h_kv = h share keys and values by groups of g. A layer maps the residual stream x
to its next state in four steps, all of them row-wise except the attention itself:

    q, k, v  = projections of x (normed first in a pre-norm block), their positions rotated in where the family does so
    residual = what the FFN's output is added to: x + o(attention), normed in a post-norm block; in a decoder with an
               encoder, attention over the encoder's output is added too
    w        = the FFN neurons: act(up(residual)), or act(gate(residual))·up(residual), the input normed first in a
               pre-norm block; where attention and FFN are parallel, of x in place of residual
    x'       = residual + down(w), normed in a post-norm block

Every step calls the model's own modules (but for activation functions, see `activations.py`); nothing is copied, so a
weight edited in the model counts here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from .adapter import Adapter, Experts
from .attention import AttentionBlock, DistanceParts, RotaryAngles
from .feed_forward import DenseBlock, ExpertBlock, FeedForwardBlock
from .paths import identity, optional


class Layer:
    """One transformer layer in pieces.

    Attributes:
        attention: its attention block.
        cross: its attention over an encoder's output, if it has one.
        block: its feed-forward block.
        down: the module whose output the block writes: the down projection, or all experts.
        down_path: the path of its weight from the model: the parameter that holds the value slots.
        layout: how that parameter holds them.
    """

    def __init__(
        self,
        module: nn.Module,
        path: str,
        adapter: Adapter,
        heads: int,
        rotary_kind: int | None = 0,
        distances: Callable[[int], DistanceParts] | None = None,
    ) -> None:
        norms = adapter.norms
        self._parallel = adapter.parallel
        self._attention_input = optional(module, norms.attention_input) or identity
        self._attention_output = optional(module, norms.attention_output) or identity
        self._attention_sum = optional(module, norms.attention_sum) or identity
        self._cross_input = optional(module, norms.cross_input) or identity
        self._ffn_input = optional(module, norms.ffn_input) or identity
        self._ffn_output = optional(module, norms.ffn_output)
        self._ffn_sum = optional(module, norms.ffn_sum) or identity
        self._factor: float | None = optional(module, adapter.factor)
        self.block: FeedForwardBlock
        if isinstance(adapter.ffn, Experts):
            self.block = ExpertBlock(module, adapter.ffn)
            self.down_path = f"{path}.{adapter.ffn.experts}.down_proj"
        else:
            self.block = DenseBlock(module, adapter.ffn)
            self.down_path = f"{path}.{adapter.ffn.down}.weight"
        self.down, self.layout = self.block.down, self.block.layout
        self.attention = AttentionBlock(module, adapter.attention, heads, adapter.rotation, rotary_kind, distances)
        self.cross = None
        if adapter.cross_attention is not None:
            self.cross = AttentionBlock(module, adapter.cross_attention, heads, None)

    @property
    def down_matrix(self) -> torch.Tensor:
        """The down projection's weight as [d, n], whatever its layout: column i is neuron i's value slot."""
        return self.slots.T

    @property
    def slots(self) -> torch.Tensor:
        """The value slots of all neurons, [n, d]: row i is neuron i's. Where they are, but for those of experts."""
        return self.layout.by_neuron(self.block.weight)

    def value_slots(self, neurons: torch.Tensor) -> torch.Tensor:
        """Copies the value slots of neurons [k], as [k, d] on the CPU, in the parameter's dtype."""
        return self.layout.read(self.block.weight, neurons)

    @property
    def down_shape(self) -> tuple[int, ...]:
        """The shape of the parameter that holds the value slots, as it is loaded."""
        return tuple(self.block.weight.shape)

    @property
    def bias(self) -> torch.Tensor:
        """What the feed-forward block writes beside its neurons' value slots for all rows alike, [d]."""
        return self.block.bias

    def attention_source(self, hidden: torch.Tensor) -> torch.Tensor:
        """What the attention's projections read: [..., d]."""
        return cast("torch.Tensor", self._attention_input(hidden))

    def project(
        self, hidden: torch.Tensor, turn: RotaryAngles | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key and value of rows: [N, R, d] to [N, h, R, s] and twice [N, h_kv, R, s]."""
        return self.attention.query_key_value(self.attention_source(hidden), turn)

    def residual(
        self, hidden: torch.Tensor, attended: torch.Tensor, memory: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """What the FFN's output is added to.

        Args:
            hidden: the layer's input rows, [..., d]; [N, R, d] where there is a memory.
            attended: what the attention mixed for them, [..., h·s].
            memory: the encoder's keys and values, twice [N, h, E, s], if the layer attends to an encoder.

        Returns:
            [..., d].
        """
        written = self._scaled(self._attention_output(self.attention.output(attended)))
        residual = self._attention_sum(hidden + written)
        if self.cross is not None and memory is not None:
            query = self.cross.query(self._cross_input(residual))
            residual = residual + self.cross.output(self.cross.attend(query, *memory))
        return cast("torch.Tensor", residual)

    def neurons(self, hidden: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """The activations that enter the down projection: rows [..., d] of input and residual to [..., n]."""
        return self.block.neurons(self._ffn_source(hidden, residual))

    def beside(self, hidden: torch.Tensor, residual: torch.Tensor) -> torch.Tensor | None:
        """What the feed-forward block writes beside the neurons' value slots, [..., d], where that depends on the rows.

        It does where experts have biases. Else it is `bias`, and this None.
        """
        return None if isinstance(self.block, DenseBlock) else self.block.beside(self._ffn_source(hidden, residual))

    def written(self, neurons: torch.Tensor, beside: torch.Tensor | None = None) -> torch.Tensor:
        """The feed-forward block's output, [..., d], from neurons [..., n] and what `beside` gave for their rows."""
        return self.block.written(neurons, beside)

    @property
    def write_norms(self) -> list[nn.Module]:
        """The norms, in order, that what the down projection writes passes within the layer."""
        return [norm for norm in (self._ffn_output, self._ffn_sum) if isinstance(norm, nn.Module)]

    def finish(self, residual: torch.Tensor, ffn_output: torch.Tensor) -> torch.Tensor:
        """The layer's output: [..., d]."""
        written = ffn_output if self._ffn_output is None else self._ffn_output(ffn_output)
        return cast("torch.Tensor", self._ffn_sum(residual + self._scaled(written)))

    def finish_with_part(self, residual: torch.Tensor, ffn_output: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
        """The layer's output if only a part of its FFN's output were written, [..., d].

        A norm on the FFN's output scales the part as it scales the whole output.

        Args:
            residual: what the output is added to, [..., d].
            ffn_output: the FFN's whole output, [..., d].
            part: some of its summands, [..., d].
        """
        if self._ffn_output is not None:
            scale = self._ffn_output(ffn_output) / torch.where(ffn_output == 0, 1, ffn_output)
            part = part * scale
        return cast("torch.Tensor", self._ffn_sum(residual + self._scaled(part)))

    def complete(self, hidden: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Feed-forward block and sum: input and residual rows [..., d] to the layer's output [..., d]."""
        return self.finish(residual, self.block.run(self._ffn_source(hidden, residual)))

    def _ffn_source(self, hidden: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return cast("torch.Tensor", self._ffn_input(hidden if self._parallel else residual))

    def _scaled(self, written: torch.Tensor) -> torch.Tensor:
        """What a block adds to the residual stream, of what it writes."""
        return written if self._factor is None else written * self._factor
