"""Comparing a whole working copy with its base checkpoint, byte for byte, slots that were patched left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..objects.slot_bytes import Strides

_CHUNK = 1 << 24


def differing_files(copy: Path, base: Path, names: Sequence[str], patched: Sequence[Strides]) -> list[str]:
    """The files whose bytes are not the base checkpoint's outside of patched slots.

    Args:
        copy: the working copy's folder.
        base: the base checkpoint's folder.
        names: the files to compare.
        patched: slots that may differ.
    """
    return [name for name in names if not _same(copy / name, base / name, [at for at in patched if at.file == name])]


def _same(ours: Path, theirs: Path, patched: Sequence[Strides]) -> bool:
    if not ours.is_file() or not theirs.is_file() or ours.stat().st_size != theirs.stat().st_size:
        return False
    with ours.open("rb") as left, theirs.open("rb") as right:
        start = 0
        while found := left.read(_CHUNK):
            expected = right.read(_CHUNK)
            if found != expected and _with_slots(expected, found, start, patched) != found:
                return False
            start += len(found)
    return True


def _with_slots(expected: bytes, found: bytes, start: int, patched: Sequence[Strides]) -> bytes:
    """The base's bytes from `start` on, with patched slots as they were found."""
    merged = bytearray(expected)
    end = start + len(found)
    for strides in patched:
        first = max(0, (start - strides.offset - strides.width) // strides.stride)
        last = min(strides.count, (end - strides.offset) // strides.stride + 1)
        for number in range(first, last):
            offset = strides.offsets[number]
            low, high = max(start, offset), min(end, offset + strides.width)
            if low < high:
                merged[low - start : high - start] = found[low - start : high - start]
    return bytes(merged)
