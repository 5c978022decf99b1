"""The tensors of a LoRA adapter as peft has them in `adapter_model.safetensors`: names, bytes, and reading strangers'.

Of each changed module there are `base_model.model.MODULE.lora_A.weight` [r, in] and `….lora_B.weight` [out, r]. The
same tensors and metadata give the same bytes. What is read is bounded, and every name and value in it is checked.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from ...advice import option
from ...errors import InputError
from ...files import bounded_content
from ...records.json_text import JsonTextError, read_json
from .low_rank import LowRank
from .object_bytes import FlawError, header_length

FILE = "adapter_model.safetensors"
PICKLED = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth")
OWN = "kndb"
"""The key of the file's metadata under which kndb says what it is."""
_START = "base_model.model."
_NAME = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_NAMED = 5


@dataclass(frozen=True, eq=False)
class AdapterTensors:
    """The tensors of an adapter.

    Attributes:
        modules: by module, A [r, in] and B [out, r].
        metadata: of the file; texts.
        sha256: of the file's bytes.
    """

    modules: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    metadata: Mapping[str, str]
    sha256: str


def encode(changes: Mapping[str, LowRank], described: Mapping[str, object]) -> bytes:
    """The bytes of the file of an adapter.

    Args:
        changes: by module.
        described: what kndb says of it, as JSON.
    """
    tensors: dict[str, torch.Tensor] = {}
    for module, change in changes.items():
        tensors[f"{_START}{module}.lora_A.weight"] = change.left.T.contiguous()
        tensors[f"{_START}{module}.lora_B.weight"] = change.right.T.contiguous()
    text = json.dumps(described, sort_keys=True, ensure_ascii=False, allow_nan=False)
    header: dict[str, object] = {"__metadata__": {"format": "pt", OWN: text}}
    parts, position = [], 0
    for name, tensor in sorted(tensors.items()):
        raw = tensor.numpy().astype("<f4").tobytes()
        end = position + len(raw)
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [position, end]}
        parts.append(raw)
        position = end
    start = json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    start += b" " * (-len(start) % 8)
    return len(start).to_bytes(8, "little") + start + b"".join(parts)


def read(folder: Path, most_bytes: int) -> AdapterTensors:
    """Reads the tensors of an adapter folder.

    Args:
        folder: the folder.
        most_bytes: a larger file is refused.

    Raises:
        InputError: if it has none as safetensors, or they are not those of a plain LoRA adapter.
    """
    path = folder / FILE
    pickled = next((name for name in PICKLED if (folder / name).exists()), None)
    if not path.exists() and pickled is not None:
        raise InputError(
            f"{folder / pickled} is pickled, and to unpickle a file runs whatever its sender put into it; save the "
            f"adapter as {FILE} where you trust it (save_pretrained of peft does)"
        )
    content = bounded_content(path, most_bytes, f"; allow more with {option('most_bytes')}")
    metadata = _metadata(path, content)
    try:
        tensors = safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{path} can't be read as safetensors: {error}; fetch the adapter again") from error
    return AdapterTensors(_modules(path, tensors), metadata, hashlib.sha256(content).hexdigest())


def _metadata(path: Path, content: bytes) -> dict[str, str]:
    """The texts of a file's metadata, of a header that is read within bounds."""
    try:
        length = header_length(content[:8], len(content))
        header = read_json(content[8 : 8 + length].decode("utf-8"))
    except (FlawError, JsonTextError, UnicodeDecodeError) as error:
        raise InputError(f"{path} has no sound safetensors header: {error}; fetch the adapter again") from None
    found = header.get("__metadata__") if isinstance(header, dict) else None
    return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def _modules(path: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    sides: dict[str, dict[str, torch.Tensor]] = {}
    beside = []
    for name, tensor in sorted(tensors.items()):
        match = _NAME.fullmatch(name)
        if match is None:
            beside.append(name)
            continue
        own = sides.setdefault(match["module"], {})
        if match["side"] in own:
            raise InputError(f"{path} has lora_{match['side']} of {match['module']} twice; fetch the adapter again")
        own[match["side"]] = tensor
    if beside:
        raise InputError(
            f"{path} has tensors beside the lora_A and lora_B of modules: {named(beside)}; only a plain LoRA adapter "
            "can "
            "be taken in (no saved modules, biases, embeddings or magnitudes). Merge it into the checkpoint with the "
            "tool that made it, and capture that"
        )
    if not sides:
        raise InputError(f"{path} has no lora_A and lora_B of any module")
    return {module: _checked(path, module, own) for module, own in sides.items()}


def _checked(path: Path, module: str, own: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    if len(own) < 2:
        raise InputError(f"{path} has lora_{'AB'['A' in own]} of {module} missing; fetch the adapter again")
    one, other = own["A"], own["B"]
    for side, tensor in own.items():
        if tensor.dtype not in _DTYPES:
            raise InputError(f"{path}: lora_{side} of {module} is {tensor.dtype}; it must be a floating dtype")
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{path}: lora_{side} of {module} has NaN or infinity; all values must be finite")
    if one.ndim != 2 or other.ndim != 2 or one.shape[0] != other.shape[1] or not one.shape[0]:
        raise InputError(
            f"{path}: lora_A {list(one.shape)} and lora_B {list(other.shape)} of {module} are no [r, in] and [out, r]; "
            "a convolution's, or one of another form, can't be taken in"
        )
    return one, other


def named(names: list[str]) -> str:
    """The first few of some names."""
    return ", ".join(names[:_NAMED]) + (f", and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
