"""Falcon: one projection for query, key and value, whose keys are shared; in parallel, or in turn; rotary or ALiBi."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..adapter import CHANGING_ROTARY, Adapter, Attention, Blank, FeedForward, Heads, Norms, Rotation


def embed(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Word embeddings: [B, T] to [B, T, d]."""
    hidden: torch.Tensor = model.transformer.word_embeddings(ids)
    return hidden


def rotary(model: Any, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of positions [T], twice [T, r]."""
    body = model.transformer
    cosine, sine = body.rotary_emb(body.word_embeddings.weight, positions.unsqueeze(0))
    return cosine[0], sine[0]


def slopes(model: Any, tokens: int) -> torch.Tensor:
    """Each head's slope times the key's position, scaled as scores are: [h, T, T], the same for every query."""
    from transformers.models.falcon.modeling_falcon import build_alibi_tensor

    weight, config = model.transformer.word_embeddings.weight, model.config
    every = torch.ones(1, tokens, device=weight.device, dtype=torch.int64)
    bias: torch.Tensor = build_alibi_tensor(every, config.num_attention_heads, weight.dtype) * config.head_dim**-0.5
    return bias.expand(-1, tokens, -1)


def _with_slopes(adapter: Adapter) -> Adapter:
    requires = tuple((name, True if name == "alibi" else value) for name, value in adapter.requires)
    return replace(adapter, rotation=None, rotary=None, bias=slopes, requires=requires)


def _two_norms(config: Any) -> int | None:
    """The number that stands for two: none, where the newer layers have it."""
    stated: int | None = config.num_ln_in_parallel_attn
    return stated if stated is None else 2


_ONE_NORM = Norms(attention_input="input_layernorm", ffn_input="input_layernorm")

FALCON = Adapter(
    family="falcon",
    model_types=("falcon",),
    auto_class="AutoModelForCausalLM",
    blank=Blank.CUT,
    body="transformer",
    layers="transformer.h",
    embed=embed,
    attention=Attention(("self_attention.query_key_value",), "self_attention.dense", heads=Heads.BY_HEAD),
    ffn=FeedForward("mlp.dense_h_to_4h", "mlp.act", "mlp.dense_4h_to_h"),
    norms=_ONE_NORM,
    final_norm="transformer.ln_f",
    head=("lm_head",),
    parallel=True,
    rotation=Rotation.HALVES,
    rotary=rotary,
    requires=(("new_decoder_architecture", False), ("parallel_attn", True), ("alibi", False)),
    unsupported=CHANGING_ROTARY,
)
_SERIAL = replace(
    FALCON,
    parallel=False,
    norms=Norms(attention_input="input_layernorm", ffn_input="post_attention_layernorm"),
    requires=(("new_decoder_architecture", False), ("parallel_attn", False), ("alibi", False)),
)
_NEWER = (("new_decoder_architecture", True), ("parallel_attn", True), ("alibi", False))
_NEWER_TWO_NORMS = replace(
    FALCON,
    norms=Norms(attention_input="ln_attn", ffn_input="ln_mlp"),
    requires=(*_NEWER, ("num_ln_in_parallel_attn", _two_norms)),
)
_NEWER_ONE_NORM = replace(FALCON, requires=(*_NEWER, ("num_ln_in_parallel_attn", 1)))

_TURNED = (FALCON, _SERIAL, _NEWER_TWO_NORMS, _NEWER_ONE_NORM)
FALCONS = (*_TURNED, *map(_with_slopes, _TURNED))
"""Of the first layers (7B; 1B, in turn) and the newer ones (40B, 180B, 11B), each with rotary positions and ALiBi."""
