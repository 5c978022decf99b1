"""Weight files in another dtype, and how many values that would change."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ..advice import option
from ..errors import ModelError, UsageError
from ..files import sync
from .checkpoint_files import INDEX

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def require_dtype(name: str) -> torch.dtype:
    """The dtype of a name.

    Raises:
        UsageError: if a checkpoint is not written in it.
    """
    if name not in _DTYPES:
        raise UsageError(f"{option('dtype')} must be one of {', '.join(_DTYPES)} (got {name!r})")
    return _DTYPES[name]


def count_lost(source: Path, replacements: Mapping[str, torch.Tensor], dtype: torch.dtype) -> Iterator[tuple[str, int]]:
    """Names the tensors of a file of which a dtype can't hold each value, with how many it can't.

    A value counts that is another one when it is converted there and back.

    Args:
        source: a safetensors file.
        replacements: tensors that stand for those of the same name.
        dtype: the dtype.

    Raises:
        ModelError: if the weights are pickled.
    """
    for name, tensor in _tensors(source, replacements):
        lost = _lost(tensor, dtype)
        if lost:
            yield name, lost


def convert_file(source: Path, target: Path, replacements: Mapping[str, torch.Tensor], dtype: torch.dtype) -> int:
    """Writes a safetensors file with its floating tensors in another dtype; the file is held in memory meanwhile.

    Args:
        source: the file.
        target: the file to write.
        replacements: tensors that stand for those of the same name.
        dtype: the dtype.

    Returns:
        How many values it changes.

    Raises:
        ModelError: if the weights are pickled.
    """
    lost = 0
    converted: dict[str, torch.Tensor] = {}
    for name, tensor in _tensors(source, replacements):
        lost += _lost(tensor, dtype)
        converted[name] = tensor.to(dtype).contiguous() if tensor.is_floating_point() else tensor
    with safe_open(source, framework="pt") as file:
        metadata = file.metadata()
    save_file(converted, target, metadata=metadata)
    target.chmod(0o644)  # safetensors makes files that only their owner may read.
    sync(target)
    return lost


def follow_dtype(folder: Path, dtype: torch.dtype) -> None:
    """Makes a checkpoint's configuration and index say what its files now hold."""
    config = folder / "config.json"
    if config.is_file():
        values = json.loads(config.read_text(encoding="utf-8"))
        if not _set_dtype(values, str(dtype).removeprefix("torch.")):
            values["dtype"] = str(dtype).removeprefix("torch.")
        _write_json(config, values)
    index = folder / INDEX
    if index.is_file():
        values = json.loads(index.read_text(encoding="utf-8"))
        values.setdefault("metadata", {})["total_size"] = sum(map(_payload, folder.glob("*.safetensors")))
        _write_json(index, values)


def _set_dtype(values: dict[str, Any], name: str) -> bool:
    """Replaces the dtypes that a configuration names, those of its parts too; says whether it names its own."""
    for part in values.values():
        if isinstance(part, dict):
            _set_dtype(part, name)
    keys = [key for key in ("dtype", "torch_dtype") if key in values]
    values.update(dict.fromkeys(keys, name))
    return bool(keys)


def _payload(path: Path) -> int:
    """Bytes of a safetensors file's tensors: all that comes after its header."""
    with path.open("rb") as file:
        return path.stat().st_size - 8 - int.from_bytes(file.read(8), "little")


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    sync(path)


def _tensors(source: Path, replacements: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    if source.suffix != ".safetensors":
        raise ModelError(
            f"{source} is pickled, and only *.safetensors are converted. Save the checkpoint with save_pretrained first"
        )
    with safe_open(source, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
            yield name, replacements[name] if name in replacements else file.get_tensor(name)


def _lost(tensor: torch.Tensor, dtype: torch.dtype) -> int:
    """How many values another dtype changes; NaN stays NaN."""
    if not tensor.is_floating_point():
        return 0
    back = tensor.to(dtype).to(tensor.dtype)
    return int(((back != tensor) & ~(back.isnan() & tensor.isnan())).sum())
