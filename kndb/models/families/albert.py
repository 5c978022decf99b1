"""ALBERT: a post-norm encoder whose layers share parameters; its embeddings are narrower than the residual stream."""

from __future__ import annotations

from typing import Any

import torch

from ..adapter import Adapter, Attention, Blank, FeedForward, Norms


def embed(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Word, position and segment embeddings with their norm, widened: [B, T] to [B, T, d]."""
    hidden: torch.Tensor = model.albert.encoder.embedding_hidden_mapping_in(model.albert.embeddings(ids))
    return hidden


def layers(model: Any) -> list[str]:
    """The path of each layer in turn: for each hidden layer, the inner layers of its group."""
    config = model.config
    per_group = config.num_hidden_layers / config.num_hidden_groups  # The model's own formula, rounding included.
    groups = [int(number / per_group) for number in range(config.num_hidden_layers)]
    path = "albert.encoder.albert_layer_groups.{}.albert_layers.{}"
    return [path.format(group, inner) for group in groups for inner in range(config.inner_group_num)]


ALBERT = Adapter(
    family="albert",
    model_types=("albert",),
    auto_class="AutoModelForMaskedLM",
    blank=Blank.MASK,
    body="albert",
    layers=layers,
    embed=embed,
    attention=Attention(("attention.query", "attention.key", "attention.value"), "attention.dense"),
    ffn=FeedForward("ffn", "activation", "ffn_output"),
    norms=Norms(attention_sum="attention.LayerNorm", ffn_sum="full_layer_layer_norm"),
    head=("predictions",),
    unsupported=(("num_hidden_groups", 0), ("inner_group_num", 0)),
)
