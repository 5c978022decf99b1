"""Granite: Llama's parts, with a factor on the embeddings, on what each block adds, on the scores and on the logits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from .llama import LLAMA


def embed(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Word embeddings with their factor: [B, T] to [B, T, d]."""
    hidden: torch.Tensor = model.model.embed_tokens(ids) * model.model.embedding_multiplier
    return hidden


def scale(model: Any, logits: torch.Tensor) -> torch.Tensor:
    """Logits divided by their factor."""
    scaled: torch.Tensor = logits / model.config.logits_scaling
    return scaled


GRANITE = replace(
    LLAMA,
    family="granite",
    model_types=("granite",),
    embed=embed,
    factor="residual_multiplier",
    head=("lm_head", scale),
)
