"""GPT-NeoX (Pythia): one projection for query, key and value, head by head; rotary positions for a part of a head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..adapter import CHANGING_ROTARY, Adapter, Attention, Blank, FeedForward, Heads, Norms, Rotation


def embed(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Word embeddings: [B, T] to [B, T, d]."""
    hidden: torch.Tensor = model.gpt_neox.embed_in(ids)
    return hidden


def rotary(model: Any, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of positions [T], twice [T, r]."""
    cosine, sine = model.gpt_neox.rotary_emb(model.gpt_neox.embed_in.weight, positions.unsqueeze(0))
    return cosine[0], sine[0]


GPT_NEOX = Adapter(
    family="gpt_neox",
    model_types=("gpt_neox",),
    auto_class="AutoModelForCausalLM",
    blank=Blank.CUT,
    body="gpt_neox",
    layers="gpt_neox.layers",
    embed=embed,
    attention=Attention(
        ("attention.query_key_value",), "attention.dense", heads=Heads.BY_HEAD, scaling="attention.scaling"
    ),
    ffn=FeedForward("mlp.dense_h_to_4h", "mlp.act", "mlp.dense_4h_to_h"),
    norms=Norms(attention_input="input_layernorm", ffn_input="post_attention_layernorm"),
    final_norm="gpt_neox.final_layer_norm",
    head=("lm_head",),
    parallel=True,
    rotation=Rotation.HALVES,
    rotary=rotary,
    requires=(("use_parallel_residual", True),),
    unsupported=CHANGING_ROTARY,
)
GPT_NEOX_SERIAL = replace(GPT_NEOX, parallel=False, requires=(("use_parallel_residual", False),))
