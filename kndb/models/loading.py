"""Loading checkpoints. `sources` finds them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import logging

from ..errors import ModelError, UsageError
from .adapter import Adapter
from .fingerprint import fingerprint, stored_dtype
from .network import Network
from .prompting import Encoder
from .registry import adapter_for, require_known
from .sources import REVISION as REVISION
from .sources import lab_folder as lab_folder
from .sources import lasting_source as lasting_source
from .sources import locate as locate

transformers_logging: Any = logging  # Its functions have no types.
VOCABULARY_FILES = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
"""A tokenizer has at least one of these."""


@dataclass(frozen=True)
class CheckpointDescription:
    """What the store keeps of a checkpoint."""

    family: str
    layers: int
    neurons: int
    fingerprint: str


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint in memory, in the dtype in which it is stored.

    Attributes:
        model: the transformers model, in evaluation mode.
        tokenizer: its tokenizer.
        adapter: what kndb knows of its family.
        encoder: prompts to token ids.
    """

    model: nn.Module
    tokenizer: Any
    adapter: Adapter
    encoder: Encoder

    @cached_property
    def network(self) -> Network:
        """The model in pieces."""
        return Network(self.model, self.adapter)

    def moved(self, device: torch.device, dtype: torch.dtype) -> Network:
        """The model in pieces, moved to a device and dtype: the model itself is moved."""
        _set_dtype(self.model.to(device), dtype)
        return self.network

    def decode(self, tokens: int | Sequence[int]) -> str:
        """Tokens' text, without the space or mark that says where a word begins."""
        text: str = self.tokenizer.decode([tokens] if isinstance(tokens, int) else list(tokens))
        return text.strip() or text


def describe(folder: Path) -> CheckpointDescription:
    """Reads what the store keeps of a checkpoint; loads no weights, but hashes them.

    Raises:
        ModelError: if it is no checkpoint; UnsupportedModelError if no adapter fits it.
    """
    config = _configuration(folder)
    adapter = adapter_for(config)
    _require_tokenizer(folder)
    try:
        with torch.device("meta"), quiet():
            network = Network(_auto_class(adapter).from_config(config), adapter)
    except (ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"no model can be made from {folder / 'config.json'}: {error}") from error
    return CheckpointDescription(adapter.family, len(network.layers), network.neurons, fingerprint(folder))


def load(folder: Path) -> LoadedModel:
    """Loads a checkpoint on the CPU, in the dtype in which it is stored.

    Raises:
        ModelError: if a file is missing or can't be read, or it lacks weights that its head needs.
    """
    config = _configuration(folder)
    adapter = adapter_for(config)
    _require_tokenizer(folder)
    dtype = stored_dtype(folder)
    # Fused attention leaves the cap on scores out, in some versions of transformers without a word.
    attention = None if adapter.attention.softcap is None else "eager"
    with quiet():
        try:
            model, report = _auto_class(adapter).from_pretrained(
                folder, dtype=dtype, attn_implementation=attention, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise ModelError(f"{folder} can't be loaded: {error}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"{folder} lacks {len(missing)} weights that {adapter.auto_class} needs, the first being {missing[0]}; "
            "expected a checkpoint saved with its language-model head"
        )
    model.eval()
    if isinstance(dtype, torch.dtype):
        _set_dtype(model, dtype)  # Transformers keeps some of T5's half-precision parameters in float32.
    start = getattr(config, "decoder_start_token_id", None)
    try:
        encoder = Encoder(tokenizer, adapter.blank, adapter.max_tokens(config), start)
    except ModelError as error:
        raise ModelError(f"{folder} can't be asked: {error}") from error
    words = model.get_input_embeddings().num_embeddings
    if encoder.blank_token is not None and encoder.blank_token >= words:
        # Transformers adds a mask token that the vocabulary lacks, and says nothing.
        raise ModelError(
            f"{folder} can't be asked: the token for its blank is number {encoder.blank_token}, and the model knows "
            f"tokens 0 to {words - 1}; expected a tokenizer that was trained with the model"
        )
    return LoadedModel(model, tokenizer, adapter, encoder)


def choose_device(name: str = "auto") -> torch.device:
    """`auto` (CUDA, then MPS, then CPU), or a device that torch knows and this machine has.

    Raises:
        UsageError: if there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {name!r} can't be used here ({reason}); expected auto, cpu, cuda or mps") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"found device {name!r}; expected auto, cpu, cuda or mps")
    return device


def _configuration(folder: Path) -> Any:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"found no config.json in {folder}; expected a transformers checkpoint folder")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(values, dict) and "model_type" in values:
            # Ahead of transformers, which would not say what architectures kndb knows.
            require_known(SimpleNamespace(**values))
        return AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise ModelError(f"{path} can't be read: {error}") from error


def _require_tokenizer(folder: Path) -> None:
    """Transformers would make up an empty tokenizer where there is none."""
    if not any((folder / name).is_file() for name in VOCABULARY_FILES):
        raise ModelError(f"found none of {', '.join(VOCABULARY_FILES)} in {folder}; expected a tokenizer's files there")


def _set_dtype(model: nn.Module, dtype: torch.dtype) -> None:
    """Changes a model's parameters.

    Buffers keep their dtype, as when transformers loads a model: the angles of rotary embeddings, say, are not to be
    rounded to half precision.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def _auto_class(adapter: Adapter) -> Any:
    return getattr(transformers, adapter.auto_class)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' progress bars and warnings off a user's terminal."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
