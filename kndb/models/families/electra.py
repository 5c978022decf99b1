"""ELECTRA's generator: BERT's layers; its embeddings may be narrower than the residual stream, as is its head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from .bert import BERT


def embed(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Word, position and segment embeddings with their norm, widened if they are narrower: [B, T] to [B, T, d]."""
    body = model.electra
    hidden: torch.Tensor = body.embeddings(ids)
    if hasattr(body, "embeddings_project"):
        hidden = body.embeddings_project(hidden)
    return hidden


ELECTRA = replace(
    BERT,
    family="electra",
    model_types=("electra",),
    body="electra",
    layers="electra.encoder.layer",
    embed=embed,
    head=("generator_predictions", "generator_lm_head"),
)
