"""A model cut into the pieces that attribution runs on their own, by its adapter.

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

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from ..errors import UnsupportedModelError
from .activations import fused
from .adapter import Adapter, Attention, Heads, Rotation, SlotLayout

Turn = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines of rows' positions, [N or 1, 1, R, r]."""


def resolve(root: Any, path: str) -> Any:
    """The module or attribute at a dotted path."""
    return reduce(getattr, path.split("."), root)


def _optional(module: Any, path: str | None) -> Any:
    return None if path is None else resolve(module, path)


def _identity(hidden: torch.Tensor) -> torch.Tensor:
    return hidden


def rotate(vectors: torch.Tensor, turn: Turn, rotation: Rotation) -> torch.Tensor:
    """Turns the first r entries of vectors [N, h, R, s] by their positions' angles."""
    cosine, sine = turn
    turned, kept = vectors[..., : cosine.shape[-1]], vectors[..., cosine.shape[-1] :]
    if rotation is Rotation.HALVES:
        first, second = turned.chunk(2, dim=-1)
        crossed = torch.cat([-second, first], dim=-1)
    else:
        crossed = torch.stack([-turned[..., 1::2], turned[..., ::2]], dim=-1).flatten(-2)
    turned = turned * cosine + crossed * sine
    return torch.cat([turned, kept], dim=-1) if kept.shape[-1] else turned


@dataclass(frozen=True)
class Places:
    """What the positions of sequences of length T bring to attention.

    Attributes:
        turn: cosines and sines of all positions, [1, 1, T, r]; None without rotary embeddings.
        bias: added to the scores, [1 or h, T, T]; None where nothing is.
    """

    turn: Turn | None
    bias: torch.Tensor | None

    def turn_of(self, position: torch.Tensor) -> Turn | None:
        """Cosines and sines of one position per sequence: positions [N] to [N, 1, 1, r]."""
        if self.turn is None:
            return None
        cosine, sine = (part[0, 0][position][:, None, None] for part in self.turn)
        return cosine, sine

    def turn_slice(self, start: int, stop: int) -> Turn | None:
        """Cosines and sines of positions start to stop − 1."""
        if self.turn is None:
            return None
        return self.turn[0][:, :, start:stop], self.turn[1][:, :, start:stop]

    def bias_of(self, position: torch.Tensor) -> torch.Tensor | None:
        """The bias of one query position per sequence: positions [N] to [N, h, 1, T]."""
        return None if self.bias is None else self.bias[:, position].transpose(0, 1).unsqueeze(2)


class AttentionBlock:
    """One attention block of a layer: projections, scores, output."""

    def __init__(self, module: nn.Module, parts: Attention, heads: int, rotation: Rotation | None) -> None:
        self._projections = [resolve(module, path) for path in parts.query_key_value]
        self._layout = parts.heads
        self._heads = heads
        self._rotation = rotation
        self._query_norm = _optional(module, parts.query_norm)
        self._key_norm = _optional(module, parts.key_norm)
        self._scaling = self._factor(module, parts)
        self._softcap: float | None = _optional(module, parts.softcap)
        self.output = resolve(module, parts.output)

    def _factor(self, module: nn.Module, parts: Attention) -> float | None:
        if isinstance(parts.scaling, str):
            return float(resolve(module, parts.scaling))
        return parts.scaling  # None: scaled dot products divide by √(head size) on their own.

    def query(self, source: torch.Tensor, turn: Turn | None = None) -> torch.Tensor:
        """Queries of rows alone: [N, R, d] to [N, h, R, s]. For blocks with a projection of their own for them."""
        query = self._projections[0](source).unflatten(-1, (self._heads, -1)).transpose(1, 2)
        return self._placed(query, self._query_norm, turn)

    def key_value(self, source: torch.Tensor, turn: Turn | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of rows alone: [N, R, d] to twice [N, h_kv, R, s]. For blocks with three projections."""
        size = self._projections[0].weight.shape[0] // self._heads
        key, value = (part(source).unflatten(-1, (-1, size)).transpose(1, 2) for part in self._projections[1:])
        return self._placed(key, self._key_norm, turn), value

    def query_key_value(
        self, source: torch.Tensor, turn: Turn | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key and value of rows: [N, R, d] to [N, h, R, s] and twice [N, h_kv, R, s]."""
        if len(self._projections) > 1:
            return (self.query(source, turn), *self.key_value(source, turn))
        fused = self._projections[0](source)
        if self._layout is Heads.BY_HEAD:
            parts = fused.unflatten(-1, (self._heads, 3, -1)).unbind(-2)
        else:
            parts = fused.unflatten(-1, (3, self._heads, -1)).unbind(-3)
        query, key, value = (part.transpose(1, 2) for part in parts)
        return self._placed(query, self._query_norm, turn), self._placed(key, self._key_norm, turn), value

    @property
    def separate(self) -> bool:
        """Whether query, key and value can be computed one without the others."""
        return len(self._projections) > 1

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        bias: torch.Tensor | None = None,
        causal: bool = False,
    ) -> torch.Tensor:
        """Attention of every query over every key (up to its own position if causal).

        Args:
            query: [N, h, R, s].
            key: [N, h_kv, T, s], as is value.
            value: the keys' values.
            bias: added to the scores, broadcast to [N, h, R, T].
            causal: only over keys up to the query's own position; R = T then.

        Returns:
            [N, R, h·s].
        """
        if self._softcap is None:
            if causal and bias is not None:
                bias, causal = bias + _future(query), False
            mixed = functional.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=None if bias is None else bias.to(query.dtype),
                is_causal=causal,
                scale=self._scaling,
                enable_gqa=key.shape[1] != query.shape[1],
            )
            return mixed.transpose(1, 2).flatten(2)
        scores = self._scores(query, key)
        if bias is not None:
            scores = scores + bias
        if causal:
            scores = scores + _future(query)
        return self._mix(scores.softmax(-1), value).transpose(1, 2).flatten(2)

    def attend_after_prefix(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        prefix_key: torch.Tensor,
        prefix_value: torch.Tensor,
        bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attention of rows that each see a common prefix and themselves, but not one another.

        Args:
            query: [N, h, R, s]: R alternatives for the position after the prefix.
            key: the rows' own keys, [N, h_kv, R, s], as is value.
            value: the rows' own values.
            prefix_key: [N, h_kv, P, s], as is prefix_value; P may be 0.
            prefix_value: values of the prefix.
            bias: added to the scores of that position, [1 or h, P + 1].

        Returns:
            [N, R, h·s].
        """
        groups = query.shape[1] // key.shape[1]
        own_key, own_value = (part.repeat_interleave(groups, dim=1) if groups > 1 else part for part in (key, value))
        to_self = (query * own_key).sum(-1, keepdim=True)  # [N, h, R, 1]
        scores = torch.cat([self._scores(query, prefix_key), self._scaled(to_self, query.shape[-1])], dim=-1)
        if bias is not None:
            scores = scores + bias.unsqueeze(1)
        weights = scores.softmax(-1)
        mixed = self._mix(weights[..., :-1], prefix_value) + weights[..., -1:] * own_value
        return mixed.transpose(1, 2).flatten(2)

    def _placed(self, vectors: torch.Tensor, norm: Any, turn: Turn | None) -> torch.Tensor:
        if norm is not None:
            vectors = norm(vectors)
        return vectors if turn is None or self._rotation is None else rotate(vectors, turn, self._rotation)

    def _scores(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """Scores of queries [N, h, R, s] against keys [N, h_kv, T, s]: [N, h, R, T]."""
        grouped = torch.unflatten(query, 1, (key.shape[1], -1)).flatten(2, 3)  # [N, h_kv, g·R, s]
        scores = torch.unflatten(grouped @ key.transpose(-1, -2), 2, (-1, query.shape[2])).flatten(1, 2)
        return self._scaled(scores, query.shape[-1])

    def _scaled(self, scores: torch.Tensor, size: int) -> torch.Tensor:
        scores = scores * (size**-0.5 if self._scaling is None else self._scaling)
        return scores if self._softcap is None else self._softcap * torch.tanh(scores / self._softcap)

    def _mix(self, weights: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Values [N, h_kv, T, s] summed with weights [N, h, R, T]: [N, h, R, s]."""
        grouped = torch.unflatten(weights, 1, (value.shape[1], -1)).flatten(2, 3)
        return torch.unflatten(grouped @ value, 2, (-1, weights.shape[2])).flatten(1, 2)


def _future(query: torch.Tensor) -> torch.Tensor:
    """−∞ where a key lies after its query: [T, T] for queries [N, h, T, s]."""
    size = query.shape[2]
    return torch.full((size, size), -torch.inf, device=query.device, dtype=query.dtype).triu(1)


class Layer:
    """One transformer layer in pieces.

    Attributes:
        attention: its attention block.
        cross: its attention over an encoder's output, if it has one.
        down: the down projection module.
        down_path: the path of its weight from the model: the parameter that holds the value slots.
    """

    def __init__(self, module: nn.Module, path: str, adapter: Adapter, heads: int) -> None:
        norms = adapter.norms
        self._parallel = adapter.parallel
        self._attention_input = _optional(module, norms.attention_input) or _identity
        self._attention_output = _optional(module, norms.attention_output) or _identity
        self._attention_sum = _optional(module, norms.attention_sum) or _identity
        self._cross_input = _optional(module, norms.cross_input) or _identity
        self._ffn_input = _optional(module, norms.ffn_input) or _identity
        self._ffn_output = _optional(module, norms.ffn_output)
        self._ffn_sum = _optional(module, norms.ffn_sum) or _identity
        self._up = resolve(module, adapter.ffn.up)
        self._gate = _optional(module, adapter.ffn.gate)
        self._activation = fused(resolve(module, adapter.ffn.activation))
        self._layout = adapter.ffn.slots
        self.attention = AttentionBlock(module, adapter.attention, heads, adapter.rotation)
        self.cross = None
        if adapter.cross_attention is not None:
            self.cross = AttentionBlock(module, adapter.cross_attention, heads, None)
        self.down = cast("nn.Module", resolve(module, adapter.ffn.down))
        self.down_path = f"{path}.{adapter.ffn.down}.weight"

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

    def attention_source(self, hidden: torch.Tensor) -> torch.Tensor:
        """What the attention's projections read: [..., d]."""
        return cast("torch.Tensor", self._attention_input(hidden))

    def project(
        self, hidden: torch.Tensor, turn: Turn | None = None
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
        residual = self._attention_sum(hidden + self._attention_output(self.attention.output(attended)))
        if self.cross is not None and memory is not None:
            query = self.cross.query(self._cross_input(residual))
            residual = residual + self.cross.output(self.cross.attend(query, *memory))
        return cast("torch.Tensor", residual)

    def neurons(self, hidden: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """The activations that enter the down projection: rows [..., d] of input and residual to [..., n]."""
        source = self._ffn_input(hidden if self._parallel else residual)
        if self._gate is None:
            return cast("torch.Tensor", self._activation(self._up(source)))
        return cast("torch.Tensor", self._activation(self._gate(source)) * self._up(source))

    @property
    def write_norms(self) -> list[nn.Module]:
        """The norms, in order, that what the down projection writes passes within the layer."""
        return [norm for norm in (self._ffn_output, self._ffn_sum) if isinstance(norm, nn.Module)]

    def finish(self, residual: torch.Tensor, ffn_output: torch.Tensor) -> torch.Tensor:
        """The layer's output: [..., d]."""
        written = ffn_output if self._ffn_output is None else self._ffn_output(ffn_output)
        return cast("torch.Tensor", self._ffn_sum(residual + written))

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
        return cast("torch.Tensor", self._ffn_sum(residual + part))

    def complete(self, hidden: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Feed-forward block and sum: input and residual rows [..., d] to the layer's output [..., d]."""
        return self.finish(residual, self.down(self.neurons(hidden, residual)))


class Network:
    """A loaded model with its layers and head in pieces. Parameters need no gradient.

    Args:
        model: a transformers model with its head.
        adapter: of its family.

    Raises:
        UnsupportedModelError: if the model has no layers.
    """

    def __init__(self, model: nn.Module, adapter: Adapter) -> None:
        config = cast("Any", model.config)
        self.model = model
        self.adapter = adapter
        self.heads = int(config.num_attention_heads)
        paths = _layer_paths(model, adapter)
        if not paths:
            raise UnsupportedModelError(f"found a {adapter.family} model without layers; expected at least one")
        self.layers = [Layer(resolve(model, path), path, adapter, self.heads) for path in paths]
        self._final_norm = _optional(model, adapter.final_norm) or _identity
        self._head = [_head_step(model, step) for step in adapter.head]
        self._places: dict[tuple[int, torch.device, torch.dtype], Places] = {}

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """While open, no parameter asks for a gradient: what lies below the first changed value needs no graph then."""
        asking = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        try:
            self.model.requires_grad_(False)
            yield
        finally:
            for parameter in asking:
                parameter.requires_grad_()

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return self.word_embeddings.device

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
        """The input word embeddings, [vocabulary, e]; e is d, unless the model widens them for its residual stream."""
        embeddings = cast("Any", self.model).get_input_embeddings()
        return cast("torch.Tensor", embeddings.weight)

    @property
    def output_embeddings(self) -> torch.Tensor:
        """The matrix that gives the logits, [vocabulary, e]: row y times the head's last vector is token y's logit."""
        embeddings = cast("Any", self.model).get_output_embeddings()
        return cast("torch.Tensor", embeddings.weight)

    @property
    def final_norms(self) -> list[nn.Module]:
        """The norm between the last layer and the head; none where the last layer ends with one."""
        return [self._final_norm] if isinstance(self._final_norm, nn.Module) else []

    @property
    def head_steps(self) -> list[Any]:
        """The head's steps in order: modules, and functions of rows."""
        return list(self._head)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids [N, T] to the hidden state [N, T, d] that enters the first layer."""
        return self.adapter.embed(self.model, ids)

    def encode(self, source: torch.Tensor) -> torch.Tensor | None:
        """The encoder's output for token ids [N, E]: [N, E, d]; None for models without an encoder."""
        if self.adapter.encoder is None:
            return None
        encoder = resolve(self.model, self.adapter.encoder)
        return cast("torch.Tensor", encoder(input_ids=source).last_hidden_state)

    def places(self, tokens: int) -> Places:
        """What the positions of sequences of a length bring to attention; kept for each length."""
        like = self.word_embeddings
        key = (tokens, like.device, like.dtype)
        if key not in self._places:
            turn = bias = None
            if self.adapter.rotary is not None:
                positions = torch.arange(tokens, device=like.device)
                cosine, sine = self.adapter.rotary(self.model, positions)
                turn = cosine.to(like.dtype)[None, None], sine.to(like.dtype)[None, None]
            if self.adapter.bias is not None:
                bias = self.adapter.bias(self.model, tokens).detach().to(like.dtype)
            self._places[key] = Places(turn, bias)
        return self._places[key]

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """The head on rows of the last layer's output: [..., d] to [..., vocabulary]."""
        return self.head(self._final_norm(rows))

    def head(self, rows: torch.Tensor) -> torch.Tensor:
        """The head on rows of the body's last hidden state: [..., d] to [..., vocabulary]."""
        for step in self._head:
            rows = step(rows)
        return rows

    def down_parameter(self, layer: int) -> str:
        """The name that the down projection's weight has among the model's parameters; shared layers share it."""
        return self.layers[layer].down_path

    def canonical_layer(self, layer: int) -> int:
        """The lowest layer with the same down projection: the layer itself unless the model shares layers."""
        path = self.layers[layer].down_path
        return next(number for number, other in enumerate(self.layers) if other.down_path == path)


def _layer_paths(model: nn.Module, adapter: Adapter) -> list[str]:
    if callable(adapter.layers):
        return adapter.layers(model)
    return [f"{adapter.layers}.{number}" for number in range(len(resolve(model, adapter.layers)))]


def _head_step(model: nn.Module, step: str | Callable[[Any, torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(step, str):
        return resolve(model, step)
    return lambda rows: step(model, rows)
