"""What reading an edit object needs before any value in it is looked at: its file, its hash, its header's JSON.

No path leaves the folder of objects, and no symbolic link in it is followed. Imports no torch, so that a command
that only moves bytes starts at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ...advice import call
from ...errors import DiffFileError
from ...records.json_text import JsonTextError, read_json

HEADER_LIMIT = 16 * 1024 * 1024
"""No header is longer, in bytes: a damaged length must not make kndb read or allocate gigabytes."""


_LONGEST = 300
"""Letters of what was found, and of what was expected, that a message quotes."""


class FlawError(Exception):
    """Something in the bytes is not as it should be; the caller knows the file's name."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"it has {_short(found)} (expected: {_short(expected)})")


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


@contextlib.contextmanager
def refusing(name: str) -> Iterator[None]:
    """Turns a flaw found in the block into the error that a user sees.

    Args:
        name: how the message calls the file.

    Raises:
        DiffFileError: if the block finds a flaw.
    """
    try:
        yield
    except FlawError as flaw:
        raise DiffFileError(
            f"{name} is not a sound edit object: {flaw}. Check the whole store with: {call('maintenance.check')}"
        ) from None


# --- the file -------------------------------------------------------------------------------------


def object_path(object_hash: str) -> str:
    """Says where, relative to the folder of objects, the object with this sha256 lies."""
    return f"{object_hash[:2]}/{object_hash}.safetensors"


def read_content(folder: Path, relative_path: str, expected_sha256: str) -> bytes:
    """Reads an edit object's bytes and compares their hash.

    Args:
        folder: the store's folder of objects.
        relative_path: the file in it.
        expected_sha256: the hash that names the object, in hex.

    Raises:
        DiffFileError: if the file is missing, lies outside the folder, or is not what was written.
    """
    with refusing(str(folder / relative_path)):
        content = _read_file(folder, relative_path)
        found = hashlib.sha256(content).hexdigest()
        if found != expected_sha256:
            raise FlawError(f"sha256 {found}", f"{expected_sha256}; the file was changed or damaged")
    return content


def _read_file(folder: Path, relative_path: str) -> bytes:
    try:
        with _opened(folder, _components(relative_path)) as descriptor:
            return _content(descriptor)
    except (OSError, UnicodeEncodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        expected = "a regular file below the folder of objects, reached through no symbolic link"
        raise FlawError(f"no file that can be opened ({reason})", expected) from None


def _components(relative_path: str) -> list[str]:
    components = relative_path.split("/")
    if "\0" in relative_path or "\\" in relative_path or any(part in ("", ".", "..") for part in components):
        raise FlawError(f"the path {relative_path!r}", "a path that stays inside the folder of objects")
    return components


@contextlib.contextmanager
def _opened(folder: Path, components: list[str]) -> Iterator[int]:
    """Opens one component after the other, relative to the last, so that no link can be put in between."""
    with contextlib.ExitStack() as opened:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        opened.callback(os.close, descriptor)
        for component in components[:-1]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            descriptor = os.open(component, flags, dir_fd=descriptor)
            opened.callback(os.close, descriptor)
        # O_NONBLOCK: a named pipe in the file's place must not make kndb wait for a writer.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(components[-1], flags, dir_fd=descriptor)
        opened.callback(os.close, descriptor)
        yield descriptor


def _content(descriptor: int) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise FlawError("no regular file", "one")
    with open(descriptor, "rb", closefd=False) as file:
        start = file.read(8)
        header_length(start, status.st_size)
        return start + file.read()


# --- the header -----------------------------------------------------------------------------------


def header_length(start: bytes, size: int) -> int:
    """Reads the header's length from a file's first eight bytes; refuses one that can't be true."""
    if len(start) < 8:
        raise FlawError(f"{size} bytes", "a safetensors file: at least 8 bytes")
    length = int.from_bytes(start[:8], "little")
    if length > HEADER_LIMIT:
        raise FlawError(f"a header of {length} bytes", f"at most {HEADER_LIMIT}")
    if length > size - 8:
        raise FlawError(f"{size} bytes in all", f"{length + 8} for the header alone; the file may be cut off")
    return length


def parse_json(text: str, what: str) -> object:
    """Reads JSON in which each key stands once and each number is finite; raises FlawError for any other."""
    try:
        return read_json(text)
    except JsonTextError as error:
        raise FlawError(f"{error} in {what}", "well-formed JSON, each key once, finite numbers") from None


def json_object(text: str, what: str) -> dict[str, object]:
    """Reads a JSON object, as `parse_json` does."""
    value = parse_json(text, what)
    if not isinstance(value, dict):
        raise FlawError(f"{type(value).__name__} as {what}", "a JSON object")
    return value
