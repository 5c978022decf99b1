"""One attention block of a layer, from its model's own modules.

Shapes: N sequences, T positions, R rows (positions that are computed), d hidden size, h heads of size s, of which
g·h_kv = h share keys and values by groups of g.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from .adapter import Attention, Heads, Rotation
from .paths import optional, resolve

DistanceParts = tuple[torch.Tensor | None, torch.Tensor | None]
"""Keys and queries that stand for the distances −(T − 1) to T − 1, each [h, 2T − 1, s] or None."""
RotaryAngles = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines of rows' positions for each of k kinds of layers, [N or 1, k, R, r]."""


def rotate(vectors: torch.Tensor, turn: RotaryAngles, rotation: Rotation) -> torch.Tensor:
    """Turns the first r entries of vectors [N, h, R, s] by their positions' angles, of which there is one kind."""
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
class Positions:
    """What the positions of sequences of length T bring to attention.

    Attributes:
        turn: cosines and sines of all positions, [1, k, T, r]; None without rotary embeddings.
        bias: added to the scores, [1 or h, T, T]; where distances have keys and queries of their own, the number of
            each distance among them instead; None without either.
    """

    turn: RotaryAngles | None
    bias: torch.Tensor | None

    def turn_of(self, position: torch.Tensor) -> RotaryAngles | None:
        """Cosines and sines of one position per sequence: positions [N] to [N, k, 1, r]."""
        if self.turn is None:
            return None
        cosine, sine = (part[0, :, position].transpose(0, 1).unsqueeze(2) for part in self.turn)
        return cosine, sine

    def turn_slice(self, start: int, stop: int) -> RotaryAngles | None:
        """Cosines and sines of positions start to stop − 1."""
        if self.turn is None:
            return None
        return self.turn[0][:, :, start:stop], self.turn[1][:, :, start:stop]

    def bias_of(self, position: torch.Tensor) -> torch.Tensor | None:
        """The bias of one query position per sequence: positions [N] to [N, h, 1, T]."""
        return None if self.bias is None else self.bias[:, position].transpose(0, 1).unsqueeze(2)


class AttentionBlock:
    """One attention block of a layer: projections, scores, output.

    Args:
        module: the layer.
        parts: where it has what.
        heads: its number of heads.
        rotation: which entries are turned together.
        kind: by which of the kinds of angles; None if it turns nothing.
        distances: gives what stands for distances between T positions.
    """

    def __init__(
        self,
        module: nn.Module,
        parts: Attention,
        heads: int,
        rotation: Rotation | None,
        kind: int | None = 0,
        distances: Callable[[int], DistanceParts] | None = None,
    ) -> None:
        self._projections = [resolve(module, path) for path in parts.query_key_value]
        self._layout = parts.heads
        self._heads = heads
        self._rotation = None if kind is None else rotation
        self._kind = kind or 0
        self._distances = distances
        self._query_norm = optional(module, parts.query_norm)
        self._key_norm = optional(module, parts.key_norm)
        self._normed_together = parts.normed_together
        self._scaling = self._factor(module, parts)
        self._softcap: float | None = optional(module, parts.softcap)
        self._sinks: torch.Tensor | None = optional(module, parts.sinks)
        self.output = resolve(module, parts.output)
        self._size = int(self.output.weight.shape[1]) // heads

    def _factor(self, module: nn.Module, parts: Attention) -> float | None:
        if isinstance(parts.scaling, str):
            return float(resolve(module, parts.scaling))
        # None: scaled dot products divide by √(head size) on their own.
        return parts.scaling(module) if callable(parts.scaling) else parts.scaling

    def query(self, source: torch.Tensor, turn: RotaryAngles | None = None) -> torch.Tensor:
        """Queries of rows alone: [N, R, d] to [N, h, R, s]. For blocks with a projection of their own for them."""
        return self._placed(self._projected(0, source, self._query_norm), self._norm_of_heads(self._query_norm), turn)

    def key_value(self, source: torch.Tensor, turn: RotaryAngles | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of rows alone: [N, R, d] to twice [N, h_kv, R, s]. For blocks with three projections."""
        key, value = self._projected(1, source, self._key_norm), self._projected(2, source, None)
        return self._placed(key, self._norm_of_heads(self._key_norm), turn), value.transpose(1, 2)

    def query_key_value(
        self, source: torch.Tensor, turn: RotaryAngles | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key and value of rows: [N, R, d] to [N, h, R, s] and twice [N, h_kv, R, s]."""
        if len(self._projections) > 1:
            return (self.query(source, turn), *self.key_value(source, turn))
        query, key, value = self._parted(self._projections[0](source))
        return (
            self._placed(query, self._query_norm, turn),
            self._placed(key, self._key_norm, turn),
            value.transpose(1, 2),
        )

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
            bias: added to the scores, broadcast to [N, h, R, T]; or the distances' numbers, broadcast to the same.
            causal: only over keys up to the query's own position; R = T then.

        Returns:
            [N, R, h·s].
        """
        if self._distances is not None and bias is not None:
            bias = self._scores_of_distances(query, key, bias, self._distances)
        if self._softcap is None and self._sinks is None:
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
        return self._mix(self._shares(scores), value).transpose(1, 2).flatten(2)

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
        weights = self._shares(scores)
        mixed = self._mix(weights[..., :-1], prefix_value) + weights[..., -1:] * own_value
        return mixed.transpose(1, 2).flatten(2)

    def _projected(self, which: int, source: torch.Tensor, norm: Any) -> torch.Tensor:
        """Queries, keys or values by their own projection, [N, R, h, s], normed if the norm is on all heads at once."""
        vectors = self._projections[which](source)
        if norm is not None and self._normed_together:
            vectors = norm(vectors)
        return cast("torch.Tensor", vectors.unflatten(-1, (-1, self._size)))

    def _parted(self, together: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What one projection gives, [N, R, (h + 2·h_kv)·s], as [N, R, h, s] and twice [N, R, h_kv, s]."""
        size, heads = self._size, self._heads
        shared = (together.shape[-1] // size - heads) // 2
        if self._layout is Heads.BY_HEAD:
            by_key = torch.unflatten(together, -1, (shared, -1, size))  # [N, R, h_kv, g + 2, s]
            return by_key[..., :-2, :].flatten(-3, -2), by_key[..., -2, :], by_key[..., -1, :]
        query, key, value = torch.split(torch.unflatten(together, -1, (-1, size)), [heads, shared, shared], dim=-2)
        return query, key, value

    def _norm_of_heads(self, norm: Any) -> Any:
        return None if self._normed_together else norm

    def _placed(self, vectors: torch.Tensor, norm: Any, turn: RotaryAngles | None) -> torch.Tensor:
        """Vectors [N, R, h, s] normed, [N, h, R, s], and turned."""
        if norm is not None:
            vectors = norm(vectors)
        vectors = vectors.transpose(1, 2)
        if turn is None or self._rotation is None:
            return vectors
        if turn[0].shape[1] > 1:
            turn = turn[0][:, self._kind : self._kind + 1], turn[1][:, self._kind : self._kind + 1]
        return rotate(vectors, turn, self._rotation)

    def _scores(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """Scores of queries [N, h, R, s] against keys [N, h_kv, T, s]: [N, h, R, T]."""
        grouped = torch.unflatten(query, 1, (key.shape[1], -1)).flatten(2, 3)  # [N, h_kv, g·R, s]
        scores = torch.unflatten(grouped @ key.transpose(-1, -2), 2, (-1, query.shape[2])).flatten(1, 2)
        return self._scaled(scores, query.shape[-1])

    def _scaled(self, scores: torch.Tensor, size: int) -> torch.Tensor:
        scores = scores * (size**-0.5 if self._scaling is None else self._scaling)
        return scores if self._softcap is None else self._softcap * torch.tanh(scores / self._softcap)

    def _shares(self, scores: torch.Tensor) -> torch.Tensor:
        """The softmax of scores [N, h, R, T], beside the heads' sinks if there are any."""
        if self._sinks is None:
            return scores.softmax(-1)
        sinks = self._sinks.to(scores.dtype).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        return torch.cat([scores, sinks], dim=-1).softmax(-1)[..., :-1]

    def _scores_of_distances(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        numbers: torch.Tensor,
        distances: Callable[[int], DistanceParts],
    ) -> torch.Tensor | None:
        """What distances add to scores: queries [N, h, R, s], keys [N, h, T, s], numbers as `bias`: [N, h, R, T]."""
        keys, queries = distances(key.shape[2])
        places = numbers.expand(*query.shape[:3], key.shape[2])
        found = None
        if keys is not None:
            found = (query @ keys.transpose(-1, -2)).gather(-1, places)
        if queries is not None:
            turned_around = (queries @ key.transpose(-1, -2)).gather(-2, places)
            found = turned_around if found is None else found + turned_around
        return None if found is None else self._scaled(found, query.shape[-1])

    def _mix(self, weights: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Values [N, h_kv, T, s] summed with weights [N, h, R, T]: [N, h, R, s]."""
        grouped = torch.unflatten(weights, 1, (value.shape[1], -1)).flatten(2, 3)
        return torch.unflatten(grouped @ value, 2, (-1, weights.shape[2])).flatten(1, 2)


def _future(query: torch.Tensor) -> torch.Tensor:
    """−∞ where a key lies after its query: [T, T] for queries [N, h, T, s]."""
    size = query.shape[2]
    return torch.full((size, size), -torch.inf, device=query.device, dtype=query.dtype).triu(1)
