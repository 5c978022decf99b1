"""Coverage-guided fuzzing of whatever reads lists and results: any bytes as a file of every format.

    pip install "kndb[fuzz]"
    python benchmarks/fuzz_readers.py [CORPUS] -max_total_time=600 -max_len=4000

A file of the corpus begins with two bytes that choose the file's name and the reader. All but an InputError stops it.
The tests that fuzz (tests/facts/test_facts_fuzzed.py, tests/database/test_imports_fuzzed.py) also check what was read.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["kndb.content", "kndb.facts", "kndb.exchange"]):
    from kndb import facts
    from kndb.exchange import eleutherai, neuron_csv, tables, targets
    from kndb.exchange.columns import NEURONS, SCORES
    from kndb.exchange.sets import Sizes

from kndb.errors import InputError

NAMES = ("f.jsonl", "f.csv", "f.tsv", "f.json", "P1.jsonl")
SIZES = Sizes(layers=3, neurons=9)
READERS: list[Callable[[Path], object]] = [
    *(partial(facts.read, input_format=name, skip_invalid=skip) for name in facts.FORMATS for skip in (False, True)),
    lambda path: eleutherai.read_files([path], SIZES),
    lambda path: neuron_csv.read_files([path], SIZES),
    lambda path: list(tables.read(path, SCORES)),
    lambda path: list(tables.read(path, NEURONS)),
    partial(targets.read, delimiter=None),
    partial(targets.read, delimiter=","),
]


def main() -> None:
    """Fuzzes until it is stopped, or as long as libFuzzer's options say."""
    with tempfile.TemporaryDirectory() as folder:
        atheris.Setup(sys.argv, partial(_read, Path(folder)))
        atheris.Fuzz()


def _read(folder: Path, data: bytes) -> None:
    if len(data) < 3:
        return
    path = folder / NAMES[data[0] % len(NAMES)]
    path.write_bytes(data[2:])
    try:
        READERS[data[1] % len(READERS)](path)
    except InputError as error:
        str(error)
    finally:
        path.unlink()


if __name__ == "__main__":
    main()
