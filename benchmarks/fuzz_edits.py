"""Fuzzes the readers of edits from others, guided by which lines each input reaches; needs atheris.

    python benchmarks/fuzz_edits.py [-max_total_time=SECONDS] [CORPUS]

One byte chooses the reader: files of edits, edit objects, recipes, descriptions of exports. A reader may refuse a text
or bytes by its own error, and by no other; what it takes, it gives back as it was. `make fuzz-coverage` runs it.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["kndb"]):
    from kndb.editing.objects import object_format
    from kndb.editing.objects.object_bytes import FlawError
    from kndb.errors import InputError
    from kndb.exchange import description, edit_bundle
    from kndb.records.json_text import JsonTextError, read_json
    from kndb.records.recipes import read_recipe

PLACE = Path(tempfile.mkdtemp()) / "data.csv"
KINDS = ("update", "optimize", "erase", "capture", "other")


def bundle(content: bytes) -> None:
    """A file of edits."""
    with contextlib.suppress(edit_bundle._FlawError):  # noqa: SLF001 - the reader's own
        assert edit_bundle.encode(edit_bundle.decode(content)) == content


def edit_object(content: bytes) -> None:
    """An edit object."""
    with contextlib.suppress(FlawError):
        object_format.parse(content)


def recipe(content: bytes) -> None:
    """A recipe."""
    with contextlib.suppress(JsonTextError):
        values = read_json(content[1:].decode("utf-8", "replace"))
        if isinstance(values, dict):
            found = read_recipe(KINDS[content[0] % len(KINDS)], values)
            assert json.dumps(found.as_json(), sort_keys=True) == json.dumps(values, sort_keys=True)
            assert isinstance(found.title, str)


def described(content: bytes) -> None:
    """The description beside an exported file."""
    description.description_path(PLACE).write_bytes(content)
    description.described_kind(PLACE)
    with contextlib.suppress(InputError):
        description.read(PLACE, "neurons", "")


READERS = (bundle, edit_object, recipe, described)


def one(content: bytes) -> None:
    """Tries one input."""
    if len(content) > 1:
        READERS[content[0] % len(READERS)](content[1:])


if __name__ == "__main__":
    PLACE.write_bytes(b"")
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
