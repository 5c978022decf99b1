"""BLOOM: one projection for query, key and value, head by head; distances count in the scores (ALiBi)."""

from __future__ import annotations

from typing import Any

import torch

from ..adapter import Adapter, Attention, Blank, FeedForward, Heads, Norms


def embed(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Word embeddings with their norm: [B, T] to [B, T, d]."""
    body = model.transformer
    hidden: torch.Tensor = body.word_embeddings_layernorm(body.word_embeddings(ids))
    return hidden


def slopes(model: Any, tokens: int) -> torch.Tensor:
    """Each head's slope times the key's position: [h, T, T], the same for every query."""
    weight = model.transformer.word_embeddings.weight
    every = torch.ones(1, tokens, device=weight.device)
    bias: torch.Tensor = model.transformer.build_alibi_tensor(every, model.config.n_head, weight.dtype)
    return bias.expand(-1, tokens, -1)


def trained_length(config: Any) -> int:
    """The number of tokens that BLOOM was trained on: no table of positions limits it."""
    return int(getattr(config, "seq_length", None) or 2048)


BLOOM = Adapter(
    family="bloom",
    model_types=("bloom",),
    auto_class="AutoModelForCausalLM",
    blank=Blank.CUT,
    body="transformer",
    layers="transformer.h",
    embed=embed,
    attention=Attention(
        ("self_attention.query_key_value",),
        "self_attention.dense",
        heads=Heads.BY_HEAD,
        scaling="self_attention.inv_norm_factor",
    ),
    ffn=FeedForward("mlp.dense_h_to_4h", "mlp.gelu_impl", "mlp.dense_4h_to_h"),
    norms=Norms(attention_input="input_layernorm", ffn_input="post_attention_layernorm"),
    final_norm="transformer.ln_f",
    head=("lm_head",),
    bias=slopes,
    max_tokens=trained_length,
    unsupported=(("apply_residual_connection_post_layernorm", True), ("slow_but_exact", True)),
)
