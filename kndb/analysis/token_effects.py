"""Which tokens a neuron's value slot makes more or less likely, by the model's own head."""

from __future__ import annotations

import torch

from ..models.network import Network
from ..records.models import Neuron


@torch.no_grad()
def token_effects(network: Network, neuron: Neuron) -> torch.Tensor:
    """The effect of a value slot on each token's logit: head(slot) − head(0).

    The head is the model's whole one, with the final norm where the family has one: a norm scales what it is given, so
    that the effect says which tokens the slot speaks for and not how loudly. Biases cancel.

    Args:
        network: a model, in float32.
        neuron: one of its neurons.

    Returns:
        Logits [vocabulary], float32, on the CPU.
    """
    slot = network.layers[neuron.layer].slots[neuron.index]
    logits = network.logits(torch.stack([slot, torch.zeros_like(slot)]))  # [2, vocabulary]
    return (logits[0] - logits[1]).float().cpu()
