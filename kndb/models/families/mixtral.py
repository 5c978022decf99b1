"""Mixtral and Qwen3-MoE: decoders like Mistral and Qwen3, whose feed-forward blocks are mixtures of experts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..adapter import Experts, limited_by_window
from .llama import MISTRAL
from .qwen3 import QWEN3


def gated(experts: Any, made: torch.Tensor) -> torch.Tensor:
    """An expert's activations, act(gate)·up, from gates and ups side by side."""
    gate, up = made.chunk(2, dim=-1)
    values: torch.Tensor = experts.act_fn(gate) * up
    return values


EXPERTS = Experts("mlp.gate", "mlp.experts", gated)

MIXTRAL = replace(MISTRAL, family="mixtral", model_types=("mixtral",), ffn=EXPERTS)
QWEN3_MOE = replace(
    QWEN3,
    family="qwen3_moe",
    model_types=("qwen3_moe",),
    ffn=EXPERTS,
    max_tokens=limited_by_window("sliding_window"),
    requires=(("decoder_sparse_step", 1), ("mlp_only_layers", lambda _config: [])),
    unsupported=(*QWEN3.unsupported, ("num_experts", 0)),
)
"""Of layers with and without experts, no number of neurons is the same: where both are, there is no adapter."""
