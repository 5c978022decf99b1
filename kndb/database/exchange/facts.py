"""Fact lists from files that kndb exported: as `kndb ingest` takes them, and from Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...advice import call
from ...content import at_most, require_size
from ...errors import InputError
from ...exchange import tables
from ...exchange.columns import FACTS
from ...exchange.description import description_path
from ...exchange.description import read as read_description
from ...facts import choose, read, read_records
from ...records.facts import FactFile, IngestReport
from ...store import ingest
from ...store.engine import Store


def store_facts(
    store: Store, paths: Sequence[Path], relations: Sequence[str], skip_invalid: bool, most_bytes: int
) -> IngestReport:
    """Stores what is new in some files; see `ExchangeCommands.import_facts`."""
    with at_most(most_bytes):
        files = [file for path in paths for file in _read(path, relations, skip_invalid)]
    with store.writing() as connection:
        return ingest.ingest(connection, files)


def _read(path: Path, relations: Sequence[str], skip_invalid: bool) -> list[FactFile]:
    if not path.is_file():
        found = "a folder, and only files are imported" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {found}. A folder is read by: {call('facts.ingest', path)}")
    require_size(path)
    if description_path(path).exists():
        read_description(
            path,
            "facts",
            f"What was changed by hand is read by: {call('facts.ingest', path)}; or without its description",
        )
    if path.suffix.lower() != ".parquet":
        return read(path, "auto", relations, skip_invalid)
    return choose(path, [read_records(path, tables.read(path, FACTS))], relations, skip_invalid)
