"""Writing a patched checkpoint as a folder of its own.

The base checkpoint's files are copied, and in its safetensors files just the tensors that differ are replaced: names,
dtypes, configuration and tokenizer stay as they were. Weights in other formats beside them are left out. The folder
appears under its name when it is complete.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ..errors import ModelError, UsageError
from ..files import sync
from .weights import OTHER_WEIGHTS, stored_name, weight_files


def export_checkpoint(source: Path, target: Path, changed: Mapping[str, torch.Tensor]) -> None:
    """Copies a checkpoint, some of its parameters replaced.

    Args:
        source: the base checkpoint's folder; only read.
        target: a folder that does not exist yet, or is empty.
        changed: the parameters to replace, by their names in the model, in the checkpoint's own dtype and shape.

    Raises:
        UsageError: if the target exists and is not empty, or lies in the source.
        ModelError: if a parameter is not in the checkpoint's safetensors files, or the target can't be written.
    """
    if target.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{target} lies in the base checkpoint's own folder {source}; choose another --out")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists already and is not an empty folder; choose another --out")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            folder = Path(scratch) / "checkpoint"
            _write(source, folder, changed)
            if target.exists():
                target.rmdir()
            folder.replace(target)
    except OSError as error:
        raise ModelError(f"{target} can't be written: {error.strerror or error}") from error


def _write(source: Path, folder: Path, changed: Mapping[str, torch.Tensor]) -> None:
    weights = weight_files(source)
    folder.mkdir()
    for path in sorted(source.iterdir()):
        if path.is_file() and path not in weights and path.suffix not in OTHER_WEIGHTS:
            shutil.copyfile(path, folder / path.name)
    missing = dict(changed)
    for path in weights:
        replaced = _names_in(path, missing)
        if replaced:
            _patch(path, folder / path.name, {stored: missing.pop(name) for name, stored in replaced.items()})
        else:
            shutil.copyfile(path, folder / path.name)
    if missing:
        raise ModelError(
            f"found no tensor for {sorted(missing)[0]} in the safetensors files of {source}; expected its edited "
            "parameters there. Save the checkpoint with save_pretrained first"
        )
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors makes files that only their owner may read.
        sync(path)


def _names_in(path: Path, wanted: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Each wanted parameter's name in a file; a file saved from the body alone lacks the body's prefix."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, framework="pt") as file:
        stored = set(file.keys())
    matches = {name: stored_name(name, stored) for name in wanted}
    return {name: match for name, match in matches.items() if match is not None}


def _patch(source: Path, target: Path, replacements: Mapping[str, torch.Tensor]) -> None:
    with safe_open(source, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    for name, tensor in replacements.items():
        present = tensors[name]
        if (present.dtype, present.shape) != (tensor.dtype, tensor.shape):
            raise ModelError(
                f"{name} in {source} is {present.dtype} {list(present.shape)}; "
                f"expected {tensor.dtype} {list(tensor.shape)}"
            )
        tensors[name] = tensor.detach().cpu().contiguous()
    save_file(tensors, target, metadata=metadata)
