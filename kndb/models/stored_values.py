"""Where a parameter's values come from while they are not where they are used: a checkpoint's file, or memory.

Files are read by plain reads into the tensor's own memory: a memory map would count its pages to the process, and a
copy of the weights elsewhere would double them on the disk.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import FingerprintError, ModelError
from .dtypes import DTYPE_NAMES
from .expert_files import stored_parts
from .weights import ITEM_SIZES, TensorPlace, stored_name

_TORCH_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}


class StoredValues(ABC):
    """A parameter's values elsewhere."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """In what they are stored."""

    @abstractmethod
    def read(self) -> torch.Tensor:
        """All of them, in a tensor that nothing may write to."""

    @abstractmethod
    def fill(self, target: torch.Tensor) -> None:
        """Writes them into a tensor of their shape, of any dtype and device."""

    @abstractmethod
    def rows(self, numbers: torch.Tensor) -> torch.Tensor:
        """Some rows of a matrix, [k, …] for numbers [k]."""


@dataclass(frozen=True)
class InMemory(StoredValues):
    """Values in the memory of some device."""

    values: torch.Tensor

    @property
    def dtype(self) -> torch.dtype:
        """In what they are stored."""
        return self.values.dtype

    def read(self) -> torch.Tensor:
        """All of them, as they lie."""
        return self.values

    def fill(self, target: torch.Tensor) -> None:
        """Copies them."""
        target.copy_(self.values)

    def rows(self, numbers: torch.Tensor) -> torch.Tensor:
        """Some rows of a matrix."""
        return self.values[numbers.to(self.values.device)]


@dataclass(frozen=True)
class OnDisk(StoredValues):
    """Values in a checkpoint's safetensors files.

    Attributes:
        name: the parameter's.
        shape: its sizes.
        parts: the places of its parts, which lie one after the other in memory; most parameters have one.
        stamps: of each file, by which a change is noticed.
        folder: the checkpoint.
        loaded: the dtype in which the checkpoint is loaded: the widest of its files.
    """

    name: str
    shape: tuple[int, ...]
    parts: tuple[TensorPlace, ...]
    stamps: Mapping[str, tuple[int, ...]]
    folder: Path
    loaded: torch.dtype

    @property
    def dtype(self) -> torch.dtype:
        """In what the checkpoint is loaded."""
        return self.loaded

    def read(self) -> torch.Tensor:
        """All of them, on the CPU."""
        found = torch.empty(self.shape, dtype=self._own)
        self._read_into(found)
        return found.to(self.loaded)

    def fill(self, target: torch.Tensor) -> None:
        """Reads them, straight into the target where that is of their dtype and on the CPU."""
        if target.dtype == self._own == self.loaded and target.device.type == "cpu" and target.is_contiguous():
            self._read_into(target)
        else:
            target.copy_(self.read())

    def rows(self, numbers: torch.Tensor) -> torch.Tensor:
        """Reads some rows of a matrix, and nothing else of it."""
        (place,) = self.parts
        found = torch.empty((len(numbers), *self.shape[1:]), dtype=self._own)
        size = found[0].nbytes if len(numbers) else 0
        for row, number in zip(found, numbers.tolist(), strict=True):
            self._read_bytes(place, row, place.start + number * size)
        return found.to(self.loaded)

    @property
    def _own(self) -> torch.dtype:
        return _TORCH_DTYPES[self.parts[0].dtype]

    def _read_into(self, target: torch.Tensor) -> None:
        flat, first = target.view(-1), 0
        for place in self.parts:
            count = math.prod(place.shape)
            self._read_bytes(place, flat[first : first + count], place.start)
            first += count

    def _read_bytes(self, place: TensorPlace, target: torch.Tensor, start: int) -> None:
        path = self.folder / place.file
        view = memoryview(target.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
        try:
            with path.open("rb", buffering=0) as file:
                if stamp(os.fstat(file.fileno())) != self.stamps[place.file]:
                    raise FingerprintError(
                        f"{path} was changed while {self.name} was to be read from it; run the command again"
                    )
                file.seek(start)
                while view:
                    count = file.readinto(view)
                    if not count:
                        raise ModelError(f"{path} ends within {self.name}; fetch the checkpoint again")
                    view = view[count:]
        except OSError as error:
            raise ModelError(f"{path} can't be read: {error.strerror or error}") from error


def stamp(status: os.stat_result) -> tuple[int, ...]:
    """What changes with a file."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def find_on_disk(
    folder: Path, names: Sequence[str], shape: tuple[int, ...], places: Mapping[str, TensorPlace], loaded: torch.dtype
) -> OnDisk | None:
    """Where a checkpoint's files have a parameter; None if they have none of that name and shape.

    Args:
        folder: the checkpoint.
        names: what the model calls the parameter; several where modules share it.
        shape: its sizes.
        places: of the files' tensors.
        loaded: the dtype in which the checkpoint is loaded.
    """
    for name in names:
        parts = _parts(name, shape, places)
        if parts is not None:
            stamps = {place.file: stamp((folder / place.file).stat()) for place in parts}
            return OnDisk(name, shape, parts, stamps, folder, loaded)
    return None


def _parts(name: str, shape: tuple[int, ...], places: Mapping[str, TensorPlace]) -> tuple[TensorPlace, ...] | None:
    stored = stored_name(name, places)
    if stored is not None:
        place = places[stored]
        return (place,) if place.shape == shape and place.dtype in ITEM_SIZES else None
    by_expert = stored_parts(name, places)
    if by_expert is None:
        return None
    named = [part.format(expert) for expert in range(shape[0]) for part in by_expert]
    if any(one not in places for one in named):
        return None
    found = tuple(places[one] for one in named)
    alike = all((place.dtype, place.shape[1:]) == (found[0].dtype, shape[2:]) for place in found)
    return found if alike and sum(math.prod(place.shape) for place in found) == math.prod(shape) else None
