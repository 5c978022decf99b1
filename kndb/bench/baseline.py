"""The way that published knowledge-neuron tools compute attributions, as a baseline to compare speed with.

Per prompt and layer, the whole network runs on m copies of the prompt with the layer's activations at the answer
position scaled by k/m, every parameter requiring its gradient, the vocabulary head at every position; the gradient of
the answer's probability with respect to the scaled activations is summed (a Riemann sum). Nothing is shared between
layers or prompts. This is EleutherAI's knowledge-neurons and the paper's code in outline; only their progress bars and
their conversions are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch

from ..models.network import Network
from ..models.prompting import EncodedPrompt

STEPS = 20
"""Copies per layer in the literature."""


def baseline_scores(network: Network, prompt: EncodedPrompt, steps: int = STEPS) -> torch.Tensor:
    """Riemann sums of one prompt, [L, n]: Σ_k w̄ ⊙ ∂P/∂w (k/m · w̄) / m for k = 0 … m − 1."""
    network.model.requires_grad_(True)
    try:
        return torch.stack([_layer(network, prompt, number, steps) for number in range(len(network.layers))])
    finally:
        network.model.requires_grad_(False)


def _layer(network: Network, prompt: EncodedPrompt, number: int, steps: int) -> torch.Tensor:
    activation: list[torch.Tensor] = []
    with torch.no_grad(), _at_call(network, number, lambda inputs: activation.append(inputs[0, prompt.position])):
        _run(network, prompt, 1)
    weights = torch.arange(steps, device=network.device).unsqueeze(1) / steps * activation[0]
    rows = weights.to(activation[0].dtype).requires_grad_()

    def scaled(inputs: torch.Tensor) -> torch.Tensor:
        changed = inputs.clone()
        changed[:, prompt.position] = rows
        return changed

    with torch.enable_grad(), _at_call(network, number, scaled):
        probabilities = _run(network, prompt, steps)[:, prompt.position].softmax(-1)[:, prompt.answer]
        (gradients,) = torch.autograd.grad(probabilities.sum(), rows)
    return activation[0] * gradients.sum(0) / steps


def _run(network: Network, prompt: EncodedPrompt, copies: int) -> torch.Tensor:
    """Logits at every position of copies of a prompt, [copies, T, V]."""
    ids = torch.tensor([prompt.ids] * copies, device=network.device)
    inputs = {"input_ids": ids}
    if prompt.source:
        source = torch.tensor([prompt.source] * copies, device=network.device)
        inputs = {"input_ids": source, "decoder_input_ids": ids}
    return cast("torch.Tensor", cast("Any", network.model)(**inputs).logits)


@contextmanager
def _at_call(network: Network, number: int, act: Any) -> Iterator[None]:
    """Within the block, passes a layer's FFN activations to a function, which may give others in their place."""
    down = network.layers[number].down
    turn = sum(layer.down is down for layer in network.layers[:number])
    calls = iter(range(len(network.layers)))

    def hook(_module: object, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        changed = act(inputs[0]) if next(calls) == turn else None
        return None if changed is None else (changed,)

    handle = down.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
