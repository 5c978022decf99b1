"""Batches of encoded prompts: one token length each, sized by a memory budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch

from ..models.adapter import Blank
from ..models.network import Network
from ..models.prompting import EncodedPrompt
from .continuation import PromptBatch

CPU_BUDGET = 512 * 2**20
"""Bytes of activations held at once on a CPU: more does not make the matrix products faster."""
GPU_SHARE = 0.5
"""Share of a GPU's free memory used for activations."""
NODES_PER_PROMPT = 2
"""New nodes of the cheapest default rule: the rows that a prompt brings at once."""


def by_length(prompts: Sequence[EncodedPrompt], size: int) -> Iterator[list[EncodedPrompt]]:
    """Batches of at most `size` prompts of the same number of tokens, short ones first, then by prompt id."""
    ordered = sorted(prompts, key=lambda prompt: (len(prompt.ids), prompt.prompt_id))
    for _, alike in groupby(ordered, key=lambda prompt: len(prompt.ids)):
        group = list(alike)
        for start in range(0, len(group), size):
            yield group[start : start + size]


def to_tensors(prompts: Sequence[EncodedPrompt], device: torch.device) -> PromptBatch:
    """Prompts of one length as tensors on a device."""
    return PromptBatch(
        ids=torch.tensor([prompt.ids for prompt in prompts], device=device),
        position=torch.tensor([prompt.position for prompt in prompts], device=device),
        answer=torch.tensor([prompt.answer for prompt in prompts], device=device),
    )


def automatic_size(network: Network, tokens: int) -> int:
    """The number of prompts of a length whose activations fit the device's memory budget, 1 to 1024."""
    per_prompt = NODES_PER_PROMPT * _bytes_per_row(network, tokens) + _bytes_of_prefix(network, tokens)
    return max(1, min(1024, _budget(network.device) // per_prompt))


def _bytes_per_row(network: Network, tokens: int) -> int:
    """Activations kept for the backward pass by one copy of a prompt through all layers and the head."""
    perturbed = tokens if network.adapter.blank is Blank.MASK else 1
    hidden, neurons, heads = network.hidden_size, network.neurons, network.heads
    per_layer = perturbed * (12 * hidden + 3 * neurons) + heads * perturbed * tokens
    vocabulary = int(network.word_embeddings.shape[0])
    width = network.word_embeddings.element_size()
    return int(width * (len(network.layers) * per_layer + 4 * vocabulary))


def _bytes_of_prefix(network: Network, tokens: int) -> int:
    """Keys and values that a causal model's base pass keeps of a prompt."""
    if network.adapter.blank is Blank.MASK:
        return 0
    width = network.word_embeddings.element_size()
    return 2 * tokens * network.hidden_size * len(network.layers) * width


def _budget(device: torch.device) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * GPU_SHARE)
    return CPU_BUDGET
