"""What workers cost: the same attribution by one process, by two beside each other, and by two workers of Ray.

    python benchmarks/ray_engine.py --model lab-gpt2 --prompts 1500 --repeats 3

Each is run in a process of its own, on a copy of one new store. Measured is from when the model is loaded to when the
last result is there: wall seconds, and the CPU seconds of all processes, those of Ray itself included. "two processes"
are the ideal: two commands with half of the prompts each, which know nothing of each other. On a machine that others
use, CPU seconds say more than wall seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds() -> float:
    """The CPU time of this process and of all below it that are there, and of those that it waited for."""
    parents: dict[int, tuple[int, float]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = (int(fields[1]), sum(map(int, fields[11:15])) / TICKS)
    below, size = {os.getpid()}, 0
    while len(below) > size:
        size = len(below)
        below |= {number for number, (parent, _) in parents.items() if parent in below}
    return sum(parents[number][1] for number in below if number in parents)


def measured(store: str, model: str, facts: list[int], engine: dict[str, Any], settings: dict[str, Any]) -> None:
    """Runs one attribution, and prints what it took as JSON."""
    import kndb
    from kndb.database.attribution import computing
    from kndb.work.ray_engine import RayPool

    marks: list[tuple[float, float]] = []

    def mark() -> None:
        marks.append((time.monotonic(), cpu_seconds()))

    def after(kind: type, name: str) -> None:
        whole = getattr(kind, name)

        def wrapped(*arguments: Any) -> Any:
            found = whole(*arguments)
            mark()
            return found

        setattr(kind, name, wrapped)

    after(computing.OwnComputer, "__init__")
    after(RayPool, "wait_for_first")
    ends = RayPool.end

    def end(pool: RayPool) -> None:
        mark()
        ends(pool)

    RayPool.end = end  # type: ignore[method-assign]
    with kndb.use_threads(engine.get("threads")), kndb.open(store) as database:
        chosen = kndb.WorkEngine(**engine)
        report = database.attribution.run(model, fact_ids=facts, engine=chosen, **settings)
        if not chosen.remote:
            mark()
    (wall, cpu), (wall_end, cpu_end) = marks[0], marks[-1]
    print(json.dumps({"wall": wall_end - wall, "cpu": cpu_end - cpu, "prompts": report.attributed}))


def started(place: Path, model: str, facts: list[int], engine: dict[str, Any], settings: dict[str, Any]) -> Any:
    """Starts one attribution on a copy of the store."""
    copy = Path(tempfile.mkdtemp(dir=place))
    shutil.copy(place / "kndb.db", copy / "kndb.db")
    words = [str(copy / "kndb.db"), model, json.dumps(facts), json.dumps(engine), json.dumps(settings)]
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    command = [sys.executable, __file__, "--measure", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def finished(runs: list[Any]) -> dict[str, float]:
    """What attributions that ran beside each other took together."""
    said = [json.loads(run.communicate()[0].splitlines()[-1]) for run in runs]
    if any(run.returncode for run in runs):
        raise SystemExit(1)
    return {
        "wall": max(one["wall"] for one in said),
        "cpu": sum(one["cpu"] for one in said),
        "prompts": sum(one["prompts"] for one in said),
    }


def main() -> None:
    """Runs all, and prints a table of the least of each over the repeats."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lab-gpt2", help="a lab model, or a checkpoint's folder")
    parser.add_argument("--prompts", type=int, default=1500, help="prompts to attribute, about")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        store, model, facts, engine, settings = options.measure
        measured(store, model, json.loads(facts), json.loads(engine), json.loads(settings))
        return
    import kndb

    settings = {"tolerance": options.tolerance}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with kndb.open(place / "kndb.db") as database:
            database.facts.ingest([ROOT / "data" / "facts"])
            name = options.model if options.model.startswith("lab-") else "model"
            database.models.add(options.model, name)
            # Every relation in turn, so that each half has prompts of all kinds.
            facts = [fact.id for fact in database.facts.find()][:: max(1, 20_000 // options.prompts)]
        ways = {
            "one process, 1 thread": [(facts, {"threads": 1})],
            "one process, 2 threads": [(facts, {"threads": 2})],
            "two processes, 1 thread each": [(facts[::2], {"threads": 1}), (facts[1::2], {"threads": 1})],
            "ray, 2 workers": [(facts, {"name": "ray", "workers": 2, "threads": 1})],
        }
        best: dict[str, dict[str, float]] = {}
        for _ in range(options.repeats):
            for way, parts in ways.items():
                found = finished([started(place, name, some, engine, settings) for some, engine in parts])
                kept = best.setdefault(way, found)
                best[way] = {key: min(value, kept[key]) for key, value in found.items()}
    print(f"{'':30}{'prompts':>9}{'wall s':>9}{'CPU s':>9}")
    for way, found in best.items():
        print(f"{way:30}{found['prompts']:9.0f}{found['wall']:9.1f}{found['cpu']:9.1f}")


if __name__ == "__main__":
    main()
