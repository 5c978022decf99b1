"""Plans many facts in one edit with the product's commands: time, memory, resuming, and what comes of it.

    python benchmarks/many_facts.py --model lab-bert --count 1000

A store is made of `data/facts` (`--store FILE` copies one that is there), cases are drawn by `kndb edit cases`: facts
that the model knows, each with another object of its relation as new answer. Each method plans them twice: once
through, and once with the process killed by SIGKILL right after its file of steps or targets was written for the
`--writes`-th time, and run again. Both must make one object. Then the edit is evaluated, applied, shown, compared,
pushed, pulled into a second store, reverted and verified. Processor seconds are those of user and system; memory is the
process's largest resident set, beside that of a plan of ten facts. Prints a table in Markdown; `--json FILE` writes all
figures. Linux and macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FACTS = Path(__file__).parents[1] / "data" / "facts"
METHODS = {
    "together": (["optimize", "--together"], "--steps-file"),
    "memit": (["memit"], "--targets-file"),
    "alphaedit": (["alphaedit"], "--targets-file"),
    "emmet": (["emmet"], "--targets-file"),
}


@dataclass
class Run:
    """What a command took.

    Attributes:
        seconds: of the processor, in user and system mode; `elapsed`: of the clock.
        mebibytes: the largest resident set.
        code: the exit status; negative for a signal.
        output: what it printed on stdout.
    """

    seconds: float
    elapsed: float
    mebibytes: float
    code: int
    output: str


@dataclass
class Bench:
    """Commands in one folder with one store."""

    folder: Path
    store: Path
    figures: dict[str, Any] = field(default_factory=dict)

    def kndb(self, *words: str, kill: tuple[Path, int] | None = None, store: Path | None = None) -> Run:
        """Runs a command; with `kill`, until a file was written so many times.

        Raises:
            RuntimeError: if the command fails, or ends before it could be killed.
        """
        command = [str(Path(sys.executable).parent / "kndb"), *words]
        environment = {**os.environ, "KNDB_DB": str(store or self.store), "KNDB_AUTHOR": "benchmark"}
        started = time.perf_counter()
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=output, stderr=errors, start_new_session=True
            )
            if kill is not None:
                _kill_after_writes(process, *kill)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            elapsed = time.perf_counter() - started
            output.seek(0)
            errors.seek(0)
            text, said = output.read().decode(), errors.read().decode()
        if process.returncode != (0 if kill is None else -signal.SIGKILL):
            raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}:\n{said}")
        unit = 1 if sys.platform == "darwin" else 1 << 10
        memory = used.ru_maxrss * unit / (1 << 20)
        return Run(used.ru_utime + used.ru_stime, elapsed, memory, process.returncode, text)


def _kill_after_writes(process: subprocess.Popen[bytes], path: Path, writes: int) -> None:
    """Kills a process once a file that is replaced as a whole was written so many times."""
    seen: set[tuple[int, int]] = set()
    while process.poll() is None:
        if path.exists():
            found = path.stat()
            seen.add((found.st_ino, found.st_mtime_ns))
        if len(seen) >= writes:
            os.kill(process.pid, signal.SIGKILL)
            return
        time.sleep(0.01)


def make_store(bench: Bench, options: argparse.Namespace) -> None:
    """A store with the facts and some knowledge neurons, or a copy of one that is there."""
    if options.store:
        shutil.copy(options.store, bench.store)
        objects = options.store.with_suffix(".objects")
        if objects.is_dir():
            shutil.copytree(objects, bench.store.with_suffix(".objects"))
        bench.kndb("db", "upgrade")
        return
    bench.kndb("ingest", str(FACTS))
    bench.kndb("attribute", "--model", options.model, "--sample", str(options.attributed))
    bench.kndb("refine")


def plan(bench: Bench, model: str, method: str, cases: Path, *more: str, kill: tuple[Path, int] | None = None) -> Run:
    """Plans an edit of all cases."""
    words, _ = METHODS[method]
    return bench.kndb("edit", *words, "--model", model, "--facts", str(cases), *more, "--format", "json", kill=kill)


def plans(bench: Bench, options: argparse.Namespace, method: str, cases: Path, few: Path) -> dict[str, Any]:
    """Plans through, killed and resumed; and ten facts, for their memory."""
    flag = METHODS[method][1]
    kept = bench.folder / f"{method}.kept"
    through = plan(bench, options.model, method, cases)
    killed = plan(bench, options.model, method, cases, flag, str(kept), kill=(kept, options.writes))
    size = kept.stat().st_size
    resumed = plan(bench, options.model, method, cases, flag, str(kept))
    of_few = plan(bench, options.model, method, few)
    edits = [json.loads(run.output) for run in (through, resumed)]
    objects = [one["object_hash"] for one in edits]
    return {
        "edit": edits[0]["id"],
        "objects": objects,
        "same object after SIGKILL": objects[0] == objects[1],
        "planning, CPU s": through.seconds,
        "planning, s": through.elapsed,
        "killed after, CPU s": killed.seconds,
        "resumed, CPU s": resumed.seconds,
        "peak memory, MiB": max(through.mebibytes, resumed.mebibytes),
        "peak memory of 10 facts, MiB": of_few.mebibytes,
        "file of steps or targets, MB": size / 1e6,
    }


def uses(bench: Bench, options: argparse.Namespace, edit: int) -> dict[str, Any]:
    """What the edit does, and what working with it takes."""
    number, model = str(edit), ["--model", options.model]
    shared, other = bench.folder / f"{edit}.kndb", bench.folder / f"colleague-{edit}.db"
    evaluated = bench.kndb("edit", "eval", number, "--format", "json")
    bench.kndb("ingest", str(FACTS), store=other)
    bench.kndb("model", "add", options.model, store=other)
    runs = {
        "eval": evaluated,
        "show": bench.kndb("edit", "show", number, "--format", "json"),
        "apply": bench.kndb("edit", "apply", number),
        "diff": bench.kndb("edit", "diff", "base", "current", *model, "--format", "json"),
        "push": bench.kndb("edit", "push", number, "--out", str(shared)),
        "pull": bench.kndb("edit", "pull", str(shared), store=other),
        "revert": bench.kndb("edit", "revert", number),
        "log": bench.kndb("edit", "log", "--format", "json"),
        "verify": bench.kndb("edit", "verify", "--all", "--weights"),
    }
    found: dict[str, Any] = {f"{name}, CPU s": run.seconds for name, run in runs.items()}
    found["most memory of these, MiB"] = max(run.mebibytes for run in runs.values())
    found["pushed file, MB"] = shared.stat().st_size / 1e6
    return found | measures(json.loads(evaluated.output))


def measures(evaluation: Any) -> dict[str, Any]:
    """How good the edit is, and how many of the facts that stand for all others were kept in its plan."""
    edited = evaluation["measures"]["edited"]
    found = {
        f"{group}: {name}": edited[group][name]
        for group in ("intra", "inter")
        if group in edited
        for name in ("facts", "facts_kept")
    }
    return {**edited["summary"], **found}


def object_size(bench: Bench, digest: str) -> float:
    """The size of an edit's object, in MB."""
    (path,) = bench.store.with_suffix(".objects").glob(f"*/{digest}.safetensors")
    return path.stat().st_size / 1e6


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lab-bert")
    parser.add_argument("--count", type=int, default=1000, help="facts")
    parser.add_argument("--seed", type=int, default=0, help="of the cases")
    parser.add_argument("--method", action="append", choices=sorted(METHODS), help="default: together and memit")
    parser.add_argument("--writes", type=int, default=3, help="kill after so many writes of the file")
    parser.add_argument("--attributed", type=int, default=300, help="facts whose knowledge neurons are looked for")
    parser.add_argument("--store", type=Path, help="copy this store, with its objects, in place of making one")
    parser.add_argument("--folder", type=Path, help="work in this new folder, and leave it; default: a temporary one")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch) / "work").absolute()
        folder.mkdir(parents=True)
        bench = Bench(folder, folder / "kndb.db")
        make_store(bench, options)
        cases, few = folder / "cases.jsonl", folder / "few.jsonl"
        draw = ["--model", options.model, "--seed", str(options.seed)]
        bench.kndb("edit", "cases", *draw, "--count", str(options.count), "--out", str(cases))
        lines = cases.read_text(encoding="utf-8").splitlines(keepends=True)
        few.write_text("".join(lines[:10]), encoding="utf-8")
        found: dict[str, dict[str, Any]] = {}
        for method in options.method or ["together", "memit"]:
            of_plans = plans(bench, options, method, cases, few)
            of_uses = uses(bench, options, of_plans["edit"])
            size = object_size(bench, of_plans["objects"][0])
            found[method] = {"facts": len(lines), **of_plans, "object, MB": size, **of_uses}
            if options.json:
                options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")
    print(table(found))


def table(found: dict[str, dict[str, Any]]) -> str:
    """A row for each figure, a column for each method."""
    names = [name for name in next(iter(found.values())) if name not in ("edit", "objects")]
    lines = [f"| | {' | '.join(found)} |", f"|---|{'---|' * len(found)}"]
    lines += [f"| {name} | {' | '.join(cell(of.get(name)) for of in found.values())} |" for name in names]
    return "\n".join(lines)


def cell(value: object) -> str:
    """A figure as the table has it."""
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
