"""Gemma: Llama's parts; Gemma 2 has norms after both blocks too, and caps its attention scores and logits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..adapter import Norms, limited_by_window
from .llama import LLAMA


def cap(model: Any, logits: torch.Tensor) -> torch.Tensor:
    """Logits z become c·tanh(z/c), if the configuration has a c."""
    most = model.config.final_logit_softcapping
    return logits if most is None else most * torch.tanh(logits / most)


GEMMA = replace(
    LLAMA,
    family="gemma",
    model_types=("gemma",),
    unsupported=(*LLAMA.unsupported, ("use_bidirectional_attention", True)),
)
GEMMA2 = replace(
    GEMMA,
    family="gemma2",
    model_types=("gemma2",),
    attention=replace(GEMMA.attention, softcap="self_attn.attn_logit_softcapping"),
    norms=Norms(
        attention_input="input_layernorm",
        attention_output="post_attention_layernorm",
        ffn_input="pre_feedforward_layernorm",
        ffn_output="post_feedforward_layernorm",
    ),
    head=("lm_head", cap),
    max_tokens=limited_by_window("sliding_window", kinds="layer_types", windowed="sliding_attention"),
)
