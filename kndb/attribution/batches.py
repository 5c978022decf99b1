"""Batches of encoded prompts: one shape each, sized by a memory budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch

from ..models.adapter import Blank, FeedForward
from ..models.network import Network
from ..models.prompting import EncodedPrompt
from .continuation import PromptBatch

CPU_BUDGET = 2**30
"""Bytes of activations held at once on a CPU: more does not make the matrix products faster."""
GPU_SHARE = 0.5
"""Share of a GPU's free memory used for activations."""
LAYER_BYTES = 2**24
"""Bytes of activations that a layer holds at once where its weights are brought."""
MOST_PROMPTS = {"cpu": 1024, "cuda": 4096, "mps": 1024}
"""Prompts in one batch at most: more do not make the matrix products faster, and are lost if the run is killed."""
NODES_PER_PROMPT = 2
"""New nodes of the cheapest default rule: the rows that a prompt brings at once."""


def most_prompts(device: torch.device) -> int:
    """The largest batch on a device, whatever its memory."""
    return MOST_PROMPTS.get(device.type, MOST_PROMPTS["cpu"])


def shape_of(prompt: EncodedPrompt) -> tuple[int, int, int]:
    """What prompts of one batch have in common: tokens, encoder tokens, tokens of the answer."""
    return len(prompt.ids), len(prompt.source), len(prompt.further)


def by_shape(prompts: Sequence[EncodedPrompt], size: int) -> Iterator[list[EncodedPrompt]]:
    """Batches of at most `size` prompts of one shape, short ones first, then by prompt id."""
    ordered = sorted(prompts, key=lambda prompt: (shape_of(prompt), prompt.prompt_id))
    for _, alike in groupby(ordered, key=shape_of):
        group = list(alike)
        for start in range(0, len(group), size):
            yield group[start : start + size]


def to_tensors(prompts: Sequence[EncodedPrompt], device: torch.device) -> PromptBatch:
    """The first questions of prompts of one shape as tensors on a device."""
    return PromptBatch(
        ids=torch.tensor([prompt.ids for prompt in prompts], device=device),
        position=torch.tensor([prompt.position for prompt in prompts], device=device),
        answer=torch.tensor([prompt.answer for prompt in prompts], device=device),
        source=torch.tensor([prompt.source for prompt in prompts], device=device, dtype=torch.int64),
    )


def automatic_size(network: Network, prompt: EncodedPrompt) -> int:
    """The number of prompts of a prompt's shape whose activations fit the device's memory budget, at least 1."""
    questions, tokens = len(prompt.further) + 1, _tokens(prompt)
    if network.residency is None:
        of_nodes = NODES_PER_PROMPT * _bytes_per_row(network, tokens)
    else:  # All layers' first nodes go through a layer together, so that it is brought once for all of them.
        of_nodes = NODES_PER_PROMPT * len(network.layers) * _bytes_under_way(network, tokens)
    per_prompt = of_nodes + questions * _bytes_of_base(network, tokens)
    return max(1, min(most_prompts(network.device), _budget(network) // per_prompt))


def rows_at_once(network: Network, prompts: int) -> int:
    """The nodes that are run together in a batch of so many prompts."""
    return NODES_PER_PROMPT * prompts * (1 if network.residency is None else len(network.layers))


def rows_of_layer(network: Network, prompt: EncodedPrompt) -> int:
    """The rows that a layer computes at once where its weights are brought for all of them."""
    return max(1, LAYER_BYTES // _bytes_of_layer(network, _tokens(prompt)))


def _tokens(prompt: EncodedPrompt) -> int:
    return len(prompt.ids) + len(prompt.source) + len(prompt.further)


def _perturbed(network: Network, tokens: int) -> int:
    """The positions that are run again for each node."""
    return tokens if network.adapter.blank is Blank.MASK else 1


def _bytes_of_layer(network: Network, tokens: int) -> int:
    """Activations kept for the backward pass by one copy of a prompt in one layer."""
    perturbed = _perturbed(network, tokens)
    hidden, neurons, heads = network.hidden_size, network.active_neurons, network.heads
    ffn = network.adapter.ffn
    inner = (3 if isinstance(ffn, FeedForward) and ffn.gate is None else 4) * neurons
    per_layer = perturbed * (12 * hidden + inner) + heads * perturbed * tokens
    return int(network.word_embeddings.element_size() * per_layer)


def _bytes_per_row(network: Network, tokens: int) -> int:
    """Activations kept for the backward pass by one copy of a prompt through all layers and the head."""
    vocabulary = int(network.word_embeddings.shape[0])
    # The head's logits are taken to single precision, whatever the layers compute in.
    return len(network.layers) * _bytes_of_layer(network, tokens) + 4 * 4 * vocabulary


def _bytes_under_way(network: Network, tokens: int) -> int:
    """What is kept of a node: its rows before each layer above it, half of all on average, and the gradient."""
    kept = (len(network.layers) // 2 + 2) * _perturbed(network, tokens)
    return int(network.word_embeddings.element_size() * kept * network.hidden_size + 4 * 4 * network.hidden_size)


def _bytes_of_base(network: Network, tokens: int) -> int:
    """What the base pass keeps of a prompt: its rows and scores, and every position's state or keys and values."""
    per_layer = tokens * 4 * network.hidden_size + 2 * network.neurons
    return int(network.word_embeddings.element_size() * len(network.layers) * per_layer)


def _budget(network: Network) -> int:
    device = network.device
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch holds for tensors to come is as good as free.
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int((free + held) * GPU_SHARE)
    return CPU_BUDGET if network.residency is None else min(CPU_BUDGET, network.residency.bytes_needed)
