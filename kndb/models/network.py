"""A model cut into the pieces that attribution runs on their own, by its adapter.

Shapes: N sequences, T positions, R rows (positions that are computed), d hidden size, n FFN neurons,
h heads of size s. A layer maps the residual stream x to its next state in four steps, all of them row-wise
except the attention itself:

    q, k, v  = projections of x (of norm(x) in a pre-norm block)
    residual = what the FFN's output is added to: x + o(attention), normed in a post-norm block
    w        = the FFN neurons: act(up(residual)), with residual normed first in a pre-norm block
    x'       = residual + down(w), normed in a post-norm block

Every step calls the model's own modules; nothing is copied, so a weight edited in the model counts here.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from .adapter import Adapter, NormPlace, SlotLayout


def resolve(root: Any, path: str) -> Any:
    """The module or attribute at a dotted path."""
    return reduce(getattr, path.split("."), root)


class Layer:
    """One transformer layer in pieces.

    Attributes:
        down: the down projection module.
    """

    def __init__(self, module: nn.Module, adapter: Adapter) -> None:
        self._pre = adapter.norms is NormPlace.PRE
        self._projections = [resolve(module, path) for path in adapter.query_key_value]
        self._scaling = float(resolve(module, adapter.scaling))
        self._attention_output = resolve(module, adapter.attention_output)
        self._attention_norm = resolve(module, adapter.attention_norm)
        self._up = resolve(module, adapter.up)
        self._activation = resolve(module, adapter.activation)
        self._ffn_norm = resolve(module, adapter.ffn_norm)
        self._layout = adapter.slots
        self.down = cast("nn.Module", resolve(module, adapter.down))

    @property
    def down_matrix(self) -> torch.Tensor:
        """The down projection's weight as [d, n], whatever its layout: column i is neuron i's value slot."""
        weight = cast("torch.Tensor", self.down.weight)
        return weight if self._layout is SlotLayout.COLUMN else weight.T

    @property
    def bias(self) -> torch.Tensor:
        """The down projection's bias [d], zeros if it has none."""
        bias = getattr(self.down, "bias", None)
        matrix = self.down_matrix
        return cast("torch.Tensor", bias) if bias is not None else matrix.new_zeros(matrix.shape[0])

    def project(self, hidden: torch.Tensor, heads: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key and value of rows: [N, R, d] to three times [N, h, R, s]."""
        source = self._attention_norm(hidden) if self._pre else hidden
        if len(self._projections) == 1:
            parts = self._projections[0](source).chunk(3, dim=-1)
        else:
            parts = tuple(projection(source) for projection in self._projections)
        query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
        return query, key, value

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, causal: bool) -> torch.Tensor:
        """Attention of every query over every key (up to its own position if causal): [N, R, h·s]."""
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=causal, scale=self._scaling)
        return mixed.transpose(1, 2).flatten(2)

    def attend_after_prefix(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        prefix_key: torch.Tensor,
        prefix_value: torch.Tensor,
    ) -> torch.Tensor:
        """Attention of rows that each see a common prefix and themselves, but not one another.

        Args:
            query: [N, h, R, s], as are key and value: R alternatives for the position after the prefix.
            key: the rows' own keys.
            value: the rows' own values.
            prefix_key: [N, h, P, s], as is prefix_value; P may be 0.
            prefix_value: values of the prefix.

        Returns:
            [N, R, h·s].
        """
        to_prefix = query @ prefix_key.transpose(-1, -2)  # [N, h, R, P]
        to_self = (query * key).sum(-1, keepdim=True)  # [N, h, R, 1]
        weights = (torch.cat([to_prefix, to_self], dim=-1) * self._scaling).softmax(-1)
        mixed = weights[..., :-1] @ prefix_value + weights[..., -1:] * value
        return mixed.transpose(1, 2).flatten(2)

    def residual(self, hidden: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """What the FFN's output is added to: [..., d] and [..., h·s] to [..., d]."""
        summed = hidden + self._attention_output(attended)
        return cast("torch.Tensor", summed if self._pre else self._attention_norm(summed))

    def neurons(self, residual: torch.Tensor) -> torch.Tensor:
        """The activations that enter the down projection: [..., d] to [..., n]."""
        source = self._ffn_norm(residual) if self._pre else residual
        return cast("torch.Tensor", self._activation(self._up(source)))

    def finish(self, residual: torch.Tensor, ffn_output: torch.Tensor) -> torch.Tensor:
        """The layer's output: [..., d]."""
        summed = residual + ffn_output
        return cast("torch.Tensor", summed if self._pre else self._ffn_norm(summed))


class Network:
    """A loaded model with its layers and head in pieces. Parameters need no gradient."""

    def __init__(self, model: nn.Module, adapter: Adapter) -> None:
        self.model = model
        self.adapter = adapter
        self.layers = [Layer(module, adapter) for module in resolve(model, adapter.layers)]
        self.heads = int(cast("Any", model.config).num_attention_heads)
        self._head = [resolve(model, path) for path in adapter.head]

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return next(self.model.parameters()).device

    @property
    def neurons(self) -> int:
        """FFN neurons per layer."""
        return int(self.layers[0].down_matrix.shape[1])

    @property
    def hidden_size(self) -> int:
        """Width d of the residual stream."""
        return int(self.layers[0].down_matrix.shape[0])

    @property
    def word_embeddings(self) -> torch.Tensor:
        """The input word embeddings, [vocabulary, d]."""
        embeddings = cast("Any", self.model).get_input_embeddings()
        return cast("torch.Tensor", embeddings.weight)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids [N, T] to the hidden state [N, T, d] that enters the first layer."""
        return self.adapter.embed(self.model, ids)

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """The head on rows of the last layer's output: [..., d] to [..., vocabulary]."""
        for module in self._head:
            rows = module(rows)
        return rows

    def down_parameter(self, layer: int) -> str:
        """The name that the down projection's weight has among the model's parameters."""
        return f"{self.adapter.layers}.{layer}.{self.adapter.down}.weight"
