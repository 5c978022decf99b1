"""What files of edits from strangers cost before they are refused: peak memory and time of `db.edits.pull`.

    python benchmarks/hostile_edits.py [--mib 15]

Each file is as bad as its kind can be, and as large as is said. Each is pulled in a process of its own, which has
imported all it needs; what is printed is what its memory grew by at most, in all and for each MiB of the file.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import kndb.database.edits.pull  # noqa: F401 - imported before anything is measured
from kndb.database import Database, open_database
from kndb.errors import KndbError
from kndb.exchange import edit_bundle
from kndb.store.engine import Store

MIB = 1 << 20


def entry(name: str, content: bytes) -> bytes:
    """A zip entry without compression, its checksum left at zero: it is refused for other reasons first."""
    head = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 0, 0, 33, 0, len(content), len(content), len(name), 0)
    return head + name.encode() + content


def manifest(edits: str) -> bytes:
    """A file that has a manifest with these edits, and nothing else."""
    text = f'{{"format": "kndb-edits", "format_version": 1, "edits": {edits}}}'
    return entry("manifest.json", text.encode())


def filled(unit: str, size: int) -> str:
    """A JSON list of one text again and again."""
    return "[" + ",".join([unit] * max(1, size // (len(unit) + 1))) + "]"


def with_object(header: bytes, payload: bytes = b"") -> bytes:
    """A sound file around an edit object that is none."""
    content = len(header).to_bytes(8, "little") + header + payload
    name = hashlib.sha256(content).hexdigest()
    edit = edit_bundle.BundledEdit(name, "erase", "", None, "2024-01-01T00:00:00+00:00", (), True, (), ())
    return edit_bundle.encode(replace(AROUND[0], edits=(edit,), objects={name: content}))


AROUND: list[edit_bundle.Bundle] = []
CASES: dict[str, Callable[[int], bytes]] = {
    "manifest: many empty lists": lambda size: manifest(filled("[]", size)),
    "manifest: many small objects": lambda size: manifest(filled('{"a":0}', size)),
    "manifest: many numbers": lambda size: manifest(filled("1234567", size)),
    "manifest: many short texts": lambda size: manifest(filled('"é"', size)),
    "manifest: one long text": lambda size: manifest('"' + "é" * (size // 2) + '"'),
    "manifest: one long number": lambda size: manifest("9" * size),
    "manifest: nested without end": lambda size: manifest("[" * size),
    "manifest: one key again and again": lambda size: manifest("{" + ",".join(['"a":1'] * (size // 6)) + "}"),
    "object: a header of many numbers": lambda size: with_object(filled("1234567", size).encode()),
    "object: a header of many small lists": lambda size: with_object(filled("[0]", size).encode()),
    "object: a header, nested without end": lambda size: with_object(b"[" * size),
    "object: a small header before much": lambda size: with_object(b"{}      ", b"\0" * size),
}


def measured(database: Database, file: Path) -> tuple[float, float, str]:
    """By how many MiB memory grew at most, seconds, and the beginning of the message; in a child process."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child:
        os.close(theirs)
        with os.fdopen(ours, encoding="utf-8") as said:
            words = said.read()
        os.waitpid(child, 0)
        memory, seconds, message = words.split(" ", 2)
        return float(memory), float(seconds), message.replace(f"{file.parent}/", "")
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        database.edits.pull(file)
        message = "taken"
    except KndbError as error:
        message = str(error)[:100]
    seconds = time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    os.write(theirs, f"{grown} {seconds} {message}".encode())
    os._exit(0)


def table(folder: Path, size: int) -> Iterator[str]:
    """The lines of the table."""
    with open_database(folder / "kndb.db") as database:
        model = database.models.add("lab-bert", "lab-bert")
    AROUND.append(
        edit_bundle.Bundle("m", model.fingerprint, model.family, model.layers, model.neurons, edits=(), objects={})
    )
    file = folder / "stranger.kndb"
    yield "| file | MiB | MiB of memory | per MiB | s | refused with |"
    yield "|---|---:|---:|---:|---:|---|"
    for name, make in CASES.items():
        file.write_bytes(make(size))
        mib = file.stat().st_size / MIB
        # Each child opens the database itself: SQLite's connections do not cross a fork.
        memory, seconds, message = measured(Database(Store(folder / "kndb.db")), file)
        yield f"| {name} | {mib:.1f} | {memory:.0f} | {memory / mib:.1f} | {seconds:.2f} | {message} |"
    with file.open("wb") as sparse:
        sparse.write(with_object(b"{}"))
        sparse.truncate(20 << 30)
    memory, seconds, message = measured(Database(Store(folder / "kndb.db")), file)
    yield f"| 20 GiB of holes after a sound file | 20480 | {memory:.0f} | 0.0 | {seconds:.2f} | {message} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=15, help="size of each file")
    size = parser.parse_args().mib * MIB
    with tempfile.TemporaryDirectory() as folder:
        for line in table(Path(folder), size):
            print(line, flush=True)


if __name__ == "__main__":
    main()
