"""Loading a checkpoint without its weights: what is needed of them is read when it is needed, see `residency`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from ..advice import Placeholder, call, option
from ..errors import ModelError, UnsupportedModelError, UsageError
from .adapter import Adapter
from .checkpoint_files import CheckpointFiles
from .device_maps import Split, homes
from .fingerprint import stored_dtype
from .loading import (
    LoadedModel,
    auto_class,
    configuration,
    implementations_of,
    known_files,
    load_tokenizer,
    make_encoder,
    quiet,
    require_known_tokens,
    require_tokenizer,
)
from .network import layer_paths
from .registry import adapter_for
from .residency import Residency, resolve_module
from .stored_values import StoredValues, find_on_disk
from .weights import read_headers, tensor_places


def load_split(folder: Path, split: Split, name: str = "the model", chat: str | None = None) -> LoadedModel:
    """Loads a checkpoint without its weights; `LoadedModel.moved` then fetches those that always stay in memory.

    Args:
        folder: the checkpoint.
        split: where its parameters are to be kept, and what computes.
        name: what messages call it.
        chat: the sha256 of the chat template that prompts are wrapped in; None for none.

    Raises:
        ModelError: if a file is missing or can't be read, or lacks parameters or has them in other shapes.
        UsageError: if the device map is not one of this model, or accelerate is not installed.
        FingerprintError: if its chat template is another one.
    """
    require_accelerate()
    files = known_files(folder)
    if files.pickled:
        raise ModelError(
            f"{folder} has pickled weights, of which no part can be read alone, as {option('device_map')} needs; "
            f"convert it first: {call('models.convert', folder, out=Placeholder('DIR'))}"
        )
    config = configuration(files)
    require_tokenizer(files)
    adapter = adapter_for(config)
    model, residency = without_weights(files, config, adapter, split)
    tokenizer = load_tokenizer(files)
    encoder = make_encoder(folder, tokenizer, adapter, config, chat)
    require_known_tokens(folder, encoder, cast("Any", model).get_input_embeddings().num_embeddings)
    return LoadedModel(model, tokenizer, adapter, encoder, name, residency)


def without_weights(files: CheckpointFiles, config: Any, adapter: Adapter, split: Split) -> tuple[nn.Module, Residency]:
    """A checkpoint's model without its weights, and what brings them.

    Raises:
        ModelError: if the files lack parameters, or have them in other shapes.
        UsageError: if the device map is not one of this model.
    """
    read_headers(files)  # Sound, and each tensor in one file.
    stored = stored_dtype(files.folder)
    loaded = stored if isinstance(stored, torch.dtype) else torch.float32
    with quiet():
        model = _empty(adapter, config, loaded)
    layers = layer_paths(model, adapter)
    if not layers:
        raise UnsupportedModelError(f"this {adapter.family} model has no layers; at least one is needed")
    kept = homes(split, model, layers)
    return model, Residency(model, adapter, layers, kept, _values(files.folder, model, loaded))


def require_accelerate() -> None:
    """Refuses to go on without the package that makes a model without its weights.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        import accelerate  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{option('device_map')} needs the package accelerate; install it: pip install 'kndb[map]'"
        ) from error


def _empty(adapter: Adapter, config: Any, dtype: torch.dtype) -> nn.Module:
    """The model with its buffers, and parameters that take no memory."""
    from accelerate import init_empty_weights

    with init_empty_weights():
        model = auto_class(adapter).from_config(config, dtype=dtype, **implementations_of(adapter, config))
    model.tie_weights()
    every = list(model.named_parameters(remove_duplicate=False))  # Held, so that none of their ids is given again.
    made: dict[int, nn.Parameter] = {}
    for name, parameter in every:
        if id(parameter) not in made:
            absent = torch.full((1,), torch.nan, dtype=dtype).expand(parameter.shape)
            made[id(parameter)] = nn.Parameter(absent, requires_grad=False)
        owner, _, own = name.rpartition(".")
        setattr(resolve_module(model, owner), own, made[id(parameter)])
    found: nn.Module = model.eval()
    return found


def _values(folder: Path, model: nn.Module, loaded: torch.dtype) -> dict[str, StoredValues]:
    """Where the checkpoint has each parameter; what it has of buffers is read."""
    places = tensor_places(folder)
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    found: dict[str, StoredValues] = {}
    for name, parameter in model.named_parameters():
        values = find_on_disk(folder, names[id(parameter)], tuple(parameter.shape), places, loaded)
        if values is None:
            raise ModelError(
                f"{folder} has no weights of the name and shape of {name} {list(parameter.shape)}, so that "
                f"{option('device_map')} can't find them; load it without, or save it again with save_pretrained"
            )
        found[name] = values
    for name, buffer in list(model.named_buffers()):
        stored = find_on_disk(folder, [name], tuple(buffer.shape), places, buffer.dtype)
        if stored is not None:
            owner, _, own = name.rpartition(".")
            setattr(resolve_module(model, owner), own, stored.read())
    return found
