"""Phi: attention and feed-forward block in parallel after one norm; rotary positions for a part of a head."""

from __future__ import annotations

from dataclasses import replace

from ..adapter import Attention, FeedForward, Norms
from .llama import LLAMA

PHI = replace(
    LLAMA,
    family="phi",
    model_types=("phi",),
    attention=Attention(
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "self_attn.dense", scaling="self_attn.scaling"
    ),
    ffn=FeedForward("mlp.fc1", "mlp.activation_fn", "mlp.fc2"),
    norms=Norms(attention_input="input_layernorm", ffn_input="input_layernorm"),
    final_norm="model.final_layernorm",
    parallel=True,
    requires=(("qk_layernorm", False),),
)
PHI_NORMED_HEADS = replace(
    PHI,
    attention=replace(PHI.attention, query_norm="self_attn.q_layernorm", key_norm="self_attn.k_layernorm"),
    requires=(("qk_layernorm", True),),
)
