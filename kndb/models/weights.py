"""A checkpoint's weight files, and where in them a tensor's bytes lie. Imports no torch and reads no weights."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .checkpoint_files import CheckpointFiles, checkpoint_files, weight_map
from .expert_files import stored_names

OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".h5", ".msgpack", ".ot", ".onnx", ".gguf")
"""The same weights in other formats: a copy of them would lack the edits."""

ITEM_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Bytes of a value, for the floating dtypes by their names in safetensors."""
Header = tuple[int, dict[str, Any]]
"""Offset of the first byte after a safetensors file's header, and what the header says of each tensor, by its name."""
_HEADER_LIMIT = 100_000_000  # As safetensors itself has it.


@dataclass(frozen=True)
class TensorPlace:
    """A tensor in a safetensors file.

    Attributes:
        file: the file's name in the checkpoint folder.
        dtype: as safetensors writes it, such as `BF16`.
        shape: its sizes.
        start: offset of its first byte in the file.
    """

    file: str
    dtype: str
    shape: tuple[int, ...]
    start: int


def weight_files(folder: Path) -> list[Path]:
    """The checkpoint's weight files: safetensors where there are any, else pickled ones.

    Raises:
        ModelError: as `checkpoint_files`.
    """
    return list(checkpoint_files(folder).weights)


def stored_name(name: str, stored: Container[str]) -> str | None:
    """A parameter's name in safetensors files; one saved from the body alone lacks the body's prefix.

    Args:
        name: its name in the model.
        stored: the names in the files.
    """
    return next((candidate for candidate in stored_names(name) if candidate in stored), None)


def tensor_places(folder: Path) -> dict[str, TensorPlace]:
    """Where the floating tensors of a checkpoint's safetensors files lie, by their names there; reads headers only.

    Raises:
        ModelError: if the weights are pickled, a header is not sound, or two files have a tensor of one name.
    """
    files = checkpoint_files(folder)
    if files.pickled:
        raise ModelError(
            f"{files.weights[0]} is pickled, and only in *.safetensors can a tensor be written in place. "
            "Save the checkpoint with save_pretrained first"
        )
    return {
        name: place for path, header in read_headers(files).items() for name, place in _floating(path, header).items()
    }


def read_headers(files: CheckpointFiles) -> dict[Path, Header]:
    """What the headers of a checkpoint's safetensors files say; nothing of pickled weights.

    A tensor that two files have is refused, and so is an index that says that another file has it: which one is loaded
    would depend on the files' order.

    Raises:
        ModelError: if it is so, or a header can't be read.
    """
    headers = {} if files.pickled else {path: checked_header(path) for path in files.weights}
    homes: dict[str, str] = {}
    for path, (_, entries) in headers.items():
        for name in entries:
            if name in homes:
                raise ModelError(
                    f"{files.folder} has the tensor {name} in {homes[name]} and in {path.name}; fetch the checkpoint "
                    "again"
                )
            homes[name] = path.name
    if files.index is None or files.pickled:
        return headers
    said = weight_map(files.index)
    wrong = sorted(name for name, file in homes.items() if said.get(name) != file)
    if wrong:
        name = wrong[0]
        told = f"in {said[name]}" if name in said else "in no file"
        raise ModelError(
            f"{files.index} says that {name} is {told}, and {homes[name]} has it; fetch the checkpoint again"
        )
    return headers


def places_in(path: Path) -> dict[str, TensorPlace]:
    """Where the floating tensors of one safetensors file lie, by their names there; reads its header only.

    Raises:
        ModelError: if the header is not sound.
    """
    return _floating(path, checked_header(path))


def _floating(path: Path, header: Header) -> dict[str, TensorPlace]:
    """Where a file's floating tensors lie, of a header that was checked."""
    payload, entries = header
    return {
        name: TensorPlace(path.name, entry["dtype"], tuple(entry["shape"]), payload + entry["data_offsets"][0])
        for name, entry in entries.items()
        if entry["dtype"] in ITEM_SIZES
    }


def checked_header(path: Path) -> Header:
    """What `header_of` gives, each entry with its dtype, shape and offsets within the file.

    Raises:
        ModelError: if it can't be read, or is no header.
    """
    try:
        payload, entries = header_of(path)
        size = path.stat().st_size
        for entry in entries.values():
            _check_entry(entry, payload, size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} can't be read as safetensors: {error}") from error
    return payload, entries


def header_of(path: Path) -> Header:
    """Offset of the first byte after a safetensors file's header, and the header's entries without its metadata.

    Raises:
        OSError, ValueError, TypeError, AttributeError: if it can't be read, or is no header.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_HEADER_LIMIT, size - 8):
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return length + 8, header


def _check_entry(entry: dict[str, Any], payload: int, size: int) -> None:
    """Refuses an entry whose bytes don't lie in the file, or are not as many as it says."""
    dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if not isinstance(dtype, str) or any(type(number) is not int or number < 0 for number in (*shape, start, end)):
        raise ValueError(f"shape {shape} and offsets {start}, {end}")
    # Of other dtypes, no tensor is ever written: just the bounds matter.
    length = math.prod(shape) * ITEM_SIZES[dtype] if dtype in ITEM_SIZES else end - start
    if start + length != end or start > end or payload + end > size:
        raise ValueError(
            f"a tensor of {dtype} {list(shape)} at {start} to {end} in a file of {size} bytes; if the file is cut off, "
            "fetch it again"
        )
