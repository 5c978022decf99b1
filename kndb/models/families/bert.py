"""BERT: a post-norm encoder with a masked-language-model head."""

from __future__ import annotations

from typing import Any

import torch

from ..adapter import Adapter, Attention, Blank, FeedForward, Norms


def embed(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Word, position and segment embeddings with their norm: [B, T] to [B, T, d]."""
    hidden: torch.Tensor = model.bert.embeddings(ids)
    return hidden


BERT = Adapter(
    family="bert",
    model_types=("bert",),
    auto_class="AutoModelForMaskedLM",
    blank=Blank.MASK,
    body="bert",
    layers="bert.encoder.layer",
    embed=embed,
    attention=Attention(
        ("attention.self.query", "attention.self.key", "attention.self.value"), "attention.output.dense"
    ),
    ffn=FeedForward("intermediate.dense", "intermediate.intermediate_act_fn", "output.dense"),
    norms=Norms(attention_sum="attention.output.LayerNorm", ffn_sum="output.LayerNorm"),
    head=("cls",),
    unsupported=(("is_decoder", True), ("add_cross_attention", True)),
)
