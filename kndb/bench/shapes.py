"""Models of common sizes with random weights, made from transformers configurations without a download."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import nn

from ..advice import option
from ..errors import UsageError
from ..models.network import Network
from ..models.registry import adapter_for


@dataclass(frozen=True)
class ModelShape:
    """The size of a model."""

    layers: int
    width: int
    neurons: int
    heads: int
    vocabulary: int


SIZES = ("tiny", "base", "7b")
TINY = ModelShape(4, 128, 512, 4, 1000)


def _bert_like(shape: ModelShape) -> dict[str, Any]:
    return {
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.width,
        "intermediate_size": shape.neurons,
        "num_attention_heads": shape.heads,
        "vocab_size": shape.vocabulary,
    }


def _gpt2_like(shape: ModelShape) -> dict[str, Any]:
    return {
        "n_layer": shape.layers,
        "n_embd": shape.width,
        "n_inner": shape.neurons,
        "n_head": shape.heads,
        "vocab_size": shape.vocabulary,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }


def _t5_like(shape: ModelShape) -> dict[str, Any]:
    return {
        "num_layers": shape.layers,
        "d_model": shape.width,
        "d_ff": shape.neurons,
        "num_heads": shape.heads,
        "d_kv": shape.width // shape.heads,
        "vocab_size": shape.vocabulary,
        "decoder_start_token_id": 0,
    }


@dataclass(frozen=True)
class BenchFamily:
    """How to make a model of a family: its configuration class, the names of sizes in it, and its usual sizes."""

    configuration: str
    settings: Callable[[ModelShape], dict[str, Any]]
    base: ModelShape
    seven: ModelShape | None = None


_LLAMA_7B = ModelShape(32, 4096, 11008, 32, 32000)
FAMILIES = {
    "bert": BenchFamily("BertConfig", _bert_like, ModelShape(12, 768, 3072, 12, 30522)),
    "roberta": BenchFamily("RobertaConfig", _bert_like, ModelShape(12, 768, 3072, 12, 50265)),
    "gpt2": BenchFamily("GPT2Config", _gpt2_like, ModelShape(12, 768, 3072, 12, 50257)),
    "gpt_neox": BenchFamily("GPTNeoXConfig", _bert_like, ModelShape(12, 768, 3072, 12, 50304)),
    "llama": BenchFamily("LlamaConfig", _bert_like, ModelShape(12, 768, 2048, 12, 32000), _LLAMA_7B),
    "t5": BenchFamily("T5Config", _t5_like, ModelShape(12, 768, 3072, 12, 32128)),
}


def random_network(family: str, size: str, *, seed: int, device: torch.device, dtype: torch.dtype) -> Network:
    """A model of a family and size, its weights drawn at random as transformers does for training from nothing.

    The model is made on the device and in the dtype, so that a large one needs no other memory.

    Raises:
        UsageError: for an unknown family or size.
    """
    if family not in FAMILIES:
        raise UsageError(f"{option('family')} must be one of {', '.join(FAMILIES)} (got {family!r})")
    entry = FAMILIES[family]
    shapes = {"tiny": TINY, "base": entry.base, "7b": entry.seven}
    shape = shapes.get(size)
    if shape is None:
        sizes = [name for name in SIZES if shapes[name] is not None]
        raise UsageError(f"{option('size')} of {family} must be one of {', '.join(sizes)} (got {size!r})")
    config = getattr(transformers, entry.configuration)(**entry.settings(shape))
    adapter = adapter_for(config)
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model: nn.Module = getattr(transformers, adapter.auto_class).from_config(config)
    finally:
        torch.set_default_dtype(before)
    return Network(model.eval(), adapter)
