"""Qwen3: Qwen2 with a norm on each head's query and key."""

from __future__ import annotations

from dataclasses import replace

from .llama import QWEN2

QWEN3 = replace(
    QWEN2,
    family="qwen3",
    model_types=("qwen3",),
    attention=replace(QWEN2.attention, query_norm="self_attn.q_norm", key_norm="self_attn.k_norm"),
)
