"""DeBERTa v2 and v3: BERT's layers; scores also compare queries and keys with what stands for the distance between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..adapter import Attention, WordLogits
from .bert import BERT


def embed(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Word embeddings, with position and segment embeddings where there are some, normed: [B, T] to [B, T, d]."""
    hidden: torch.Tensor = model.deberta.embeddings(input_ids=ids)
    return hidden


def distances(model: Any, layer: Any, tokens: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """What stands for each distance, −(T − 1) to T − 1: keys and queries, each [h, 2T − 1, s], or None."""
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    attention = layer.attention.self
    every = torch.arange(1 - tokens, tokens, device=model.device)
    if attention.position_buckets > 0:
        every = make_log_bucket_position(every, attention.position_buckets, attention.max_relative_positions).long()
    span = attention.pos_ebd_size
    rows = model.deberta.encoder.get_rel_embedding()[(every + span).clamp(0, 2 * span - 1)]
    shared, kinds = attention.share_att_key, attention.pos_att_type
    key = (attention.key_proj if shared else attention.pos_key_proj) if "c2p" in kinds else None
    query = (attention.query_proj if shared else attention.pos_query_proj) if "p2c" in kinds else None
    heads = (attention.num_attention_heads, -1)
    found = [None if part is None else part(rows).unflatten(-1, heads).transpose(0, 1) for part in (key, query)]
    return found[0], found[1]


def scaling(layer: Any) -> float:
    """1/√(head size times the number of products in a score)."""
    attention = layer.attention.self
    products = 1 + len({"c2p", "p2c"} & set(attention.pos_att_type))
    return float((attention.attention_head_size * products) ** -0.5)


def _without_convolution(config: Any) -> int | None:
    """The kernel's size that stands for none."""
    return getattr(config, "conv_kernel_size", None) and 0


_RELATIVE = (("relative_attention", True), ("conv_kernel_size", _without_convolution))

DEBERTA = replace(
    BERT,
    family="deberta-v2",
    model_types=("deberta-v2",),
    body="deberta",
    layers="deberta.encoder.layer",
    embed=embed,
    attention=Attention(
        ("attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"),
        "attention.output.dense",
        scaling=scaling,
    ),
    distances=distances,
    requires=(*_RELATIVE, ("legacy", True)),
    unsupported=(),
)
_HEAD = "lm_predictions.lm_head"
DEBERTA_OWN_HEAD = replace(
    DEBERTA,
    head=(f"{_HEAD}.dense", f"{_HEAD}.transform_act_fn", f"{_HEAD}.LayerNorm", WordLogits(f"{_HEAD}.bias")),
    requires=(*_RELATIVE, ("legacy", False)),
)
