"""Thousands of prompts at the lowest changed layer, and a model from there on with changes: for joint planning.

As `UpperLayers`, for more prompts and more slots. Of each position only what the lowest changed layer's FFN reads is
stored (d numbers; 2d where attention and FFN are parallel), and of each question the model's last hidden state without
changes (d numbers), from which its distribution is computed again where it is needed: V numbers for each question would
be fifty times as much. What takes more than `IN_MEMORY` bytes lies in a temporary file that is mapped into memory, so
that any number of prompts leaves the process within bounds: the system writes its pages out and reads them back.

Shapes: P questions, N positions, k changed slots of a layer, d hidden size, n FFN neurons, V vocabulary.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate

import torch

from ...errors import EditError
from ...models.network import Network
from ...models.prompting import EncodedPrompt
from .packed_prompts import Group, Memory, PackedPrompts, Packing

IN_MEMORY = 1 << 29
"""Bytes up to which stored states are held in memory."""

_LITTLE = 1e-3
"""The share of a change by which `moved` tries it."""

Slots = Mapping[int, torch.Tensor | None]
"""The slots that may change, by the lowest layer with their parameter: indices [k], rising, or None for all."""
Changes = Mapping[int, torch.Tensor]
"""Δv of the slots, [k, d], by layer as the slots are."""


class StoredLayers(PackedPrompts):
    """Questions, run up to the lowest changed layer; and from there on, with changes.

    Args:
        network: the model; its parameters are read, and need no gradient.
        slots: what may change.
        questions: at least one.
        moments_of: of which of them second moments are taken; none by default.
        in_memory: bytes of states that are held in memory; what takes more lies in a temporary file.

    Attributes:
        moments: by layer as the slots are, E[w wᵀ] of the slots' neurons w without changes, [k, k] in double precision
            on the CPU, over the positions of the questions named; empty without any.

    Raises:
        EditError: if the temporary folder has no room for the states.
    """

    def __init__(
        self,
        network: Network,
        slots: Slots,
        questions: Sequence[EncodedPrompt],
        *,
        moments_of: Collection[int] = (),
        in_memory: int = IN_MEMORY,
    ) -> None:
        super().__init__(network, questions)
        self._slots = {layer: None if chosen is None else chosen.to(network.device) for layer, chosen in slots.items()}
        owners = [network.canonical_layer(number) for number in range(len(network.layers))]
        self._owner = [owner if owner in self._slots else None for owner in owners]
        self._first = min(number for number, owner in enumerate(self._owner) if owner is not None)
        self._shortened = self._first == self._last
        self._parallel = network.adapter.parallel
        self._ratios: list[torch.Tensor] | None = None
        self._moments = _Moments(moments_of) if moments_of else None
        self._run_base(in_memory)
        self.moments = {} if self._moments is None else self._moments.mean()
        self._moments = None

    @torch.no_grad()
    def _run_base(self, in_memory: int) -> None:
        """Computes and stores what no change reaches."""
        network = self._network
        width = network.hidden_size
        encoded = [len(source) for source in self._sources]
        self._encoded_at = list(accumulate(encoded, initial=0))
        rows = len(self._ids) if self._shortened else sum(map(len, self._ids))
        like = network.word_embeddings
        room = _Room(like.dtype, in_memory)
        self._states = room.rows(rows, 2 * width if self._parallel else width)
        self._encoded = room.rows(sum(encoded), width)
        self._unchanged = room.rows(len(self._ids), width)
        for numbers in self._chunks():
            packing = self._pack(numbers)
            if network.adapter.encoder is not None:
                self._encode(packing)
            hidden = self._embedded(packing)
            for number in range(self._first):
                inputs, residual = self._up_to_residual(number, hidden, packing)
                hidden = network.layers[number].complete(inputs, residual)
            inputs, residual = self._up_to_residual(self._first, hidden, packing)
            state = torch.cat([residual, inputs], -1) if self._parallel else residual
            places = torch.tensor(packing.order) if self._shortened else packing.positions.cpu()
            self._states[places] = state[0].cpu()
            self._unchanged[torch.tensor(packing.order)] = self._above(packing, None)[0].cpu()

    def _encode(self, packing: Packing) -> None:
        for group in packing.groups:
            source = torch.tensor([self._sources[number] for number in group.numbers], device=self._network.device)
            found = self._network.encode(source)
            assert found is not None, "only models with an encoder are asked"
            for number, rows in zip(group.numbers, found, strict=True):
                self._encoded[self._encoded_at[number] : self._encoded_at[number + 1]] = rows.cpu()

    def _memory_of(self, number: int, group: Group) -> Memory:
        cross = self._network.layers[number].cross
        assert cross is not None, "only layers that attend to an encoder ask"
        places = (slice(self._encoded_at[one], self._encoded_at[one + 1]) for one in group.numbers)
        encoded = torch.stack([self._encoded[place] for place in places]).to(self._network.device)
        return cross.key_value(encoded)

    # --- with changes --------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many layers are run with changes: from the lowest changed one up."""
        return self._last + 1 - self._first

    def logits(self, numbers: Sequence[int], changes: Changes) -> torch.Tensor:
        """Logits [P, V] at the answer positions of some questions, in their order, each once; gradients reach Δv."""
        packing = self._pack(numbers)
        hidden = self._above(packing, changes)[0]
        back = {number: place for place, number in enumerate(packing.order)}
        return self._network.logits(hidden[[back[number] for number in numbers]])

    @torch.no_grad()
    def logits_before(self, numbers: Sequence[int]) -> torch.Tensor:
        """The same without changes, from what is stored."""
        return self._network.logits(self._unchanged[torch.tensor(list(numbers))].to(self._network.device))

    @torch.no_grad()
    def moved(self, numbers: Sequence[int], changes: Changes) -> float:
        """How far changes move the changed layers' outputs, in lengths of these outputs.

        A mean over the layers and the positions of some questions, to first order: each layer is changed alone, and by
        little.
        """
        self._ratios = []
        self._above(self._pack(numbers), {layer: change * _LITTLE for layer, change in changes.items()})
        ratios, self._ratios = self._ratios, None
        return float(torch.stack(ratios).mean()) / _LITTLE

    def _above(self, packing: Packing, changes: Changes | None) -> torch.Tensor:
        """The last layer's output at the answers' positions, [1, P, d]."""
        network = self._network
        places = torch.tensor(packing.order) if self._shortened else packing.positions.cpu()
        state = self._states[places].to(network.device).unsqueeze(0)
        residual, inputs = state.chunk(2, -1) if self._parallel else (state, state)
        hidden = self._completed(self._first, inputs, residual, changes, packing)
        for number in range(self._first + 1, self._last + 1):
            inputs, residual = self._up_to_residual(number, hidden, packing)
            hidden = self._completed(number, inputs, residual, changes, packing)
        return hidden

    def _completed(
        self, number: int, inputs: torch.Tensor, residual: torch.Tensor, changes: Changes | None, packing: Packing
    ) -> torch.Tensor:
        """A layer's output, with the changes, of its input and of what the FFN's output is added to, [1, N, d]."""
        layer, owner = self._network.layers[number], self._owner[number]
        if owner is None:
            return layer.complete(inputs, residual)
        chosen = self._slots[owner]
        neurons, beside = layer.neurons(inputs, residual), layer.beside(inputs, residual)
        if changes is None:
            if self._moments is not None:
                self._moments.add(owner, neurons[0] if chosen is None else neurons[0][:, chosen], packing)
            written = layer.written(neurons, beside)
        elif chosen is None:
            written = neurons @ (layer.slots + changes[owner]) + (layer.bias if beside is None else beside)
        else:
            written = layer.written(neurons, beside) + neurons[..., chosen] @ changes[owner]
        finished = layer.finish(residual, written)
        if self._ratios is None:
            return finished
        before = layer.finish(residual, layer.written(neurons, beside))
        self._ratios.append(((finished - before).norm(dim=-1) / before.norm(dim=-1).clamp_min(1e-30)).mean())
        return before


class _Moments:
    """Second moments of neurons over the positions of some questions, layer by layer."""

    def __init__(self, questions: Collection[int]) -> None:
        self._questions = frozenset(questions)
        self._sums: dict[int, torch.Tensor] = {}
        self._counts: dict[int, int] = {}

    def add(self, layer: int, neurons: torch.Tensor, packing: Packing) -> None:
        """Counts neurons [N or P, k] of all positions, or of the answers' alone, where their questions count."""
        each = [number in self._questions for number in packing.order]
        if len(neurons) > len(each):
            each = [flag for group in packing.groups for flag in _repeated(each, group)]
        counted = neurons[torch.tensor(each, device=neurons.device)]
        sums = self._sums.setdefault(layer, torch.zeros(neurons.shape[1], neurons.shape[1], dtype=torch.float64))
        sums += (counted.T @ counted).double().cpu()
        self._counts[layer] = self._counts.get(layer, 0) + len(counted)

    def mean(self) -> dict[int, torch.Tensor]:
        """E[w wᵀ] by layer."""
        return {layer: sums / max(1, self._counts[layer]) for layer, sums in self._sums.items()}


def _repeated(flags: Sequence[bool], group: Group) -> list[bool]:
    """The flags of a group's questions, for each of their positions."""
    return [flags[group.first + place] for place in range(group.count) for _ in range(group.tokens)]


class _Room:
    """Where states are stored: in memory up to a number of bytes, then in temporary files."""

    def __init__(self, dtype: torch.dtype, in_memory: int) -> None:
        self._dtype = dtype
        self._left = in_memory

    def rows(self, count: int, width: int) -> torch.Tensor:
        """Room for so many rows, on the CPU.

        Raises:
            EditError: if the temporary folder lacks the room.
        """
        size = count * width * self._dtype.itemsize
        if size <= self._left:
            self._left -= size
            return torch.empty(count, width, dtype=self._dtype)
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        if size > free:
            raise EditError(
                f"{folder} has {free >> 20} MiB free, and the states of the prompts take {size >> 20} MiB; free some "
                "room, name another folder in TMPDIR, or keep fewer facts"
            )
        # The file has no name any more when this returns; its room is free again when the rows are.
        with tempfile.NamedTemporaryFile(prefix="kndb-states-") as file:
            file.truncate(size)
            whole = torch.from_file(file.name, shared=True, size=count * width, dtype=self._dtype)
        return whole.view(count, width)
