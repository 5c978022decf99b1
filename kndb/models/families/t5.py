"""T5: an encoder–decoder with relative positions; its neurons are those of the decoder. T5 1.1's blocks are gated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..adapter import Adapter, Attention, Blank, FeedForward, Norms


def embed(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """The decoder's word embeddings: [B, T] to [B, T, d]."""
    hidden: torch.Tensor = model.decoder.embed_tokens(ids)
    return hidden


def distances(model: Any, tokens: int) -> torch.Tensor:
    """The first layer's bias for each distance between positions, which all layers share: [h, T, T]."""
    bias: torch.Tensor = model.decoder.block[0].layer[0].SelfAttention.compute_bias(tokens, tokens)
    return bias[0]


def scale(model: Any, rows: torch.Tensor) -> torch.Tensor:
    """Rows divided by √d, where the head is the word embeddings."""
    config = model.config
    return rows * config.d_model**-0.5 if config.scale_decoder_outputs else rows


def trained_length(config: Any) -> int:
    """The number of tokens that T5 was trained on: no table of positions limits it."""
    return int(getattr(config, "n_positions", None) or 512)


def _attention(path: str) -> Attention:
    return Attention((f"{path}.q", f"{path}.k", f"{path}.v"), f"{path}.o", scaling=1.0)


_FFN = FeedForward("layer.2.DenseReluDense.wi", "layer.2.DenseReluDense.act", "layer.2.DenseReluDense.wo")

T5 = Adapter(
    family="t5",
    model_types=("t5",),
    auto_class="AutoModelForSeq2SeqLM",
    blank=Blank.SENTINEL,
    body="decoder",
    layers="decoder.block",
    embed=embed,
    attention=_attention("layer.0.SelfAttention"),
    cross_attention=_attention("layer.1.EncDecAttention"),
    ffn=_FFN,
    norms=Norms("layer.0.layer_norm", cross_input="layer.1.layer_norm", ffn_input="layer.2.layer_norm"),
    final_norm="decoder.final_layer_norm",
    head=(scale, "lm_head"),
    bias=distances,
    encoder="encoder",
    max_tokens=trained_length,
    requires=(("is_gated_act", False),),
)
T5_GATED = replace(
    T5,
    ffn=replace(_FFN, gate="layer.2.DenseReluDense.wi_0", up="layer.2.DenseReluDense.wi_1"),
    requires=(("is_gated_act", True),),
)
