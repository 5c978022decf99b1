"""The fingerprint of a checkpoint: sha256 over its weights, tokenizer and configuration.

Weights are hashed tensor by tensor, by name, so the same weights in other shards have the same fingerprint. The
files are hashed as they lie on disk, not as some version of transformers loads them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..errors import ModelError
from .weights import weight_files

TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
FLOATING = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""The floating dtypes by their names in safetensors."""
IGNORED_CONFIGURATION = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")


def fingerprint(folder: Path) -> str:
    """Hashes a checkpoint folder.

    Args:
        folder: holds `config.json`, weights as `*.safetensors` (or `pytorch_model*.bin`) and a tokenizer.

    Returns:
        64 hex digits.

    Raises:
        ModelError: if a file is missing or can't be read.
    """
    digest = hashlib.sha256(b"kndb checkpoint 1\n")
    for name, tensor_digest in sorted(_tensors(folder)):
        digest.update(f"tensor {name} {tensor_digest}\n".encode())
    for name in TOKENIZER_FILES:
        path = folder / name
        if path.is_file():
            digest.update(f"tokenizer {name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    digest.update(f"config {_configuration(folder)}\n".encode())
    return digest.hexdigest()


def stored_dtype(folder: Path) -> torch.dtype | str:
    """The widest floating dtype among a checkpoint's safetensors; `auto` for pickled weights.

    The configuration may name another one, and transformers would round the weights to it.

    Raises:
        ModelError: if there are no weights, or they can't be read.
    """
    found: set[torch.dtype] = set()
    for path in weight_files(folder):
        if path.suffix != ".safetensors":
            return "auto"
        try:
            with safe_open(path, framework="pt") as file:
                names = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} can't be read as safetensors: {error}") from error
        found |= {FLOATING[name] for name in names if name in FLOATING}
    return max(found, key=lambda dtype: (dtype.itemsize, str(dtype))) if found else "auto"


def _tensors(folder: Path) -> Iterator[tuple[str, str]]:
    for path in weight_files(folder):
        if path.suffix == ".safetensors":
            yield from _safetensors(path)
        else:
            yield from _pickled(path)


def _safetensors(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                yield name, tensor_sha256(file.get_tensor(name))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} can't be read as safetensors: {error}") from error


def _pickled(path: Path) -> Iterator[tuple[str, str]]:
    try:
        tensors: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(f"{path} can't be read as plain tensors: {error}") from error
    for name, tensor in tensors.items():
        yield name, tensor_sha256(tensor)


def tensor_sha256(tensor: torch.Tensor) -> str:
    """The sha256 of a CPU tensor's dtype, shape and bytes, in hex."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
    digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _configuration(folder: Path) -> str:
    path = folder / "config.json"
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"found no config.json in {folder}; expected a transformers checkpoint folder") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} can't be read as JSON: {error}") from error
    kept = {name: value for name, value in values.items() if name not in IGNORED_CONFIGURATION}
    return json.dumps(kept, sort_keys=True)
