"""Gemma: Llama's parts; Gemma 2 has norms after both blocks too, and caps its attention scores and logits.

Gemma 3 (text) has norms on queries and keys instead of the scores' cap, and turns by other angles where it has windows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..adapter import CHANGING_ROTARY_OF_KINDS, Norms, limited_by_window
from .llama import LLAMA


def cap(model: Any, logits: torch.Tensor) -> torch.Tensor:
    """Logits z become c·tanh(z/c), if the configuration has a c."""
    most = model.config.final_logit_softcapping
    return logits if most is None else most * torch.tanh(logits / most)


def kinds_of_layers(config: Any) -> list[int]:
    """Each layer's kind, by number in the kinds' alphabetical order."""
    kinds = sorted(set(config.layer_types))
    return [kinds.index(kind) for kind in config.layer_types]


def rotary_of_kinds(model: Any, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of positions [T] in the layers of each kind, twice [k, T, r]."""
    body = model.model
    like = model.get_input_embeddings().weight
    kinds = sorted(set(model.config.layer_types))
    parts = [body.rotary_emb(like, positions.unsqueeze(0), kind) for kind in kinds]
    return torch.cat([cosine for cosine, _ in parts]), torch.cat([sine for _, sine in parts])


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
GEMMA3 = replace(
    GEMMA2,
    family="gemma3",
    model_types=("gemma3_text",),
    attention=replace(GEMMA.attention, query_norm="self_attn.q_norm", key_norm="self_attn.k_norm"),
    rotary=rotary_of_kinds,
    rotary_kinds=kinds_of_layers,
    unsupported=(
        *CHANGING_ROTARY_OF_KINDS,
        ("use_bidirectional_attention", True),
    ),
)
