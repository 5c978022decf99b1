"""Phi-3 and Phi-4: Llama's parts, with one projection for query, key and value, and one for gate and up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..adapter import Attention, FeedForward, limited_by_window
from .llama import LLAMA

_WINDOW = limited_by_window("sliding_window")


def short_enough(config: Any) -> int:
    """The tokens that a window allows, and under which the angles of LongRoPE don't depend on how many there are."""
    rope = config.rope_parameters
    most = _WINDOW(config)
    return min(most, int(rope["original_max_position_embeddings"])) if rope["rope_type"] == "longrope" else most


PHI3 = replace(
    LLAMA,
    family="phi3",
    model_types=("phi3",),
    attention=Attention(("self_attn.qkv_proj",), "self_attn.o_proj", scaling="self_attn.scaling"),
    ffn=FeedForward("mlp.gate_up_proj", "mlp.activation_fn", "mlp.down_proj", gate="mlp.gate_up_proj"),
    max_tokens=short_enough,
    unsupported=(),
)
