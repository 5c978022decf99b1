"""OLMo 2: Llama's parts, with norms behind both blocks, and on the queries and keys of all heads at once."""

from __future__ import annotations

from dataclasses import replace

from ..adapter import Norms
from .llama import LLAMA

OLMO2 = replace(
    LLAMA,
    family="olmo2",
    model_types=("olmo2",),
    attention=replace(
        LLAMA.attention, query_norm="self_attn.q_norm", key_norm="self_attn.k_norm", normed_together=True
    ),
    norms=Norms(attention_output="post_attention_layernorm", ffn_output="post_feedforward_layernorm"),
)
