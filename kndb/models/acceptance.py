"""Whether a checkpoint can be used at all, found out when it is registered: what can't is refused, with the way out.

In the order of what it costs: what the configuration says, the headers of the weight files, the model's shape without
its weights, its tokenizer, and last each weight, read once at disk speed. Nothing is allocated by a size that only the
configuration claims.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors import SafetensorError

from ..advice import option
from ..errors import ModelError, UsageError
from .adapter import Adapter, Blank, Experts
from .chat import find_template
from .checkpoint_files import CONFIGURATION, CheckpointFiles
from .expert_files import as_loaded
from .fingerprint import FLOATING, fingerprint
from .loading import (
    auto_class,
    configuration,
    implementations_of,
    known_files,
    load_tokenizer,
    make_encoder,
    model_class,
    quiet,
    require_known_tokens,
    require_tokenizer,
)
from .network import Network
from .registry import adapter_for
from .weights import Header, read_headers

MOST_LAYERS = 2_000
SIZES = {
    "vocab_size": 1 << 28,
    "hidden_size": 1 << 20,
    "intermediate_size": 1 << 24,
    "num_attention_heads": 1 << 16,
    "max_position_embeddings": 1 << 24,
}
"""The largest sizes that a configuration may name, each some ten times those of the largest models."""
PREFIXES = {
    "_orig_mod.": "it was saved from a compiled model (torch.compile); save model._orig_mod with save_pretrained",
    "module.": "it was saved from a parallel wrapper; save model.module with save_pretrained",
}
"""What stands before the names of weights that were saved from something around the model, and the way out."""
_EXPONENTS = {"F64": ("<u8", 0x7FF0 << 48), "F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
"""Of each floating dtype, its bits as a number, and those of the exponent: all of them set, it is no finite number."""
Entries = Mapping[str, Mapping[str, Any]]
"""What safetensors files say of each tensor: its dtype and shape."""
_ALLOWANCE = 1.2
"""A model may have so many times the weights that are stored: a head that is missing is named, and not just missed."""
_NARROW = re.compile(r"F[468](_|$)")
_CHUNK = 1 << 24


@dataclass(frozen=True)
class CheckpointDescription:
    """What the store keeps of a checkpoint.

    Attributes:
        family: its adapter's.
        layers: how many.
        neurons: FFN neurons per layer.
        fingerprint: 64 hex digits.
        pickled: whether its weights are pickled, so that edits can be planned and not applied to a copy on disk.
        chat_template: the sha256 of the chat template that its prompts are to be wrapped in; None for none.
    """

    family: str
    layers: int
    neurons: int
    fingerprint: str
    pickled: bool = False
    chat_template: str | None = None


def describe(folder: Path, *, chat: bool = False) -> CheckpointDescription:
    """Reads what the store keeps of a checkpoint, and refuses one that can't be used.

    Args:
        folder: the checkpoint.
        chat: whether its prompts are to be wrapped in its chat template.

    Raises:
        UsageError: if it has none to be wrapped in, as it is no causal language model.
        ModelError: if it can't; UnsupportedModelError if no adapter fits it.
    """
    files = known_files(folder)
    _require_plain_weights(files)
    config = configuration(files)
    adapter = adapter_for(config)
    require_tokenizer(files)
    by_file = read_headers(files)
    headers = {name: entry for _, entries in by_file.values() for name, entry in entries.items()}
    _require_sizes(files, config, headers)
    tokenizer = load_tokenizer(files)
    template = _chat_template(files, adapter) if chat else None
    encoder = make_encoder(files.folder, tokenizer, adapter, config, template)
    _require_padding(files, adapter, config, tokenizer)
    network = _without_weights(files, adapter, config, headers)
    rows = int(network.word_embeddings.shape[0])
    _require_embedded_tokens(files, tokenizer, rows)
    require_known_tokens(files.folder, encoder, rows)
    digest = fingerprint(folder)
    for path, header in by_file.items():
        _require_finite(path, header)
    layers = len(network.layers)
    return CheckpointDescription(adapter.family, layers, network.neurons, digest, files.pickled, template)


# --- what it says of itself --------------------------------------------------------------------------------------


def _require_plain_weights(files: CheckpointFiles) -> None:
    """Quantised weights are no weights that can be attributed to or edited: their bytes are codes."""
    said = files.configuration.get("quantization_config") or files.configuration.get("compression_config")
    if said:
        method = said.get("quant_method") if isinstance(said, Mapping) else None
        raise ModelError(
            f"{files.folder} is quantised ({method or 'by an unnamed method'}), and value slots of quantised weights "
            "can't be attributed or edited; register the checkpoint that it was made from, or load this one, call "
            "model.dequantize() and save it with save_pretrained"
        )


def _require_sizes(files: CheckpointFiles, config: Any, headers: Entries) -> None:
    """Sizes that a model can have."""
    narrow = sorted(name for name, entry in headers.items() if _NARROW.match(entry["dtype"]))
    if narrow:
        raise ModelError(
            f"{files.folder} has weights of 8 bits or fewer ({narrow[0]} is {headers[narrow[0]]['dtype']}), which mean "
            "nothing without their scales; register the checkpoint that it was made from"
        )
    layers = getattr(config, "num_hidden_layers", None)
    if type(layers) is not int or not 1 <= layers <= MOST_LAYERS:
        raise ModelError(
            f"{files.folder / CONFIGURATION} says that the model has {layers!r} layers; it must be a number from 1 to "
            f"{MOST_LAYERS:,}: correct it, or fetch it again"
        )
    for name, largest in SIZES.items():
        size = getattr(config, name, None)
        if size is not None and (type(size) is not int or not 1 <= size <= largest):
            raise ModelError(
                f"{files.folder / CONFIGURATION} says that {name} is {size!r}; it must be a number from 1 to "
                f"{largest:,}: correct it, or fetch it again"
            )


# --- its shape ---------------------------------------------------------------------------------------------------


def _without_weights(files: CheckpointFiles, adapter: Adapter, config: Any, headers: Entries) -> Network:
    """The model with its parameters' shapes only, once transformers found each of them in the files.

    It is given tensors of the stored shapes that take no memory: which of them it misses is what it would say of the
    real ones.
    """
    chosen = model_class(adapter, config)
    try:
        with torch.device("meta"), quiet():
            network = Network(auto_class(adapter).from_config(config), adapter)
        if files.pickled:
            return network
        _require_as_many(files, network, headers)
        stand_ins = {name: _stand_in(entry) for name, entry in _together(network, headers).items()}
        with quiet():
            _, report = chosen.from_pretrained(
                None,
                config=config,
                state_dict=stand_ins,
                **implementations_of(adapter, config),
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"no model can be made from {files.folder / CONFIGURATION}: {error}") from error
    _require_complete(files, adapter, report)
    return network


def _together(network: Network, headers: Entries) -> Entries:
    """The entries with those of single experts as one: transformers would put even stand-ins together in memory."""
    names = {
        name: int(parameter.shape[0])
        for name, parameter in network.model.named_parameters()
        if parameter.ndim == 3 and isinstance(network.adapter.ffn, Experts)
    }
    return as_loaded(headers, names)


def _stand_in(entry: Mapping[str, Any]) -> torch.Tensor:
    """A tensor of a stored one's shape that holds a single value."""
    floating = entry["dtype"] in FLOATING
    return torch.zeros((), dtype=torch.float32 if floating else torch.int64).expand(entry["shape"])


def _require_as_many(files: CheckpointFiles, network: Network, headers: Entries) -> None:
    """What the files lack would be made up, at whatever size the configuration claims."""
    wanted = sum(parameter.numel() for parameter in network.model.parameters())
    stored = sum(math.prod(entry["shape"]) for entry in headers.values())
    if wanted > _ALLOWANCE * stored:
        raise ModelError(
            f"{files.folder / CONFIGURATION} describes a model of {wanted:,} weights, and the files have {stored:,}; "
            "the two are not of one checkpoint, or a part of it is missing: fetch it again"
        )


def _require_complete(files: CheckpointFiles, adapter: Adapter, report: Mapping[str, Any]) -> None:
    mismatched, missing = sorted(report["mismatched_keys"], key=str), sorted(report["missing_keys"])
    if mismatched:
        name, stored, wanted = (*mismatched[0], None, None)[:3]
        raise ModelError(
            f"{files.folder} has {name} in the shape {list(stored or ())}, and its configuration says "
            f"{list(wanted or ())}; the two are not of one model: fetch the checkpoint again"
        )
    if not missing:
        return
    for prefix, way_out in PREFIXES.items():
        if any(name.startswith(prefix) for name in report["unexpected_keys"]):
            raise ModelError(f"{files.folder} has weights whose names begin with {prefix!r}: {way_out}")
    raise ModelError(
        f"{files.folder} lacks {len(missing)} weights that {adapter.auto_class} needs, the first being {missing[0]}; "
        "it must be saved whole, with its language-model head: fetch it again, or save it from that class"
    )


# --- its tokenizer -----------------------------------------------------------------------------------------------


def _chat_template(files: CheckpointFiles, adapter: Adapter) -> str:
    """The sha256 of its chat template, which is for models that go on where a text stops."""
    if adapter.blank is not Blank.CUT:
        raise UsageError(
            f"{option('chat', True)} wraps prompts for causal language models, and a {adapter.family} model fills "
            f"blanks; leave {option('chat', True)} out"
        )
    return find_template(files.folder).sha256


def _require_padding(files: CheckpointFiles, adapter: Adapter, config: Any, tokenizer: Any) -> None:
    """Where positions are counted from behind the padding token's number, both sides must mean the same token."""
    if "pad_token_id" not in dict(adapter.unsupported):
        return
    if tokenizer.pad_token_id != config.pad_token_id:
        raise ModelError(
            f"{files.folder} has a tokenizer whose padding token is number {tokenizer.pad_token_id}, and its "
            f"{CONFIGURATION} says {config.pad_token_id}, from which a {adapter.family} model counts positions; use "
            "the tokenizer that was trained with the model, or correct pad_token_id"
        )


def _require_embedded_tokens(files: CheckpointFiles, tokenizer: Any, rows: int) -> None:
    """Each token that the tokenizer may give has a row among the embeddings."""
    highest = max(tokenizer.get_vocab().items(), key=lambda entry: entry[1], default=("", -1))
    if highest[1] >= rows:
        raise ModelError(
            f"{files.folder} has a tokenizer whose token {highest[0]!r} is number {highest[1]:,}, and the model's "
            f"embeddings end at {rows - 1:,}; use the tokenizer that was trained with the model, or resize the model's "
            "embeddings and save it"
        )


# --- each weight -------------------------------------------------------------------------------------------------


def _require_finite(path: Path, header: Header) -> None:
    """Reads a weight file once: a weight that is no finite number makes every probability one that isn't."""
    payload, entries = header
    try:
        with path.open("rb", buffering=0) as file:
            for name, entry in entries.items():
                if entry["dtype"] in _EXPONENTS:
                    start, end = entry["data_offsets"]
                    bad = _not_finite(file.fileno(), payload + start, end - start, *_EXPONENTS[entry["dtype"]])
                    if bad:
                        raise ModelError(
                            f"{path} has weights that are not finite numbers (NaN or infinity): {bad:,} of {name}; the "
                            "model can give no probabilities: fetch the checkpoint again, or save it in a dtype that "
                            "holds its values"
                        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} can't be read as safetensors: {error}") from error


def _not_finite(file: int, start: int, size: int, bits: str, exponent: int) -> int:
    found, item = 0, numpy.dtype(bits).itemsize
    mask = numpy.array(exponent, bits)
    for offset in range(0, size, _CHUNK):
        content = os.pread(file, min(_CHUNK, size - offset), start + offset)
        if len(content) % item:
            raise ValueError("a tensor that ends beyond the file")
        found += int(numpy.count_nonzero((numpy.frombuffer(content, bits) & mask) == mask))
    return found
