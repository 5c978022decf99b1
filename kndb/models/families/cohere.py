"""Cohere (Command R): Llama's parts in parallel after one norm, turned in pairs; Cohere 2 turns in some layers only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..adapter import Norms, Rotation, limited_by_window
from .llama import LLAMA


def scale(model: Any, logits: torch.Tensor) -> torch.Tensor:
    """Logits times their factor."""
    scaled: torch.Tensor = logits * model.logit_scale
    return scaled


def turning(config: Any) -> list[int | None]:
    """None for the layers that turn nothing: those without a window."""
    return [0 if kind == "sliding_attention" else None for kind in config.layer_types]


COHERE = replace(
    LLAMA,
    family="cohere",
    model_types=("cohere",),
    norms=Norms(attention_input="input_layernorm", ffn_input="input_layernorm"),
    parallel=True,
    rotation=Rotation.PAIRS,
    head=("lm_head", scale),
    requires=(("use_qk_norm", False),),
)
COHERE_NORMED_HEADS = replace(
    COHERE,
    attention=replace(COHERE.attention, query_norm="self_attn.q_norm", key_norm="self_attn.k_norm"),
    requires=(("use_qk_norm", True),),
)
COHERE2 = replace(
    COHERE,
    family="cohere2",
    model_types=("cohere2",),
    rotary_kinds=turning,
    max_tokens=limited_by_window("sliding_window", kinds="layer_types", windowed="sliding_attention"),
    requires=(),
)
