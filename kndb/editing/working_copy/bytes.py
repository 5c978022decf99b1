"""Reading and writing value slots in the files of a working copy, which are files of its own."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from ...errors import ModelError
from ..objects.slot_bytes import Strides, gathered
from .state import FileStamp
from .switch_log import Write

_ITEMS: Mapping[int, Literal["H", "I", "Q"]] = {2: "H", 4: "I", 8: "Q"}
"""Whole numbers of so many bytes, as a memoryview names them."""
_ROOM = 256 * 1024 * 1024
"""With less free space than this, nothing is written through a map."""


def set_times(folder: Path, stamps: Mapping[str, FileStamp]) -> None:
    """Gives files the times of modification that are noted."""
    for name, (_, modified) in stamps.items():
        with opened_weights(folder, name, os.O_RDWR) as descriptor:
            os.utime(descriptor, ns=(os.fstat(descriptor).st_atime_ns, modified))


def stamp(path: Path) -> FileStamp:
    """A file's size and time.

    Raises:
        ModelError: if it is a link, or has a second name.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        raise ModelError(
            f"{path} is a link, or has a second name; a file of a working copy has to be its own, so that no other "
            "changes with it. Make a new working copy"
        )
    return status.st_size, status.st_mtime_ns


def stamp_at(path: Path) -> FileStamp | None:
    """The same, None where there is no file."""
    try:
        return stamp(path)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def opened_weights(folder: Path, name: str, flags: int) -> Iterator[int]:
    """Opens a weight file that is the working copy's own."""
    stamp(folder / name)
    descriptor = os.open(folder / name, flags | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def gather(descriptor: int, strides: Strides) -> bytes:
    """Reads a slot's bytes."""
    content = gathered(descriptor, strides)
    if len(content) != strides.size:
        raise ModelError(f"{strides.file} became shorter while it was read. Make a new working copy")
    return content


def write_slots(folder: Path, writes: Sequence[Write], *, new: bool, mapped: bool) -> None:
    """Writes slots, their new bytes or their old ones.

    Args:
        folder: the copy.
        writes: the slots.
        new: which bytes.
        mapped: whether slots in many pieces may be written through a map of the file. That is ten times as fast, but an
            error of the disk is then a signal that ends the process; it is for bytes that a log already has.
    """
    for name in sorted({part.strides.file for part in writes}):
        with opened_weights(folder, name, os.O_RDWR) as descriptor:
            roomy = mapped and _has_room(descriptor)
            for part in writes:
                if part.strides.file == name:
                    put = _write_mapped if roomy and part.strides.count > 1 else _write_pieces
                    put(descriptor, part.strides, part.new if new else part.old)


def _has_room(descriptor: int) -> bool:
    """Whether the file system can hardly be full before the slots are written, even if each needs blocks of its own."""
    found = os.fstatvfs(descriptor)
    return found.f_bavail * found.f_frsize > _ROOM


def _write_pieces(descriptor: int, strides: Strides, content: bytes) -> None:
    width, start = strides.width, 0
    for offset in strides.offsets:
        end = start + width
        written = os.pwrite(descriptor, content[start:end], offset)
        while written < width:
            written += os.pwrite(descriptor, content[start + written : end], offset + written)
        start = end


def _write_mapped(descriptor: int, strides: Strides, content: bytes) -> None:
    first = strides.offset - strides.offset % mmap.ALLOCATIONGRANULARITY
    end = strides.offset + (strides.count - 1) * strides.stride + strides.width
    if os.fstat(descriptor).st_size < end:
        raise ModelError(f"{strides.file} became shorter while it was written. Make a new working copy")
    item = _ITEMS[strides.width]
    with (
        mmap.mmap(descriptor, end - first, offset=first) as mapping,
        memoryview(mapping) as whole,
        whole[strides.offset - first :] as part,
        part.cast(item) as values,
    ):
        values[:: strides.stride // strides.width] = memoryview(content).cast(item)
