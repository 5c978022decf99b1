"""From a batch of prompts to its base pass and what continues it."""

from __future__ import annotations

from torch import nn

from ..models.adapter import Blank
from ..models.network import Network
from .causal import CausalContinuation
from .continuation import Continuation, PromptBatch
from .masked import MaskedContinuation


def continue_from(network: Network, batch: PromptBatch) -> Continuation:
    """Runs a batch's base pass, and gives the continuation that fits the network's kind of blank."""
    kind = MaskedContinuation if network.adapter.blank is Blank.MASK else CausalContinuation
    return kind.compute(network, batch)


def freeze(model: nn.Module) -> None:
    """Switches the model to evaluation and every parameter's gradient off: only activations are differentiated."""
    model.eval()
    model.requires_grad_(False)
