"""Loading checkpoints. `sources` finds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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

from ..advice import option
from ..errors import ModelError, UsageError
from .adapter import Adapter, Experts
from .chat import frame_of, require_template
from .checkpoint_files import (
    CONFIGURATION,
    TOKENIZER_CONFIGURATION,
    TOKENIZER_FILES,
    CheckpointFiles,
    checkpoint_files,
    configuration_of,
    sealed,
)
from .fingerprint import stored_dtype
from .network import Network
from .prompting import Encoder
from .registry import adapter_for, require_known
from .residency import Residency
from .sources import REVISION as REVISION
from .sources import lab_folder as lab_folder
from .sources import lasting_source as lasting_source
from .sources import locate as locate
from .weights import read_headers

transformers_logging: Any = logging  # Its functions have no types.
VOCABULARY_FILES = tuple(
    name
    for name in TOKENIZER_FILES
    if name not in ("added_tokens.json", "merges.txt", "special_tokens_map.json", TOKENIZER_CONFIGURATION)
)
"""A tokenizer has at least one of these."""


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint in memory, in the dtype in which it is stored.

    Attributes:
        model: the transformers model, in evaluation mode.
        tokenizer: its tokenizer.
        adapter: what kndb knows of its family.
        encoder: prompts to token ids.
        name: what messages call it.
        residency: brings its weights, if not all of them are to be where it is computed.
    """

    model: nn.Module
    tokenizer: Any
    adapter: Adapter
    encoder: Encoder
    name: str = "the model"
    residency: Residency | None = None

    @cached_property
    def network(self) -> Network:
        """The model in pieces."""
        return Network(self.model, self.adapter, self.name, self.residency)

    def parameters(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """Parameters of these names, to be written to before the model is moved; those that it has."""
        if self.residency is not None:
            return self.residency.hold(names)
        return {name: self._by_name[name] for name in names if name in self._by_name}

    @cached_property
    def _by_name(self) -> dict[str, torch.Tensor]:
        return dict(self.model.named_parameters())

    def moved(self, device: torch.device, dtype: torch.dtype) -> Network:
        """The model in pieces, moved to a device and dtype: the model itself is moved."""
        if self.residency is not None:
            self.residency.settle(device, dtype)
        else:
            _set_dtype(self.model.to(device), dtype)
        return self.network

    def decode(self, tokens: int | Sequence[int]) -> str:
        """Tokens' text, without the space or mark that says where a word begins."""
        text: str = self.tokenizer.decode([tokens] if isinstance(tokens, int) else list(tokens))
        return text.strip() or text


def load(folder: Path, name: str = "the model", chat: str | None = None) -> LoadedModel:
    """Loads a checkpoint on the CPU, in the dtype in which it is stored.

    Args:
        folder: the checkpoint.
        name: what messages call it.
        chat: the sha256 of the chat template that prompts are wrapped in; None for none.

    Raises:
        ModelError: if a file is missing or can't be read, or it lacks weights that its head needs.
        FingerprintError: if its chat template is another one.
    """
    files = known_files(folder)
    config = configuration(files)
    adapter = adapter_for(config)
    require_tokenizer(files)
    read_headers(files)  # Sound, and each tensor in one file.
    dtype = stored_dtype(folder)
    with quiet(), sealed(files) as place:
        try:
            model, report = auto_class(adapter).from_pretrained(
                place,
                dtype=dtype,
                **implementations_of(adapter, config),
                output_loading_info=True,
                use_safetensors=not files.pickled,
                local_files_only=True,
                trust_remote_code=False,
            )
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            reason = str(error).replace(str(place), str(folder))
            raise ModelError(f"{folder} can't be loaded: {reason}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"{folder} lacks {len(missing)} weights that {adapter.auto_class} needs, the first being {missing[0]}; "
            "save the checkpoint with its language-model head"
        )
    model.eval()
    if isinstance(dtype, torch.dtype):
        _set_dtype(model, dtype)  # Transformers keeps some of T5's half-precision parameters in float32.
    tokenizer = load_tokenizer(files)
    encoder = make_encoder(folder, tokenizer, adapter, config, chat)
    require_known_tokens(folder, encoder, model.get_input_embeddings().num_embeddings)
    return LoadedModel(model, tokenizer, adapter, encoder, name)


def load_tokenizer(files: CheckpointFiles) -> Any:
    """A checkpoint's tokenizer.

    Raises:
        ModelError: if it can't be loaded.
    """
    with quiet(), sealed(files) as place:
        try:
            return AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # Tokenizers' own errors are bare exceptions, and their formats many.
            reason = str(error).replace(str(place), str(files.folder))
            raise ModelError(f"{files.folder} has a tokenizer that can't be loaded: {reason}") from error


def load_encoder(folder: Path, chat: str | None = None) -> Encoder:
    """A checkpoint's encoder alone; its weights are not read. See `load`.

    Raises:
        ModelError: if a file is missing or can't be read.
        FingerprintError: if its chat template is another one.
    """
    files = known_files(folder)
    config = configuration(files)
    require_tokenizer(files)
    return make_encoder(folder, load_tokenizer(files), adapter_for(config), config, chat)


def make_encoder(folder: Path, tokenizer: Any, adapter: Adapter, config: Any, chat: str | None = None) -> Encoder:
    """The encoder of a checkpoint, from its tokenizer, its family's adapter and its configuration.

    Raises:
        ModelError: if prompts can't be shown to it.
        FingerprintError: if its chat template is another one.
    """
    frame = None
    if chat is not None:
        special = {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
        frame = frame_of(require_template(folder, chat), special)
    start = getattr(config, "decoder_start_token_id", None)
    try:
        return Encoder(tokenizer, adapter.blank, adapter.max_tokens(config), start, frame)
    except ModelError as error:
        raise ModelError(f"{folder} can't be asked: {error.text}") from error


def require_known_tokens(folder: Path, encoder: Encoder, words: int) -> None:
    """Refuses a model that does not know the token for the blank, or the one with which its decoder starts.

    Transformers adds a mask token that the vocabulary lacks, and says nothing.

    Args:
        folder: the checkpoint.
        encoder: its encoder.
        words: how many tokens it has embeddings of.

    Raises:
        ModelError: if it is one of those beyond.
    """
    for name, token in encoder.fed_always:
        if not 0 <= token < words:
            raise ModelError(
                f"{folder} can't be asked: the token for {name} is number {token}, and the model knows tokens 0 to "
                f"{words - 1}; use the tokenizer and the configuration that belong to the model"
            )


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
        raise UsageError(
            f"{option('device', name)} can't be used here ({reason}); it must be auto, cpu, cuda or mps"
        ) from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"{option('device')} must be auto, cpu, cuda or mps (got {name!r})")
    return device


def known_files(folder: Path) -> CheckpointFiles:
    """The files of a checkpoint of an architecture that kndb knows.

    Ahead of the weights, which others may have in files of other names; and of transformers, which would not say what
    kndb knows.

    Raises:
        ModelError: as `checkpoint_files`; UnsupportedModelError if kndb does not know the architecture.
    """
    values = configuration_of(folder)
    if "model_type" in values:
        require_known(SimpleNamespace(**values))
    return checkpoint_files(folder)


def configuration(files: CheckpointFiles) -> Any:
    """The checkpoint's configuration as transformers reads it.

    Raises:
        ModelError: if it can't; UnsupportedModelError if kndb does not know the architecture.
    """
    try:
        with sealed(files) as place:
            return AutoConfig.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise ModelError(f"{files.folder / CONFIGURATION} can't be read: {error}") from error


def attention_of(adapter: Adapter, config: Any) -> str:
    """Which of transformers' implementations of attention to load: never one that a configuration names.

    Fused attention leaves the cap on scores out, in some versions of transformers without a word.
    """
    if adapter.attention.softcap is not None:
        return "eager"
    return "sdpa" if getattr(model_class(adapter, config), "_supports_sdpa", False) else "eager"


def implementations_of(adapter: Adapter, config: Any) -> dict[str, str]:
    """Which of transformers' implementations of a model's parts to load: never those that a configuration names."""
    attention = {"attn_implementation": attention_of(adapter, config)}
    return attention | ({"experts_implementation": "eager"} if isinstance(adapter.ffn, Experts) else {})


def require_tokenizer(files: CheckpointFiles) -> None:
    """Transformers would make up an empty tokenizer where there is none."""
    versioned = any(path.name not in TOKENIZER_FILES for path in files.tokenizer)
    if not versioned and not any(path.name in VOCABULARY_FILES for path in files.tokenizer):
        raise ModelError(
            f"{files.folder} has none of a tokenizer's files ({', '.join(VOCABULARY_FILES)}); save the "
            "model's tokenizer there with save_pretrained"
        )


def _set_dtype(model: nn.Module, dtype: torch.dtype) -> None:
    """Changes a model's parameters.

    Buffers keep their dtype, as when transformers loads a model: the angles of rotary embeddings, say, are not to be
    rounded to half precision.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def model_class(adapter: Adapter, config: Any) -> Any:
    """The class of transformers of which a configuration's model is, with its head."""
    found = getattr(auto_class(adapter), "_model_mapping", {})[type(config)]
    return found[0] if isinstance(found, tuple) else found


def auto_class(adapter: Adapter) -> Any:
    """The class of transformers that loads such a model with its head."""
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
