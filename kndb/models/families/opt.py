"""OPT: a pre-norm decoder with learned positions; its projections are Linear modules."""

from __future__ import annotations

from typing import Any

import torch

from ..adapter import Adapter, Attention, Blank, FeedForward, Norms


def embed(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Word plus position embeddings: [B, T] to [B, T, d]."""
    decoder = model.model.decoder
    hidden: torch.Tensor = decoder.embed_tokens(ids) + decoder.embed_positions(torch.ones_like(ids))
    return hidden


OPT = Adapter(
    family="opt",
    model_types=("opt",),
    auto_class="AutoModelForCausalLM",
    blank=Blank.CUT,
    body="model.decoder",
    layers="model.decoder.layers",
    embed=embed,
    attention=Attention(
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "self_attn.out_proj", scaling="self_attn.scaling"
    ),
    ffn=FeedForward("fc1", "activation_fn", "fc2"),
    norms=Norms(attention_input="self_attn_layer_norm", ffn_input="final_layer_norm"),
    final_norm="model.decoder.final_layer_norm",
    head=("lm_head",),
    requires=(("word_embed_proj_dim", lambda config: config.hidden_size),),
    unsupported=(("do_layer_norm_before", False),),
)
