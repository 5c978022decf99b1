"""ModernBERT: a pre-norm encoder with gated feed-forward blocks; windows and angles differ from layer to layer."""

from __future__ import annotations

from typing import Any

import torch

from ..adapter import (
    CHANGING_ROTARY_OF_KINDS,
    Adapter,
    Attention,
    Blank,
    FeedForward,
    Norms,
    Rotation,
    config_positions,
)
from .gemma import kinds_of_layers, rotary_of_kinds


def embed(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Word embeddings with their norm: [B, T] to [B, T, d]."""
    hidden: torch.Tensor = model.model.embeddings(input_ids=ids)
    return hidden


def within_window(config: Any) -> int:
    """The tokens that all see one another: a window reaches half of its length to either side."""
    positions = config_positions(config)
    return min(positions, config.local_attention // 2 + 1) if "sliding_attention" in config.layer_types else positions


MODERNBERT = Adapter(
    family="modernbert",
    model_types=("modernbert",),
    auto_class="AutoModelForMaskedLM",
    blank=Blank.MASK,
    body="model",
    layers="model.layers",
    embed=embed,
    attention=Attention(("attn.Wqkv",), "attn.Wo"),
    ffn=FeedForward("mlp.Wi", "mlp.act", "mlp.Wo", gate="mlp.Wi"),
    norms=Norms(attention_input="attn_norm", ffn_input="mlp_norm"),
    final_norm="model.final_norm",
    head=("head", "decoder"),
    rotation=Rotation.HALVES,
    rotary=rotary_of_kinds,
    rotary_kinds=kinds_of_layers,
    max_tokens=within_window,
    unsupported=CHANGING_ROTARY_OF_KINDS,
)
