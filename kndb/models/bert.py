"""BERT: a post-norm encoder with a masked-language-model head."""

from __future__ import annotations

from typing import Any

import torch

from .adapter import Adapter, Blank, NormPlace, SlotLayout


def embed(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Word, position and segment embeddings with their norm: [B, T] to [B, T, d]."""
    hidden: torch.Tensor = model.bert.embeddings(ids)
    return hidden


BERT = Adapter(
    family="bert",
    model_types=("bert",),
    auto_class="AutoModelForMaskedLM",
    blank=Blank.MASK,
    norms=NormPlace.POST,
    slots=SlotLayout.COLUMN,
    layers="bert.encoder.layer",
    head=("cls",),
    embed=embed,
    query_key_value=("attention.self.query", "attention.self.key", "attention.self.value"),
    scaling="attention.self.scaling",
    attention_output="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    up="intermediate.dense",
    activation="intermediate.intermediate_act_fn",
    down="output.dense",
    ffn_norm="output.LayerNorm",
    unsupported=(("is_decoder", True), ("add_cross_attention", True)),
)
