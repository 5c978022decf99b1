"""Sentences through a model's layers: all of them once, and again from one layer up with other outputs there.

Positions of all sentences stand in one row without padding: every step of a layer works position by position, but for
attention, which runs on the sentences of one shape together. A changed output of a layer changes what lies above it:
in a causal model from its place on, so the keys and values before that are computed once; in a masked model everywhere.

Shapes: P sentences, N their computed positions together, d hidden size, n FFN neurons, h heads of size s, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ...advice import Placeholder, call
from ...errors import EditError
from ...models.adapter import Blank, Experts
from ...models.attention import RotaryAngles
from ...models.network import Network
from .sentences import Sentence

_AT_ONCE = 4096
"""Positions that are run at once where no graph is kept."""

KeysAndValues = tuple[torch.Tensor, torch.Tensor]
"""Of the positions before the computed ones, twice [h_kv, S, s]."""


@dataclass(frozen=True)
class _Group:
    """Sentences of one shape that stand side by side.

    Attributes:
        first: the first of their rows.
        numbers: which of all sentences.
        rows: computed positions of each, the last ones.
        tokens: positions of each.
    """

    first: int
    numbers: tuple[int, ...]
    rows: int
    tokens: int

    @property
    def skipped(self) -> int:
        """Positions that are not computed."""
        return self.tokens - self.rows

    def of(self, packed: torch.Tensor) -> torch.Tensor:
        """Their part of vectors [1, h, N, s]: [B, h, R, s]."""
        part = packed[0, :, self.first : self.first + len(self.numbers) * self.rows]
        return torch.unflatten(part, 1, (len(self.numbers), self.rows)).transpose(0, 1)


@dataclass(frozen=True)
class Packing:
    """Some sentences in one row.

    Attributes:
        groups: those of one shape.
        row: by sentence, where its first computed position stands.
        turn: cosines and sines of the rows' positions, if the model turns queries and keys.
    """

    groups: tuple[_Group, ...]
    row: dict[int, int]
    turn: RotaryAngles | None


@dataclass(frozen=True)
class LayerRows:
    """What one layer makes of the rows of a packing.

    Attributes:
        layer: the layer.
        packing: what stands where.
        residual: what the FFN's output is added to, [N, d].
        neurons: the FFN neurons, [N, n].
        written: what the down projection makes of them, [N, d].
    """

    layer: int
    packing: Packing
    residual: torch.Tensor
    neurons: torch.Tensor
    written: torch.Tensor


def refuse_unfit(network: Network) -> None:
    """Refuses an encoder–decoder, and a mixture of experts.

    Raises:
        EditError: if the model is one.
    """
    if isinstance(network.adapter.ffn, Experts):
        # A key is the input of one down projection; here each token has those of some experts, of which the others see
        # nothing: what their part of a solution should be is an open question.
        raise EditError(
            f"this {network.adapter.family} model is a mixture of experts; edits of many facts by keys are computed on "
            "models with one feed-forward block a layer. Plan them together by gradient steps: "
            + call("edits.plan_together", model=Placeholder("NAME"), targets=Placeholder("FILE"))
        )
    if network.adapter.encoder is not None:
        raise EditError(
            f"this {network.adapter.family} model has an encoder; edits of many facts by keys are computed on models "
            "without one"
        )


class Passes:
    """Sentences of one model.

    Args:
        network: the model; its parameters are read as they are at each pass.
        sentences: the sentences, at least one.
        partly: compute each sentence from its place on alone; the keys and values before it come from `run_base`.

    Raises:
        EditError: if the model has an encoder or experts.
    """

    def __init__(self, network: Network, sentences: Sequence[Sentence], *, partly: bool = False) -> None:
        refuse_unfit(network)
        self._network = network
        self._sentences = list(sentences)
        self._causal = network.adapter.blank is not Blank.MASK
        self._start = [one.place if partly and self._causal else 0 for one in self._sentences]
        self._before: list[dict[int, KeysAndValues]] = [{} for _ in self._sentences]

    @torch.no_grad()
    def run(self, top: int) -> Iterator[LayerRows]:
        """Runs all positions of all sentences from the embeddings to a layer's FFN, some sentences at a time."""
        network = self._network
        for numbers in self._chunks():
            packing = self._pack(numbers, [0] * len(self._sentences))
            hidden = torch.cat([self._embedded(group) for group in packing.groups]).unsqueeze(0)
            for number in range(top + 1):
                residual, neurons = self._layer(number, hidden, packing, keep=True)
                written = network.layers[number].down(neurons)
                yield LayerRows(number, packing, residual[0], neurons[0], written[0])
                hidden = network.layers[number].finish(residual, written)

    def _embedded(self, group: _Group) -> torch.Tensor:
        ids = torch.tensor([self._sentences[number].ids for number in group.numbers], device=self._network.device)
        return self._network.embed(ids).flatten(0, 1)

    def _layer(
        self, number: int, hidden: torch.Tensor, packing: Packing, *, keep: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What a layer's FFN output is added to, and its neurons: [1, N, d] and [1, N, n]."""
        layer = self._network.layers[number]
        query, key, value = layer.project(hidden, packing.turn)
        attended = []
        for group in packing.groups:
            keys, values = group.of(key), group.of(value)
            if keep:
                self._remember(number, group, keys, values)
            bias, causal = self._network.positions(group.tokens).bias, self._causal
            if group.skipped:
                before = [self._before[one][number] for one in group.numbers]
                keys, values = (
                    torch.cat([torch.stack([pair[part] for pair in before]), own], 2)
                    for part, own in enumerate((keys, values))
                )
                bias, causal = _later_rows(bias, group, key), False
            attended.append(layer.attention.attend(group.of(query), keys, values, bias=bias, causal=causal))
        residual = layer.residual(hidden, torch.cat([part.flatten(0, 1) for part in attended]).unsqueeze(0))
        return residual, layer.neurons(hidden, residual)

    def _remember(self, layer: int, group: _Group, keys: torch.Tensor, values: torch.Tensor) -> None:
        for place, number in enumerate(group.numbers):
            if self._start[number]:
                stop = self._start[number]
                self._before[number][layer] = keys[place, :, :stop].clone(), values[place, :, :stop].clone()

    def _chunks(self) -> Iterator[list[int]]:
        chunk: list[int] = []
        tokens = 0
        for number in sorted(range(len(self._sentences)), key=lambda number: len(self._sentences[number].ids)):
            size = len(self._sentences[number].ids)
            if chunk and tokens + size > _AT_ONCE:
                yield chunk
                chunk, tokens = [], 0
            chunk.append(number)
            tokens += size
        yield chunk

    def _pack(self, numbers: Sequence[int], starts: Sequence[int]) -> Packing:
        alike: dict[tuple[int, int], list[int]] = {}
        for number in sorted(numbers):
            alike.setdefault((len(self._sentences[number].ids), starts[number]), []).append(number)
        groups: list[_Group] = []
        row: dict[int, int] = {}
        turns: list[RotaryAngles] = []
        first = 0
        for (tokens, start), members in sorted(alike.items()):
            groups.append(_Group(first, tuple(members), tokens - start, tokens))
            for member in members:
                row[member] = first
                first += tokens - start
            turn = self._network.positions(tokens).turn_slice(start, tokens)
            if turn is not None:
                turns += [turn] * len(members)
        if not turns:
            return Packing(tuple(groups), row, None)
        cosines, sines = zip(*turns, strict=True)
        return Packing(tuple(groups), row, (torch.cat(cosines, 2), torch.cat(sines, 2)))


class UpwardPasses(Passes):
    """Sentences that are run again and again from one layer up, with vectors added to its down projection's output.

    Args:
        network: the model; no parameter may change in between.
        layer: the layer.
        sentences: the sentences, at least one.

    Attributes:
        written: what the down projection writes at each sentence's place, [P, d].
        stream: the sum of that with what it is added to, [P, d].
    """

    def __init__(self, network: Network, layer: int, sentences: Sequence[Sentence]) -> None:
        super().__init__(network, sentences, partly=True)
        self._base = layer
        self._residual: list[torch.Tensor] = [torch.empty(0)] * len(self._sentences)
        self._written = list(self._residual)
        top = len(network.layers) - 1 if self._causal else layer
        for rows in self.run(top):
            if rows.layer != layer:
                continue
            for number, first in rows.packing.row.items():
                part = slice(first + self._start[number], first + len(self._sentences[number].ids))
                self._residual[number] = rows.residual[part].clone()
                self._written[number] = rows.written[part].clone()
        places = [one.place - start for one, start in zip(self._sentences, self._start, strict=True)]
        self.written = torch.stack([part[place] for part, place in zip(self._written, places, strict=True)])
        residual = torch.stack([part[place] for part, place in zip(self._residual, places, strict=True)])
        self.stream = self.written + residual

    def logits(self, numbers: Sequence[int], added: torch.Tensor | None = None) -> list[torch.Tensor]:
        """Logits where the answers of some sentences are read.

        Args:
            numbers: which of the sentences, at least one, each once.
            added: what the layer's down projection writes more at their places, [P, d], in the order of the numbers;
                gradients reach it.

        Returns:
            For each sentence [answer tokens, V], in the order of the numbers.
        """
        network, packing = self._network, self._pack(numbers, self._start)
        order = [number for group in packing.groups for number in group.numbers]
        written = torch.cat([self._written[number] for number in order])
        if added is not None:
            at = [packing.row[one] + self._sentences[one].place - self._start[one] for one in numbers]
            written = written.index_add(0, torch.tensor(at, device=written.device), added.to(written.dtype))
        residual = torch.cat([self._residual[number] for number in order]).unsqueeze(0)
        hidden = network.layers[self._base].finish(residual, written.unsqueeze(0))
        for number in range(self._base + 1, len(network.layers)):
            residual, neurons = self._layer(number, hidden, packing)
            hidden = network.layers[number].finish(residual, network.layers[number].down(neurons))
        reads = [[packing.row[one] + at - self._start[one] for at in self._sentences[one].reads] for one in numbers]
        rows = hidden[0, [at for some in reads for at in some]]
        return list(torch.split(network.logits(rows), [len(some) for some in reads]))


def _later_rows(bias: torch.Tensor | None, group: _Group, like: torch.Tensor) -> torch.Tensor:
    """What is added to the scores of a group's computed rows over all positions, −∞ for those after each row."""
    future = torch.full((group.rows, group.tokens), -torch.inf, device=like.device, dtype=like.dtype)
    future = future.triu(group.skipped + 1)
    return future if bias is None else bias[:, group.skipped :] + future
