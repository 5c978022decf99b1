"""The fingerprint of a checkpoint: sha256 over its weights, tokenizer and configuration.

Weights are hashed tensor by tensor, by name, so the same weights in other shards have the same fingerprint. The
files are hashed as they lie on disk, not as some version of transformers loads them. Of safetensors files the bytes
are hashed without torch, which is imported only for pickled ones.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from safetensors import SafetensorError, safe_open

from ..errors import ModelError
from .checkpoint_files import CheckpointFiles, checkpoint_files
from .weights import Header, read_headers, weight_files

if TYPE_CHECKING:
    import torch

FLOATING = ("F64", "F32", "F16", "BF16")
"""The floating dtypes that a model can be loaded in, by their names in safetensors, as torch calls them below."""
_TORCH_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "BOOL": "bool",
    "C64": "complex64",
    **{f"{kind}{bits}": f"{word}{bits}" for kind, word in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)},
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
"""What torch calls the dtypes of safetensors: the name is hashed with a tensor's bytes."""
_CHUNK = 1 << 24
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
    files = checkpoint_files(folder)
    digest = hashlib.sha256(b"kndb checkpoint 1\n")
    for name, tensor_digest in sorted(_tensors(files)):
        digest.update(f"tensor {name} {tensor_digest}\n".encode())
    for path in files.tokenizer:
        digest.update(f"tokenizer {path.name} {_file_sha256(path)}\n".encode())
    digest.update(f"config {_configuration(files)}\n".encode())
    return digest.hexdigest()


def stored_dtype(folder: Path) -> torch.dtype | str:
    """The widest floating dtype among a checkpoint's safetensors; `auto` for pickled weights.

    The configuration may name another one, and transformers would round the weights to it.

    Raises:
        ModelError: if there are no weights, or they can't be read.
    """
    import torch

    found: set[torch.dtype] = set()
    for path in weight_files(folder):
        if path.suffix != ".safetensors":
            return "auto"
        try:
            with safe_open(path, framework="pt") as file:
                names = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} can't be read as safetensors: {error}") from error
        found |= {getattr(torch, _TORCH_NAMES[name]) for name in names if name in FLOATING}
    return max(found, key=lambda dtype: (dtype.itemsize, str(dtype))) if found else "auto"


def _tensors(files: CheckpointFiles) -> Iterator[tuple[str, str]]:
    """Each tensor's name and hash."""
    headers = read_headers(files)
    for path in files.weights:
        yield from _pickled(path) if files.pickled else _safetensors(path, headers[path])


def _file_sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror or error}") from error


def _safetensors(path: Path, header: Header) -> Iterator[tuple[str, str]]:
    try:
        # Safetensors' own reader looks at the whole header; numpy, which it is told to make tensors for, makes none.
        with safe_open(path, framework="np") as checked, path.open("rb") as file:
            payload, entries = header
            if set(entries) != set(checked.keys()):
                raise ValueError("a header that is read in two ways")
            for name, entry in entries.items():
                if entry["dtype"] in _TORCH_NAMES:
                    yield name, _stored_sha256(file, payload, entry)
                else:
                    yield name, _read_sha256(path, name)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} can't be read as safetensors: {error}") from error


def _stored_sha256(file: BinaryIO, payload: int, entry: dict[str, Any]) -> str:
    """What `tensor_sha256` gives for a tensor in a file."""
    digest = hashlib.sha256(f"torch.{_TORCH_NAMES[entry['dtype']]} {tuple(entry['shape'])}\n".encode())
    start, end = entry["data_offsets"]
    file.seek(payload + start)
    left = end - start
    while left:
        content = file.read(min(left, _CHUNK))
        if not content:
            raise ValueError("a tensor that ends beyond the file")
        digest.update(content)
        left -= len(content)
    return digest.hexdigest()


def _read_sha256(path: Path, name: str) -> str:
    with safe_open(path, framework="pt") as file:
        return tensor_sha256(file.get_tensor(name))


def _pickled(path: Path) -> Iterator[tuple[str, str]]:
    import torch

    try:
        tensors: object = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # What torch says takes several lines, and one of them advises to run what the file says.
        raise ModelError(f"{path} {_flaw_of_pickle(str(error))}") from error
    if not isinstance(tensors, dict) or not all(isinstance(one, torch.Tensor) for one in tensors.values()):
        raise ModelError(f"{path} holds something other than tensors by name; save the checkpoint as safetensors")
    for name, tensor in tensors.items():
        yield str(name), tensor_sha256(tensor)


def _flaw_of_pickle(said: str) -> str:
    """Why pickled weights were not read, in one line, from what torch says."""
    found = re.search(r"(?:unsupported|:) GLOBAL ([\w.]+)", said)
    if found is not None:
        return (
            f"would run {found[1]} when it is read, and kndb runs nothing that a file says; ask its author for "
            "safetensors"
        )
    lines = (line.strip() for line in said.splitlines() if "weights_only" not in line)
    reason = next((line for line in lines if line), "no reason is given")
    return f"can't be read as pickled tensors ({reason[:120]}); fetch it again, or ask its author for safetensors"


def tensor_sha256(tensor: torch.Tensor) -> str:
    """The sha256 of a CPU tensor's dtype, shape and bytes, in hex."""
    import torch

    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
    digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _configuration(files: CheckpointFiles) -> str:
    kept = {name: value for name, value in files.configuration.items() if name not in IGNORED_CONFIGURATION}
    return json.dumps(kept, sort_keys=True)
