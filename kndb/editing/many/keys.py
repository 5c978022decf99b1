"""Keys of facts: what goes into a layer's down projection at their places; and what comes out there.

Shapes: P sentences, U rewrites, n FFN neurons, d hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ...models.adapter import Blank
from ...models.network import Network
from .passes import Passes
from .sentences import Rewrite, Sentence


@dataclass(frozen=True, eq=False)
class AtPlaces:
    """What a layer does at the places of sentences, in double precision, on the CPU.

    Attributes:
        keys: the input of its down projection, [P, n].
        stream: what the down projection writes and what that is added to, [P, d]; before a norm that stands on the sum.
    """

    keys: torch.Tensor
    stream: torch.Tensor


def at_places(network: Network, sentences: Sequence[Sentence], layers: Sequence[int]) -> dict[int, AtPlaces]:
    """Keys and outputs of some layers at the places of sentences, on the weights as they are.

    Args:
        network: the model.
        sentences: the sentences, at least one.
        layers: which layers.

    Raises:
        EditError: if the model has an encoder.
    """
    found = {
        layer: (
            torch.empty(len(sentences), network.neurons, dtype=torch.float64),
            torch.empty(len(sentences), network.hidden_size, dtype=torch.float64),
        )
        for layer in layers
    }
    for rows in Passes(network, sentences).run(max(layers)):
        if rows.layer not in found:
            continue
        keys, stream = found[rows.layer]
        numbers = list(rows.packing.row)
        at = [first + sentences[number].place for number, first in rows.packing.row.items()]
        keys[numbers] = rows.neurons[at].double().cpu()
        stream[numbers] = (rows.residual[at] + rows.written[at]).double().cpu()
    return {layer: AtPlaces(*pair) for layer, pair in found.items()}


def every_key(
    network: Network, sentences: Sequence[Sentence], layers: Sequence[int]
) -> Iterator[tuple[int, torch.Tensor]]:
    """The keys of all positions of some sentences, layer by layer, [tokens, n] in the model's dtype.

    Of a causal model, all but each sentence's first: decoders look at that token whatever it is, and have neurons there
    that are a thousand times as active as anywhere else. A sum with them would be of first tokens alone.
    """
    causal = network.adapter.blank is not Blank.MASK
    for rows in Passes(network, sentences).run(max(layers)):
        if rows.layer in layers:
            counted = torch.ones(len(rows.neurons), dtype=torch.bool)
            counted[list(rows.packing.row.values())] = not causal
            yield rows.layer, rows.neurons[counted.to(rows.neurons.device)]


def mean_of_each(values: torch.Tensor, rewrites: Sequence[Rewrite]) -> torch.Tensor:
    """The means over each rewrite's sentences of values [P, …] that stand in their order: [U, …]."""
    parts = torch.split(values, [len(one.sentences) for one in rewrites])
    return torch.stack([part.mean(0) for part in parts])


def all_sentences(rewrites: Sequence[Rewrite]) -> list[Sentence]:
    """The sentences of rewrites, one after the other."""
    return [sentence for one in rewrites for sentence in one.sentences]
