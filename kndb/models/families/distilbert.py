"""DistilBERT: a post-norm encoder without segments; its head's parts lie in the model itself."""

from __future__ import annotations

from typing import Any

import torch

from ..adapter import Adapter, Attention, Blank, FeedForward, Norms


def embed(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Word and position embeddings with their norm: [B, T] to [B, T, d]."""
    hidden: torch.Tensor = model.distilbert.embeddings(ids)
    return hidden


DISTILBERT = Adapter(
    family="distilbert",
    model_types=("distilbert",),
    auto_class="AutoModelForMaskedLM",
    blank=Blank.MASK,
    body="distilbert",
    layers="distilbert.transformer.layer",
    embed=embed,
    attention=Attention(("attention.q_lin", "attention.k_lin", "attention.v_lin"), "attention.out_lin"),
    ffn=FeedForward("ffn.lin1", "ffn.activation", "ffn.lin2"),
    norms=Norms(attention_sum="sa_layer_norm", ffn_sum="output_layer_norm"),
    head=("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),
)
