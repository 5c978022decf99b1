"""Edits as one file: a zip archive, nothing compressed, with `manifest.json` and the edits' objects.

The same edits give the same bytes. Reading checks everything that can be checked without a store: the archive's entries
and sizes, each object's sha256, the manifest's keys and types. What the objects mean is not this module's business.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import reprlib
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, BinaryIO

from ..advice import Placeholder, call, option
from ..errors import InputError, UsageError
from ..files import replacing
from ..records.conditions import CheckedConditions
from ..records.json_text import read_json

FORMAT = "kndb-edits"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
MANIFEST_LIMIT = 32 * 1024 * 1024
"""Bytes of the manifest: some 200,000 facts that recipes name."""
MOST_EDITS = 10_000
"""Edits in a file."""
MOST_LETTERS = 200
"""Letters of a name: the author's, the model's, that of its family, that of a kind of edit."""
MOST_TEXT = 10_000
"""Letters of any other text: a title; a fact's relation, subject, object or identifier."""
_HASH = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", re.ASCII)
_HEAD = struct.Struct("<4sHHHHHIIIHH")
"""What stands before each entry of a zip archive: its method, sizes, and the lengths of name and extra fields."""
_LARGE = struct.Struct("<HHQQ")
"""The extra field of an entry of more than 2 GiB: its sizes."""
_ZIP64 = 0xFFFFFFFF
_PUSH = call("edits.push", Placeholder("EDIT"), path=Placeholder("FILE"))
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
        conditions: those that it was planned with, and what its author found then; None without any.
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
    conditions: CheckedConditions | None = None


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
        UsageError: if nobody could read it: a text or the manifest would be too long.
    """
    content = encode(bundle)
    try:
        _manifest(io.BytesIO(content), len(content))
    except _FlawError as flaw:
        raise UsageError(
            f"the edits can't be pushed to one file, as nobody could pull it: it would have {flaw.found} (allowed: "
            f"{flaw.expected}). Push fewer edits at once"
        ) from None
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def encode(bundle: Bundle) -> bytes:
    """The file's bytes."""
    return _archive(bundle).getvalue()


def _archive(bundle: Bundle) -> io.BytesIO:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, MANIFEST, _manifest_text(bundle))
        for edit in bundle.edits:
            _add(archive, _object_name(edit.object_hash), bundle.objects[edit.object_hash])
    return content


def _manifest_text(bundle: Bundle) -> bytes:
    described: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION}
    described |= {name: getattr(bundle, name) for name in ("model", "fingerprint", "family", "layers", "neurons")}
    described["edits"] = [_described(edit) for edit in bundle.edits]
    text = json.dumps(described, ensure_ascii=False, indent=1, sort_keys=True, allow_nan=True) + "\n"
    return text.encode("utf-8")


def _described(edit: BundledEdit) -> dict[str, Any]:
    """An edit of the manifest; one without conditions as a kndb that knows none writes it."""
    found = asdict(replace(edit, conditions=None))
    del found["conditions"]
    return found if edit.conditions is None else {**found, "conditions": edit.conditions.as_json()}


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


def _object_name(object_hash: str) -> str:
    return f"objects/{object_hash}.safetensors"


# --- reading --------------------------------------------------------------------------------------


class OpenBundle:
    """A file of edits whose manifest was read and checked; its objects were not read yet.

    Attributes:
        path: the file.
        size: its bytes.
        manifest: what it says, without objects.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self.size = os.fstat(file.fileno()).st_size
        with _refusing(path):
            self.manifest = _manifest(file, self.size)

    def read(self, most_bytes: int) -> Bundle:
        """Reads the whole file; some four times its size is needed in memory.

        Args:
            most_bytes: a larger file is refused before it is read.

        Raises:
            InputError: if it is larger, or not what `write` made.
        """
        if self.size > most_bytes:
            raise InputError(
                f"{self.path}: it has {self.size:,} bytes, and {most_bytes:,} is the most that is read for this "
                f"checkpoint; have its edits sent in several files, or allow more with "
                f"{option('most_bytes', self.size)}"
            )
        with _refusing(self.path):
            self._file.seek(0)
            return decode(self._file.read(self.size + 1))


@contextmanager
def opened(path: Path) -> Iterator[OpenBundle]:
    """Opens a file of edits and reads its manifest.

    Raises:
        InputError: if it can't be read, or its manifest is not one that `write` made.
    """
    try:
        # Before it is opened: a pipe would wait for a writer, and a device has no end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path}: it is no regular file; name a file that was made with {_PUSH}")
        file = path.open("rb")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: it can't be read ({getattr(error, 'strerror', None) or error})") from error
    with file:
        yield OpenBundle(path, file)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: it can't be read ({error.strerror or error})") from error
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
    file = io.BytesIO(content)
    bundle = _manifest(file, len(content))
    objects: dict[str, bytes] = {}
    for edit in bundle.edits:
        found = _entry(file, len(content), _object_name(edit.object_hash), len(content))
        if hashlib.sha256(found).hexdigest() != edit.object_hash:
            raise _FlawError(f"other bytes in object {edit.object_hash[:12]}", "those that its name is the sha256 of")
        objects[edit.object_hash] = found
    bundle = replace(bundle, objects=objects)
    # One content has one sequence of bytes: nothing can hide between the entries or after them.
    if _archive(bundle).getbuffer() != content:
        raise _FlawError("its content written in another form", "the one form that pushed edits have")
    return bundle


def _manifest(file: BinaryIO, size: int) -> Bundle:
    """The manifest, which is the archive's first entry, as a bundle without objects."""
    text = _entry(file, size, MANIFEST, MANIFEST_LIMIT)
    try:
        bundle = _bundle(read_json(text.decode("utf-8"), finite=False))
    except (ValueError, KeyError, TypeError) as error:
        what = f"no {error.args[0]}" if isinstance(error, KeyError) else str(error)
        raise _FlawError(f"a manifest that does not fit ({what[:200]})", "that of a file of pushed edits") from None
    if _manifest_text(bundle) != text:
        raise _FlawError("its manifest written in another form", "the one form that pushed edits have")
    return bundle


def _entry(file: BinaryIO, size: int, name: str, most: int) -> bytes:
    """Reads the entry at a file's position, which must have a name, no compression, and no more than some bytes."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise _FlawError(f"{size} bytes", f"a zip archive with {name}")
    signature, _, flags, method, _, _, _, packed, unpacked, letters, extra = _HEAD.unpack(head)
    if signature != b"PK\x03\x04" or method != zipfile.ZIP_STORED or flags:
        raise _FlawError("no plain zip entry where one begins", f"{name}, neither compressed nor encrypted")
    if letters != len(name) or file.read(letters) != name.encode("ascii"):
        raise _FlawError("an entry of another name", name)
    if unpacked == _ZIP64 and extra == _LARGE.size:
        _, _, unpacked, packed = _LARGE.unpack(file.read(extra).ljust(extra))
    elif extra:
        raise _FlawError(f"extra fields of {name}", "none")
    if packed != unpacked or unpacked > min(most, size):
        raise _FlawError(f"{name} of {unpacked:,} bytes", f"at most {min(most, size):,}")
    content = file.read(unpacked)
    if len(content) < unpacked:
        raise _FlawError(f"{len(content):,} bytes of {name}", f"{unpacked:,}; the file may be cut off")
    return content


def _bundle(values: Any) -> Bundle:
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise _FlawError(
            f"format {str(values.get('format'))[:60]!r}" if isinstance(values, dict) else "no object", FORMAT
        )
    if values["format_version"] != FORMAT_VERSION:
        raise _FlawError(
            f"format version {str(values['format_version'])[:60]!r}",
            f"{FORMAT_VERSION}; a later kndb may have written it",
        )
    if not 0 < len(_list(values["edits"])) <= MOST_EDITS:
        raise _FlawError(f"{len(values['edits']):,} edits", f"1 to {MOST_EDITS:,}")
    edits = tuple(_edit(entry) for entry in values["edits"])
    before: set[str] = set()
    for edit in edits:
        if edit.object_hash in before or not before.issuperset(edit.builds_on):
            raise _FlawError(f"edit {edit.object_hash[:12]} twice or before those it builds on", "each once, in order")
        before.add(edit.object_hash)
    return Bundle(
        model=_text(values["model"], MOST_LETTERS),
        fingerprint=_hash(values["fingerprint"]),
        family=_text(values["family"], MOST_LETTERS),
        layers=_whole(values["layers"]),
        neurons=_whole(values["neurons"]),
        edits=edits,
        objects={},
    )


def _edit(entry: Any) -> BundledEdit:
    _require_keys(entry, BundledEdit, optional={"conditions"})
    builds_on = tuple(_hash(one) for one in _list(entry["builds_on"]))
    facts = tuple(_fact(one) for one in _list(entry["facts"]))
    for what, several in (("edits to build on", builds_on), ("facts", [fact.number for fact in facts])):
        if len(set(several)) < len(several):
            raise _FlawError(f"one of the {what} of edit {str(entry['object_hash'])[:12]} twice", "each once")
    return BundledEdit(
        object_hash=_hash(entry["object_hash"]),
        kind=_text(entry["kind"], MOST_LETTERS),
        title=_text(entry["title"], MOST_TEXT),
        author=None if entry["author"] is None else _text(entry["author"], MOST_LETTERS),
        created_at=_time(entry["created_at"]),
        builds_on=builds_on,
        wanted=_flag(entry["wanted"]),
        facts=facts,
        evaluations=tuple(_object(one) for one in _list(entry["evaluations"])),
        conditions=_conditions(entry["conditions"]) if "conditions" in entry else None,
    )


def _fact(entry: Any) -> BundledFact:
    _require_keys(entry, BundledFact)
    subject, external_id = (entry[name] for name in ("subject", "external_id"))
    return BundledFact(
        number=_whole(entry["number"]),
        relation=_text(entry["relation"], MOST_TEXT),
        subject=None if subject is None else _text(subject, MOST_TEXT),
        object=_text(entry["object"], MOST_TEXT),
        external_id=None if external_id is None else _text(external_id, MOST_TEXT),
    )


def _conditions(value: object) -> CheckedConditions:
    """Conditions, all of which this kndb knows: one that it did not check would be passed silently."""
    try:
        return CheckedConditions.parse(value)
    except UsageError as error:
        raise ValueError(f"a condition that can't be checked here: {error}") from None


def _require_keys(entry: Any, kind: type, optional: Set[str] = frozenset()) -> None:
    expected = {field.name for field in fields(kind)}
    if not isinstance(entry, dict) or set(entry) | optional != expected:
        raise _FlawError(f"an entry {reprlib.repr(entry)} of the manifest", f"one with {', '.join(sorted(expected))}")


def _text(value: object, most: int) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{reprlib.repr(value)} in place of a text")
    if len(value) > most:
        raise ValueError(f"a text of {len(value):,} letters where {most:,} are allowed")
    if "\0" in value:
        raise ValueError(f"a NUL in {value[:60]!r}")
    return value


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise TypeError(f"{reprlib.repr(value)} in place of a whole number of at most 63 bits")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{reprlib.repr(value)} in place of true or false")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{reprlib.repr(value)} in place of a list")
    return value


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{reprlib.repr(value)} in place of an object")
    return value


def _hash(value: object) -> str:
    text = _text(value, 64)
    if not _HASH.fullmatch(text):
        raise ValueError(f"{text!r} in place of a sha256")
    return text


def _time(value: object) -> str:
    """A moment as kndb writes it, not later than tomorrow: a sender's clock may be wrong, but not by more."""
    text = _text(value, 25)
    if not _TIME.fullmatch(text):
        raise ValueError(f"{text!r} in place of a time such as 2024-05-01T12:00:00+00:00")
    moment = datetime.fromisoformat(text)
    if moment.year < 2000 or moment > datetime.now(timezone.utc) + timedelta(days=1):
        raise ValueError(f"the time {text}, which is not between the year 2000 and now")
    return text
