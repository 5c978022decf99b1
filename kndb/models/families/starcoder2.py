"""StarCoder2: Llama's parts, but a feed-forward block without a gate; its norms centre."""

from __future__ import annotations

from dataclasses import replace

from ..adapter import FeedForward, limited_by_window
from .llama import LLAMA

STARCODER2 = replace(
    LLAMA,
    family="starcoder2",
    model_types=("starcoder2",),
    ffn=FeedForward("mlp.c_fc", "mlp.act", "mlp.c_proj"),
    max_tokens=limited_by_window("sliding_window"),
)
