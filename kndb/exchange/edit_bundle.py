"""Edits as one file: a zip archive, nothing compressed, with `manifest.json` and the edits' objects.

The same edits give the same bytes. Reading checks everything that can be checked without a store: the archive's entries
and sizes, each object's sha256, the manifest's keys and types. What the objects mean is not this module's business.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import replacing

FORMAT = "kndb-edits"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_MANIFEST_LIMIT = 64 * 1024 * 1024
_HASH = re.compile(r"[0-9a-f]{64}")
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip archive can hold: none is meant."""


@dataclass(frozen=True)
class BundledFact:
    """A fact that an edit's recipe means by a number.

    Attributes:
        number: in the recipe.
        relation: the relation's key.
        subject: its subject, if it has one; `external_id`: its name elsewhere, if it has one.
        object: its object.
    """

    number: int
    relation: str
    subject: str | None
    object: str
    external_id: str | None


@dataclass(frozen=True)
class BundledEdit:
    """An edit in the file.

    Attributes:
        object_hash: sha256 of its object, in hex.
        kind: kind of edit; `title`: what it is for, in one line.
        author: who planned it, if anybody knows; `created_at`: when.
        builds_on: the objects of the edits that must be applied before it, in order; each stands before it in the file.
        wanted: whether it was asked for, or is there for others to build on.
        facts: those that its recipe names.
        evaluations: what its author measured.
    """

    object_hash: str
    kind: str
    title: str
    author: str | None
    created_at: str
    builds_on: tuple[str, ...]
    wanted: bool
    facts: tuple[BundledFact, ...]
    evaluations: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Bundle:
    """All that the file holds.

    Attributes:
        model: the model's name in the store that it is from.
        fingerprint: of its checkpoint.
        family: its adapter; `layers`, `neurons`: its size.
        edits: in an order in which they can be applied.
        objects: the bytes of each edit's object, by sha256.
    """

    model: str
    fingerprint: str
    family: str
    layers: int
    neurons: int
    edits: tuple[BundledEdit, ...]
    objects: Mapping[str, bytes]


# --- writing --------------------------------------------------------------------------------------


def write(path: Path, bundle: Bundle) -> str:
    """Writes the file, whole or not at all, and gives its sha256.

    Raises:
        OSError: if it can't be written.
    """
    content = encode(bundle)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def encode(bundle: Bundle) -> bytes:
    """The file's bytes."""
    described: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION}
    described |= {name: getattr(bundle, name) for name in ("model", "fingerprint", "family", "layers", "neurons")}
    described["edits"] = [asdict(edit) for edit in bundle.edits]
    text = json.dumps(described, ensure_ascii=False, indent=1, sort_keys=True, allow_nan=True) + "\n"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, MANIFEST, text.encode("utf-8"))
        for edit in bundle.edits:
            _add(archive, _object_name(edit.object_hash), bundle.objects[edit.object_hash])
    return content.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


def _object_name(object_hash: str) -> str:
    return f"objects/{object_hash}.safetensors"


# --- reading --------------------------------------------------------------------------------------


def read(path: Path) -> Bundle:
    """Reads the file.

    Raises:
        InputError: if it can't be read, or is not what `write` made.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: it can't be read ({error.strerror or error})") from error
    try:
        return decode(content)
    except _FlawError as flaw:
        raise InputError(
            f"{path} is not a sound file of edits: it has {flaw.found} (expected: {flaw.expected}). Have it sent again"
        ) from None


class _FlawError(Exception):
    def __init__(self, found: str, expected: str) -> None:
        super().__init__(found, expected)
        self.found, self.expected = found, expected


def decode(content: bytes) -> Bundle:
    """Reads the file's bytes; raises an error of this module's own for a flaw."""
    entries = _entries(content)
    manifest = entries.pop(MANIFEST, None)
    if manifest is None:
        raise _FlawError("no manifest.json", "one, as in each file of pushed edits")
    try:
        bundle = _bundle(json.loads(manifest.decode("utf-8")), entries)
        again = encode(bundle)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _FlawError(f"a manifest that does not fit ({error!r})", "that of a file of pushed edits") from None
    # One content has one sequence of bytes: nothing can hide between the entries or after them.
    if again != content:
        raise _FlawError("its content written in another form", "the one form that pushed edits have")
    return bundle


def _entries(content: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.infolist():
                # Nothing is compressed, so no entry is larger than the file.
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(content) or entry.flag_bits & 1:
                    raise _FlawError(f"entry {entry.filename!r} compressed or encrypted", "entries as they are")
                if entry.filename in found:
                    raise _FlawError(f"entry {entry.filename!r} twice", "each entry once")
                if entry.filename == MANIFEST and entry.file_size > _MANIFEST_LIMIT:
                    raise _FlawError(f"a manifest of {entry.file_size} bytes", f"at most {_MANIFEST_LIMIT}")
                found[entry.filename] = archive.read(entry)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise _FlawError(f"a damaged archive ({error})", "a zip archive") from None
    return found


def _bundle(values: Any, entries: Mapping[str, bytes]) -> Bundle:
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise _FlawError(f"format {values.get('format')!r}" if isinstance(values, dict) else "no object", FORMAT)
    if values["format_version"] != FORMAT_VERSION:
        raise _FlawError(
            f"format version {values['format_version']!r}", f"{FORMAT_VERSION}; a later kndb may have written it"
        )
    edits = tuple(_edit(entry) for entry in values["edits"])
    if not edits:
        raise _FlawError("no edits", "at least one")
    before: set[str] = set()
    for edit in edits:
        if edit.object_hash in before or not before.issuperset(edit.builds_on):
            raise _FlawError(f"edit {edit.object_hash[:12]} twice or before those it builds on", "each once, in order")
        before.add(edit.object_hash)
    names = {_object_name(object_hash): object_hash for object_hash in before}
    if set(entries) != set(names):
        odd = sorted(set(entries) ^ set(names))
        raise _FlawError(f"entry {odd[0]!r} missing or not in the manifest", "the objects of the manifest's edits")
    objects = {names[name]: content for name, content in entries.items()}
    for object_hash, content in objects.items():
        if hashlib.sha256(content).hexdigest() != object_hash:
            raise _FlawError(f"other bytes in object {object_hash[:12]}", "those that its name is the sha256 of")
    return Bundle(
        model=_text(values["model"]),
        fingerprint=_text(values["fingerprint"]),
        family=_text(values["family"]),
        layers=_whole(values["layers"]),
        neurons=_whole(values["neurons"]),
        edits=edits,
        objects=objects,
    )


def _edit(entry: Any) -> BundledEdit:
    _require_keys(entry, BundledEdit)
    builds_on = tuple(_hash(one) for one in entry["builds_on"])
    return BundledEdit(
        object_hash=_hash(entry["object_hash"]),
        kind=_text(entry["kind"]),
        title=_text(entry["title"]),
        author=_maybe_text(entry["author"]),
        created_at=_text(entry["created_at"]),
        builds_on=builds_on,
        wanted=entry["wanted"] is True,
        facts=tuple(_fact(one) for one in entry["facts"]),
        evaluations=tuple(dict(one) for one in entry["evaluations"]),
    )


def _fact(entry: Any) -> BundledFact:
    _require_keys(entry, BundledFact)
    return BundledFact(
        number=_whole(entry["number"]),
        relation=_text(entry["relation"]),
        subject=_maybe_text(entry["subject"]),
        object=_text(entry["object"]),
        external_id=_maybe_text(entry["external_id"]),
    )


def _require_keys(entry: Any, kind: type) -> None:
    expected = {field.name for field in fields(kind)}
    if not isinstance(entry, dict) or set(entry) != expected:
        raise _FlawError(f"an entry {str(entry)[:60]!r} of the manifest", f"one with {', '.join(sorted(expected))}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} in place of a text")
    return value


def _maybe_text(value: object) -> str | None:
    return None if value is None else _text(value)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} in place of a whole number")
    return value


def _hash(value: object) -> str:
    text = _text(value)
    if not _HASH.fullmatch(text):
        raise ValueError(f"{text[:70]!r} in place of a sha256")
    return text


def wanted(edits: Sequence[BundledEdit]) -> list[BundledEdit]:
    """The edits that were asked for."""
    return [edit for edit in edits if edit.wanted]
