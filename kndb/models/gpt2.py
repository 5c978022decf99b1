"""GPT-2: a pre-norm decoder with learned positions; its projections are Conv1D modules, rows in, columns out."""

from __future__ import annotations

from typing import Any

import torch

from .adapter import Adapter, Blank, NormPlace, SlotLayout


def embed(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Word plus position embeddings: [B, T] to [B, T, d]."""
    positions = torch.arange(ids.shape[1], device=ids.device)
    hidden: torch.Tensor = model.transformer.wte(ids) + model.transformer.wpe(positions)
    return hidden


GPT2 = Adapter(
    family="gpt2",
    model_types=("gpt2",),
    auto_class="AutoModelForCausalLM",
    blank=Blank.CUT,
    norms=NormPlace.PRE,
    slots=SlotLayout.ROW,
    layers="transformer.h",
    head=("transformer.ln_f", "lm_head"),
    embed=embed,
    query_key_value=("attn.c_attn",),
    scaling="attn.scaling",
    attention_output="attn.c_proj",
    attention_norm="ln_1",
    up="mlp.c_fc",
    activation="mlp.act",
    down="mlp.c_proj",
    ffn_norm="ln_2",
    unsupported=(("add_cross_attention", True),),
)
