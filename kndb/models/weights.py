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

OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".h5", ".msgpack", ".ot", ".onnx", ".gguf")
"""The same weights in other formats: a copy of them would lack the edits."""

ITEM_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Bytes of a value, for the floating dtypes by their names in safetensors."""
INDEX = "model.safetensors.index.json"
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
        ModelError: if there are none.
    """
    for pattern in ("*.safetensors", "pytorch_model*.bin"):
        files = sorted(folder.glob(pattern))
        if files:
            return files
    raise ModelError(f"found no *.safetensors or pytorch_model*.bin in {folder}; expected a transformers checkpoint")


def stored_name(name: str, stored: Container[str]) -> str | None:
    """A parameter's name in safetensors files; one saved from the body alone lacks the body's prefix.

    Args:
        name: its name in the model.
        stored: the names in the files.
    """
    return next((candidate for candidate in (name, name.partition(".")[2]) if candidate in stored), None)


def tensor_places(folder: Path) -> dict[str, TensorPlace]:
    """Where the floating tensors of a checkpoint's safetensors files lie, by their names there; reads headers only.

    Raises:
        ModelError: if the weights are pickled, a header is not sound, or two files have a tensor of one name.
    """
    found: dict[str, TensorPlace] = {}
    for path in weight_files(folder):
        if path.suffix != ".safetensors":
            raise ModelError(
                f"{path} is pickled; expected *.safetensors, in which a tensor can be written in place. "
                "Save the checkpoint with save_pretrained first"
            )
        for name, place in places_in(path).items():
            if name in found:
                raise ModelError(
                    f"found tensor {name} in {found[name].file} and in {path.name} of {folder}; expected it in one file"
                )
            found[name] = place
    _check_index(folder, found)
    return found


def _check_index(folder: Path, places: dict[str, TensorPlace]) -> None:
    """Transformers goes by the index where there is no single file."""
    path = folder / INDEX
    if not path.is_file() or (folder / INDEX.removesuffix(".index.json")).is_file():
        return
    try:
        weight_map = json.loads(path.read_bytes())["weight_map"]
        wrong = [name for name, place in places.items() if weight_map.get(name) != place.file]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} can't be read as the index of a sharded checkpoint: {error}") from error
    if wrong:
        found, expected = weight_map.get(wrong[0]), places[wrong[0]].file
        raise ModelError(f"{path} says that {wrong[0]} is in {found}; expected {expected}, which has it")


def places_in(path: Path) -> dict[str, TensorPlace]:
    """Where the floating tensors of one safetensors file lie, by their names there; reads its header only.

    Raises:
        ModelError: if the header is not sound.
    """
    try:
        payload, header = header_of(path)
        size = path.stat().st_size
        places = {name: _place(path.name, entry, payload, size) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} can't be read as safetensors: {error}") from error
    return {name: place for name, place in places.items() if place.dtype in ITEM_SIZES}


def header_of(path: Path) -> tuple[int, dict[str, Any]]:
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


def _place(file: str, entry: dict[str, Any], payload: int, size: int) -> TensorPlace:
    dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if any(type(number) is not int or number < 0 for number in (*shape, start, end)):
        raise ValueError(f"shape {shape} and offsets {start}, {end}")
    # Of other dtypes, no tensor is ever written: just the bounds matter.
    length = math.prod(shape) * ITEM_SIZES[dtype] if dtype in ITEM_SIZES else end - start
    if start + length != end or start > end or payload + end > size:
        raise ValueError(f"a tensor of {dtype} {list(shape)} at {start} to {end} in a file of {size} bytes")
    return TensorPlace(file, dtype, shape, payload + start)
