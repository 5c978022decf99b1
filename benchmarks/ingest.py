"""Ingests a fact list of ParaRel's size: 39 relations, 29,016 facts, 224,688 prompts.

    python benchmarks/ingest.py

Makes own lists (JSON lines) in a temporary folder, reads and ingests them twice, and prints how long each
part took.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from kndb.facts import read
from kndb.store import facts, ingest
from kndb.store.engine import open_store

RELATIONS = 39
FACTS = 744
"""Facts of a relation."""


def main() -> None:
    """Runs the benchmark."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = make_files(folder)
        begin = time.perf_counter()
        with open_store(folder / "kndb.db", create=True) as store:
            report_time("new database", begin)
            for attempt in ("first", "again"):
                begin = time.perf_counter()
                files = read(source)
                report_time(f"{attempt}: reading {len(files)} files", begin)
                middle = time.perf_counter()
                with store.writing() as connection:
                    report = ingest.ingest(connection, files)
                report_time(f"{attempt}: storing {report.facts_seen} facts", middle)
                report_time(f"{attempt}: {report.facts_added} facts, {report.prompts_added} prompts added", begin)
            begin = time.perf_counter()
            with store.reading() as connection:
                found = facts.prompts(connection)
            report_time(f"listing {len(found)} prompts", begin)
            print(f"{store.path.stat().st_size / 1e6:.1f} MB")


def make_files(folder: Path) -> Path:
    """Writes one file per relation: its templates (seven or eight), then its facts."""
    source = folder / "facts"
    source.mkdir()
    for relation in range(RELATIONS):
        key = f"P{relation + 1}"
        templates = [f"In way {way} of {key}, [X] belongs to [Y] ." for way in range(8 if relation % 4 else 7)]
        lines = [{"relation": key, "template": template} for template in templates]
        lines += [
            {
                "relation": key,
                "subject": f"Subject {n} of {key}",
                "object": f"Object {n % 97}",
                "id": f"{key}-{n}",
            }
            for n in range(FACTS)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (source / f"{key}.jsonl").write_text(text, encoding="utf-8")
    return source


def report_time(what: str, begin: float) -> None:
    """Prints how long something took."""
    print(f"{time.perf_counter() - begin:6.2f} s  {what}")


if __name__ == "__main__":
    main()
