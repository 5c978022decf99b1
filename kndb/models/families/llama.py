"""Llama, Mistral and Qwen2: pre-norm decoders with gated feed-forward blocks, rotary positions, shared keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..adapter import CHANGING_ROTARY, Adapter, Attention, Blank, FeedForward, Norms, Rotation, limited_by_window


def embed(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Word embeddings: [B, T] to [B, T, d]."""
    hidden: torch.Tensor = model.model.embed_tokens(ids)
    return hidden


def rotary(model: Any, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of positions [T], twice [T, r]."""
    cosine, sine = model.model.rotary_emb(model.model.embed_tokens.weight, positions.unsqueeze(0))
    return cosine[0], sine[0]


LLAMA = Adapter(
    family="llama",
    model_types=("llama",),
    auto_class="AutoModelForCausalLM",
    blank=Blank.CUT,
    body="model",
    layers="model.layers",
    embed=embed,
    attention=Attention(
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "self_attn.o_proj", scaling="self_attn.scaling"
    ),
    ffn=FeedForward("mlp.up_proj", "mlp.act_fn", "mlp.down_proj", gate="mlp.gate_proj"),
    norms=Norms(attention_input="input_layernorm", ffn_input="post_attention_layernorm"),
    final_norm="model.norm",
    head=("lm_head",),
    rotation=Rotation.HALVES,
    rotary=rotary,
    unsupported=CHANGING_ROTARY,
)
MISTRAL = replace(LLAMA, family="mistral", model_types=("mistral",), max_tokens=limited_by_window("sliding_window"))
QWEN2 = replace(
    LLAMA,
    family="qwen2",
    model_types=("qwen2",),
    max_tokens=limited_by_window("sliding_window", kinds="layer_types", windowed="sliding_attention"),
)
