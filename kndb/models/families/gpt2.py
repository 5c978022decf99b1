"""GPT-2: a pre-norm decoder with learned positions; its projections are Conv1D modules, rows in, columns out."""

from __future__ import annotations

from typing import Any

import torch

from ..adapter import Adapter, Attention, Blank, FeedForward, Norms
from ..layout import SlotLayout


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
    body="transformer",
    layers="transformer.h",
    embed=embed,
    attention=Attention(("attn.c_attn",), "attn.c_proj", scaling="attn.scaling"),
    ffn=FeedForward("mlp.c_fc", "mlp.act", "mlp.c_proj", slots=SlotLayout.ROW),
    norms=Norms(attention_input="ln_1", ffn_input="ln_2"),
    final_norm="transformer.ln_f",
    head=("lm_head",),
    unsupported=(("add_cross_attention", True),),
)
