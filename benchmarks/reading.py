"""Measures what reading a list takes: memory as a multiple of the file, and time per MB, for each format.

    python benchmarks/reading.py [--sizes 1 4 16]

Writes files of about so many MB in a temporary folder and reads each in a process of its own. Memory is by how much the
process's peak grew over that of reading a small file; of imports, it is the reader alone, without the store.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import kndb
from kndb import facts
from kndb.errors import InputError
from kndb.exchange import eleutherai, neuron_csv, tables
from kndb.exchange.columns import SCORES
from kndb.exchange.sets import Sizes

SIZES = Sizes(layers=100, neurons=10_000)
MB = 1_000_000
Lines = Callable[[int], str]


def main() -> None:
    """Prints the table; or, with --read, reads one file and prints what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--read", nargs=3)
    arguments = parser.parse_args()
    if arguments.read:
        _measure(*arguments.read)
        return
    print("| list | " + " | ".join(f"memory, {size} MB | s per MB" for size in arguments.sizes) + " |")
    print("|---|" + "---|---|" * len(arguments.sizes))
    for name, (file, write) in LISTS.items():
        cells = []
        for size in arguments.sizes:
            growth, seconds, read = _in_process(name, file, write, size * MB)
            cells += [f"{growth / read:.1f} ×", f"{seconds / read * MB:.3f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _in_process(name: str, file: str, write: Callable[[Path, int], None], size: int) -> tuple[float, float, int]:
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small" / file, Path(folder) / "large" / file
        for path, target in ((small, 2000), (large, size)):
            path.parent.mkdir(parents=True)
            write(path, target)
        done = subprocess.run(
            [sys.executable, __file__, "--read", name, str(small), str(large)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        growth, seconds = map(float, done.stdout.split())
        files = [path for path in large.parent.rglob("*") if path.is_file() and not path.name.startswith("kndb.db")]
        return growth, seconds, sum(path.stat().st_size for path in files)


def _measure(name: str, small: str, large: str) -> None:
    _read(name, Path(small))
    before = _peak()
    begin = time.process_time()
    kept = _read(name, Path(large))
    seconds = time.process_time() - begin
    print(_peak() - before, seconds)
    assert kept is not None


def _peak() -> int:
    """The most memory that the process held so far, in bytes. Not `ru_maxrss`: that begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def _read(name: str, path: Path) -> object:
    if name.startswith("import"):
        return IMPORTS[name](path)
    if name.endswith("stored"):
        with kndb.open(path.parent / "kndb.db") as database:
            return database.facts.ingest([path])
    if name.startswith("json: "):
        try:
            return facts.read(path, "json", skip_invalid=True)
        except InputError as error:  # What is measured is how far it gets.
            return str(error)
    chosen = name.split()[0]
    folder = chosen in ("pararel", "bear", "kamel", "mlama")
    return facts.read(path.parent if folder else path, chosen)


IMPORTS: dict[str, Callable[[Path], object]] = {
    "import neurons: csv": lambda path: neuron_csv.read_files([path], SIZES),
    "import neurons: eleutherai": lambda path: eleutherai.read_files([path], SIZES),
    "import scores: csv": lambda path: sum(1 for _ in tables.read(path, SCORES)),
    "import scores: jsonl": lambda path: sum(1 for _ in tables.read(path, SCORES)),
    "import scores: parquet": lambda path: sum(1 for _ in tables.read(path, SCORES)),
}


# --- the files --------------------------------------------------------------------------------------------------


def _until(size: int, text: Lines) -> Iterator[str]:
    written = number = 0
    while written < size:
        line = text(number)
        written += len(line)
        number += 1
        yield line


def _lines(record: Callable[[int], object]) -> Callable[[Path, int], None]:
    def write(path: Path, size: int) -> None:
        with path.open("w") as file:
            file.writelines(_until(size, lambda number: json.dumps(record(number)) + "\n"))

    return write


def _list(record: Callable[[int], object]) -> Callable[[Path, int], None]:
    def write(path: Path, size: int) -> None:
        path.write_text(f"[{', '.join(_until(size, lambda number: json.dumps(record(number))))}]")

    return write


def _table(header: str, row: Callable[[int], list[str]], delimiter: str = ",") -> Callable[[Path, int], None]:
    def line(number: int) -> str:
        out = io.StringIO()
        csv.writer(out, delimiter=delimiter).writerow(row(number))
        return out.getvalue()

    def write(path: Path, size: int) -> None:
        with path.open("w", newline="") as file:
            file.write(header.replace(",", delimiter) + "\n")
            file.writelines(_until(size, line))

    return write


def _beside(write: Callable[[Path, int], None], name: str, text: str, place: str = ".") -> Callable[[Path, int], None]:
    """Writes a small file beside the large one, or moves the large one to a folder below."""

    def both(path: Path, size: int) -> None:
        (path.parent / place).mkdir(parents=True, exist_ok=True)
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / name).write_text(text)
        write(path.parent / place / path.name, size)

    return both


def _own(number: int) -> dict[str, object]:
    return {
        "relation": "P36",
        "subject": f"The place of number {number}",
        "object": f"Town {number % 97}",
        "id": number,
    }


def _counterfact(number: int) -> dict[str, object]:
    subject, texts = f"The place of number {number}", [f"{word} of number {number} is" for word in "abcdefghij"]
    rewrite = {
        "prompt": "The capital of {} is", "relation_id": "P36", "subject": subject,
        "target_true": {"str": "Paris", "id": "Q90"}, "target_new": {"str": "Rome", "id": "Q220"},
    }  # fmt: skip
    return {
        "case_id": number, "pararel_idx": number, "requested_rewrite": rewrite, "paraphrase_prompts": texts[:2],
        "neighborhood_prompts": texts, "attribute_prompts": texts, "generation_prompts": texts,
    }  # fmt: skip


def _score_row(number: int) -> dict[str, object]:
    row: dict[str, object] = {column.name: None for column in SCORES}
    scores = [[layer, (7 * layer + number) % 3000, layer / (number + 7)] for layer in range(50)]
    return row | {"relation": "P1", "subject": f"s{number}", "object": "o", "prompt": f"{number} [Y]", "scores": scores}


def _score_table(path: Path, size: int) -> None:
    rows = islice((_score_row(number) for number in range(size)), size // 1300 + 1)
    tables.write(path, path.suffix, SCORES, rows)


def _empty_lists(path: Path, size: int) -> None:
    path.write_text("[" + "[],      " * (size // 9) + "[]]")


LABELS = {"sub_label": "The place of number", "obj_label": "Town"}
POPQA = "id,subj,prop,obj,s_aliases,o_aliases,question,possible_answers"

LISTS: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "jsonl": ("f.jsonl", _lines(_own)),
    "jsonl, and stored": ("f.jsonl", _lines(_own)),
    "json": ("f.json", _list(_own)),
    "csv": ("f.csv", _table("relation,subject,object,id", lambda n: [str(value) for value in _own(n).values()])),
    "pararel": (
        "P1.jsonl",
        _beside(
            _lines(
                lambda n: {"sub_label": f"The place of number {n}", "obj_label": f"Town {n % 97}", "uuid": f"u-{n}"}
            ),
            "graphs_json/P1.jsonl",
            '{"pattern": "[X] is [Y].", "lemma": "be"}\n',
            "trex_lms_vocab",
        ),
    ),
    "lama": (
        "P1.jsonl",
        _lines(lambda n: {**LABELS, "predicate_id": "P1", "uuid": f"u-{n}", "evidences": [{"a": "b"}]}),
    ),
    "lama-sentences": (
        "f.jsonl",
        _lines(
            lambda n: {"pred": "UsedFor", **LABELS, "uuid": f"u-{n}", "masked_sentences": [f"Number {n} is [MASK]."]}
        ),
    ),
    "bear": (
        "P1.jsonl",
        _beside(
            _lines(lambda n: {"sub_id": f"Q{n}", **LABELS, "sub_aliases": ["a", "b"], "answer_idx": n}),
            "metadata_relations.json",
            '{"P1": {"templates": ["[X] is [Y]."]}}',
        ),
    ),
    "kamel": (
        "dev.jsonl",
        _beside(
            _lines(lambda n: {"index": [n, n + 1], "sub_label": f"Number {n}", "obj_label": ["Town", f"City {n}"]}),
            "question-templates.csv",
            "P1, What is [S]?\n",
            "P1",
        ),
    ),
    "mlama": (
        "P1.jsonl",
        _beside(
            _lines(lambda n: {"sub_uri": f"Q{n}", "obj_uri": "Q1", **LABELS, "lineid": n}),
            "de/templates.jsonl",
            '{"relation": "P1", "template": "[X] ist [Y]."}\n',
            "de",
        ),
    ),
    "popqa": (
        "f.tsv",
        _table(
            POPQA,
            lambda n: [str(n), f"Place {n}", "capital", "Town", "[]", "[]", f"What is Place {n}?", '["Town", "City"]'],
            "\t",
        ),
    ),
    "counterfact": ("f.json", _list(_counterfact)),
    "bags": (
        "f.json",
        _list(lambda n: [[f"Number {n} of {word} is [MASK].", "Paris", "P36(capital)"] for word in "abcdefgh"]),
    ),
    "json: empty lists": ("f.json", _empty_lists),
    "import neurons: csv": (
        "f.csv",
        _table("fact,layer,neuron,score", lambda n: [f"u-{n // 5}", "3", str(n % 9999), "0.5"]),
    ),
    "import neurons: eleutherai": (
        "f.json",
        lambda path, size: path.write_text(
            json.dumps({f"uuid-{n}": [[3, n % 999], [4, 5]] for n in range(size // 31)})
        ),
    ),
    "import scores: csv": ("f.csv", _score_table),
    "import scores: jsonl": ("f.jsonl", _score_table),
    "import scores: parquet": ("f.parquet", _score_table),
}
"""For each list, the name of its large file and what writes it."""

if __name__ == "__main__":
    main()
