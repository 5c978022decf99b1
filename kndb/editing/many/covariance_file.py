"""The files that covariances are kept in, one for each layer: what a file says of itself, and whether it is sound.

A file is a safetensors file of one float64 tensor, `total` [n, n], whose header says in JSON what it is the sum of, and
the sha256 of the tensor's bytes. Imports no torch: what only lists or checks files starts at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import EditError
from ...files import replacing
from ..objects.object_bytes import FlawError, header_length, json_object

_FORMAT = "kndb-covariance-1"
_TENSOR = "total"
_ITEM = 8
_LONGEST_HEADER = 1 << 16
_CHUNK = 1 << 22
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Origin:
    """What a covariance is of.

    Attributes:
        fingerprint: of the model's checkpoint; `version`: which of its versions.
        source: where the texts are from, in words that tell one source from another.
        tokens: `every` token of the texts counts (of a causal model, but for each text's first), or their `place`
            alone.
        texts: how many texts there are.
        digest: sha256 of the texts' token ids, in hex.
    """

    fingerprint: str
    version: str
    source: str
    tokens: str
    texts: int
    digest: str

    def same_count(self, other: Origin) -> bool:
        """Whether the same keys are counted; the source is only what the texts are called."""
        return (self.fingerprint, self.version, self.tokens, self.texts, self.digest) == (
            other.fingerprint,
            other.version,
            other.tokens,
            other.texts,
            other.digest,
        )


@dataclass(frozen=True)
class CovarianceHeader:
    """What a file says of itself.

    Attributes:
        origin: what the covariance is of.
        layer: the layer; `neurons`: n, how many numbers a key has.
        keys: how many keys were counted; `done`: of how many texts.
        rank: of the whole count, how many dimensions the keys span; None as long as texts are left.
        condition: the largest eigenvalue of C with the methods' ridge by its smallest; None as long as texts are left,
            or where the smallest is nothing.
        sha256: of the tensor's bytes, in hex.
    """

    origin: Origin
    layer: int
    neurons: int
    keys: int
    done: int
    rank: int | None
    condition: float | None
    sha256: str

    @property
    def complete(self) -> bool:
        """Whether all texts were counted."""
        return self.done == self.origin.texts


def read_header(path: Path) -> CovarianceHeader:
    """What a file says of itself; the tensor's bytes are not looked at, but for how many there are.

    Raises:
        EditError: if it is no regular file that `write_file` wrote.
    """
    with _opened(path) as (file, size):
        return _header(file, size)


def check_file(path: Path) -> CovarianceHeader:
    """As `read_header`, and compares the tensor's bytes with their hash; holds a part of them at a time.

    Raises:
        EditError: if they differ.
    """
    with _opened(path) as (file, size):
        header = _header(file, size)
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        _require_hash(header, digest.hexdigest())
        return header


def read_file(path: Path) -> tuple[CovarianceHeader, bytearray]:
    """As `check_file`, with the tensor's bytes, row by row.

    Raises:
        EditError: as `check_file`.
    """
    with _opened(path) as (file, size):
        header = _header(file, size)
        content = bytearray(header.neurons**2 * _ITEM)
        if file.readinto(content) != len(content):  # type: ignore[attr-defined]
            raise FlawError("fewer bytes than its header says", "all of them; the file changed while it was read")
        _require_hash(header, hashlib.sha256(content).hexdigest())
        return header, content


def write_file(path: Path, header: CovarianceHeader, content: memoryview) -> None:
    """Writes a file, in one step: a process that is killed leaves the old one, or the new one.

    Args:
        path: the file to make or replace.
        header: what it says of itself; its hash is computed here.
        content: the tensor's bytes, row by row.

    Raises:
        EditError: if it can't be written.
    """
    about: dict[str, Any] = {**asdict(header.origin)}
    about |= {one.name: getattr(header, one.name) for one in fields(header) if one.name not in ("origin", "neurons")}
    about["sha256"] = hashlib.sha256(content).hexdigest()
    tensor = {"dtype": "F64", "shape": [header.neurons] * 2, "data_offsets": [0, content.nbytes]}
    # One entry of metadata: safetensors leaves the order of several to chance.
    entries = {"__metadata__": {_FORMAT: json.dumps(about, sort_keys=True)}, _TENSOR: tensor}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    try:
        with replacing(path) as temporary, temporary.open("xb") as file:
            file.write(len(text).to_bytes(8, "little"))
            file.write(text)
            file.write(content)
    except OSError as error:
        raise EditError(f"{path} can't be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file with its size; no link is followed, and no pipe waited for."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FlawError("no regular file", "one")
            yield file, status.st_size
    except (OSError, FlawError) as error:
        why = error.strerror or error if isinstance(error, OSError) else error
        raise EditError(f"{path} can't be read as a covariance: {why}; remove it and count again") from error


def _header(file: BinaryIO, size: int) -> CovarianceHeader:
    start = file.read(8)
    length = header_length(start, size)
    if length > _LONGEST_HEADER:
        raise FlawError(f"a header of {length} bytes", f"at most {_LONGEST_HEADER}")
    try:
        text = file.read(length).decode("utf-8")
    except UnicodeDecodeError:
        raise FlawError("a header that is not UTF-8", "JSON") from None
    entries = json_object(text, "the header")
    metadata = entries.get("__metadata__")
    if entries.keys() != {"__metadata__", _TENSOR} or not isinstance(metadata, dict) or metadata.keys() != {_FORMAT}:
        raise FlawError("another header", f"that of a file of {_FORMAT}")
    about = json_object(str(metadata[_FORMAT]), "what it says of itself")
    found = _parsed(about, _neurons(entries[_TENSOR]))
    wanted = 8 + length + found.neurons**2 * _ITEM
    if size != wanted:
        raise FlawError(f"{size:,} bytes", f"{wanted:,}; the file may be cut off")
    return found


def _neurons(tensor: object) -> int:
    """The n of a tensor [n, n] of float64 that fills the file."""
    shape = tensor.get("shape") if isinstance(tensor, dict) else None
    if isinstance(tensor, dict) and isinstance(shape, list) and len(shape) == 2 and shape[0] == shape[1]:
        count = shape[0]
        whole = isinstance(count, int) and not isinstance(count, bool) and count >= 1
        if whole and tensor == {"dtype": "F64", "shape": shape, "data_offsets": [0, count**2 * _ITEM]}:
            return int(count)
    raise FlawError("another tensor", "float64 [n, n]")


def _parsed(about: dict[str, object], neurons: int) -> CovarianceHeader:
    names = {one.name for one in fields(Origin)} | {one.name for one in fields(CovarianceHeader)}
    if about.keys() != names - {"origin", "neurons"}:
        raise FlawError(f"the entries {', '.join(sorted(about))}", "those that kndb writes")
    texts = {name: about[name] for name in ("fingerprint", "version", "source", "tokens", "digest", "sha256")}
    counts = {name: about[name] for name in ("texts", "layer", "keys", "done")}
    rank, condition = about["rank"], about["condition"]
    sound = (
        all(isinstance(value, str) for value in texts.values())
        and all(len(str(texts[name])) == 64 and set(str(texts[name])) <= _HEX for name in ("digest", "sha256"))
        and texts["tokens"] in ("every", "place")
        and all(type(value) is int and value >= 0 for value in counts.values())
        and counts["done"] <= counts["texts"]  # type: ignore[operator]
        and (rank is None or (type(rank) is int and 0 <= rank <= neurons))
        and (condition is None or (type(condition) is float and 1 <= condition < math.inf))
    )
    if not sound:
        raise FlawError("values that can't be", "hashes, texts, counts of at least 0")
    origin = Origin(**{one.name: about[one.name] for one in fields(Origin)})  # type: ignore[arg-type]
    rest = {one.name: about[one.name] for one in fields(CovarianceHeader) if one.name not in ("origin", "neurons")}
    return CovarianceHeader(origin=origin, neurons=neurons, **rest)  # type: ignore[arg-type]


def _require_hash(header: CovarianceHeader, found: str) -> None:
    if found != header.sha256:
        raise FlawError(f"values of sha256 {found[:12]}", f"{header.sha256[:12]}; the file was changed or damaged")
