"""gpt-oss: Llama's attention with sinks, and in windows in every second layer; mixtures of experts with biases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..adapter import Experts, limited_by_window
from ..layout import SlotLayout
from .llama import LLAMA


def rotary(model: Any, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of positions [T], twice [T, r]; the model has those of half of the entries."""
    cosine, sine = model.model.rotary_emb(model.model.embed_tokens.weight, positions.unsqueeze(0))
    return torch.cat([cosine[0]] * 2, dim=-1), torch.cat([sine[0]] * 2, dim=-1)


def gated(experts: Any, made: torch.Tensor) -> torch.Tensor:
    """An expert's activations from gates and ups in turn, as the model has it: bounded, and with one more of up."""
    gate, up = made[..., ::2].clamp(max=experts.limit), made[..., 1::2].clamp(-experts.limit, experts.limit)
    values: torch.Tensor = (up + 1) * gate * torch.sigmoid(experts.alpha * gate)
    return values


GPT_OSS = replace(
    LLAMA,
    family="gpt_oss",
    model_types=("gpt_oss",),
    attention=replace(LLAMA.attention, sinks="self_attn.sinks"),
    ffn=Experts("mlp.router", "mlp.experts", gated, slots=SlotLayout.ROW),
    rotary=rotary,
    max_tokens=limited_by_window("sliding_window", kinds="layer_types", windowed="sliding_attention"),
)
