"""GPT-J: attention and feed-forward block in parallel after one norm; rotary positions turn neighbouring pairs."""

from __future__ import annotations

from typing import Any

import torch

from ..adapter import Adapter, Attention, Blank, FeedForward, Norms, Rotation


def embed(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Word embeddings: [B, T] to [B, T, d]."""
    hidden: torch.Tensor = model.transformer.wte(ids)
    return hidden


def rotary(model: Any, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of positions [T], twice [T, r], from the table of all; both of a pair turn by one angle."""
    table = model.transformer.h[0].attn.embed_positions.to(positions.device)
    sine, cosine = table[positions].repeat_interleave(2, dim=-1).chunk(2, dim=-1)
    return cosine, sine


GPTJ = Adapter(
    family="gptj",
    model_types=("gptj",),
    auto_class="AutoModelForCausalLM",
    blank=Blank.CUT,
    body="transformer",
    layers="transformer.h",
    embed=embed,
    attention=Attention(("attn.q_proj", "attn.k_proj", "attn.v_proj"), "attn.out_proj"),
    ffn=FeedForward("mlp.fc_in", "mlp.act", "mlp.fc_out"),
    norms=Norms(attention_input="ln_1", ffn_input="ln_1"),
    final_norm="transformer.ln_f",
    head=("lm_head",),
    parallel=True,
    rotation=Rotation.PAIRS,
    rotary=rotary,
)
