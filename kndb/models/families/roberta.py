"""RoBERTa and XLM-RoBERTa: BERT's layers; positions are counted from behind the padding token's number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from .bert import BERT


def embed(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Word, position and segment embeddings with their norm: [B, T] to [B, T, d]."""
    hidden: torch.Tensor = model.roberta.embeddings(ids)
    return hidden


def free_positions(config: Any) -> int:
    """The number of positions that are left for tokens."""
    return int(config.max_position_embeddings) - int(config.pad_token_id) - 1


ROBERTA = replace(
    BERT,
    family="roberta",
    model_types=("roberta", "xlm-roberta"),
    body="roberta",
    layers="roberta.encoder.layer",
    embed=embed,
    head=("lm_head",),
    max_tokens=free_positions,
    unsupported=(*BERT.unsupported, ("pad_token_id", None)),
)
