"""Measures a really pretrained model beside the lab models, step by step, and writes docs/real-models.md.

    python benchmarks/real_models.py --list
    python benchmarks/real_models.py --size small
    python benchmarks/real_models.py --write docs/real-models.md

Each step is a command, mostly of kndb itself, that runs in a process of its own; what it printed as JSON, its time and
its processor time are kept in `results.json` beside the store, in real-models/measured-SIZE. A step that is there is
not run again, so that a run that was stopped goes on where it was; `--redo` names steps to run again. The page's
tables are made of these results alone, between its markers; all else in the page stays. With `--write`, the results
are copied beside the page, so that `--results docs/real-models.json` makes its tables again without any model.

Sizes: `full` is the page's (all of data/facts; attributed are the prompts of five relations that the model knows);
`small` and `tiny` take a few facts of fewer relations, and the real model alone. Take a quiet machine: times count.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import real_page
from fetch_real_model import DEFAULT, VARIABLE

ROOT = Path(__file__).resolve().parents[1]
REAL = "SmolLM2-135M-Instruct"
LABS = ("lab-bert", "lab-gpt2")
ERRORS = """SELECT relation.key AS relation, completeness_error AS error, evaluations, skipped FROM prompt_result
JOIN prompt ON prompt.id = prompt_id JOIN fact ON fact.id = fact_id JOIN relation ON relation.id = relation_id
WHERE run_id = {run}"""
TOLERANCE = 1e-3

Output = Any
Results = dict[str, dict[str, Any]]


class StepError(Exception):
    """A step's command failed."""


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        facts: facts per relation that are ingested; None takes all of data/facts.
        relations: whose known prompts of the real model are attributed.
        others: further relations whose facts are ingested, if not all are.
        models: what is measured.
        probed: facts per relation whose neurons are scaled; `asked`: prompts of other relations for each.
        updated, optimized: facts that get a new answer.
        near: facts of edited relations measured for each edit, and as many of others.
        sample: facts of other relations measured for an erased relation.
        benched: prompts of the engine's benchmark; 0 leaves it out.
    """

    facts: int | None
    relations: tuple[str, ...]
    others: tuple[str, ...]
    models: tuple[str, ...]
    probed: int
    asked: int
    updated: int
    optimized: int
    near: int
    sample: int
    benched: int


SIZES = {
    "tiny": Size(3, ("P36", "P37"), ("P103",), (REAL,), 2, 2, 2, 1, 2, 2, 0),
    "small": Size(12, ("P36", "P37"), ("P103",), (REAL,), 8, 4, 8, 2, 4, 8, 0),
    "full": Size(None, ("P36", "P37", "P176", "P178", "P103"), (), (REAL, *LABS), 4, 5, 8, 4, 4, 20, 32),
}


@dataclass(frozen=True)
class Step:
    """A command and what is kept of its output.

    Attributes:
        name: the model and what is measured, such as `lab-bert.refine`.
        words: gives the command's words, `kndb` or `python` first, from the outputs of the steps before it.
        keep: what is kept of the JSON that it prints.
    """

    name: str
    words: Callable[[Results], Sequence[object]]
    keep: Callable[[Output], Output] = lambda output: output


def main() -> None:
    """Runs the steps that are missing, and prints or writes the page's tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--steps", default="*", help="run only these: names or patterns, with commas between them")
    parser.add_argument("--redo", default="", help="run these again, if they are chosen; likewise")
    parser.add_argument("--list", action="store_true", help="list the steps, and which of them were run")
    parser.add_argument("--results", type=Path, help="run nothing: take these results")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="fill this page's tables; default: print them")
    options = parser.parse_args()
    folder = ROOT / "real-models" / f"measured-{options.size}"
    if options.results is not None:
        found = json.loads(options.results.read_text(encoding="utf-8"))
    else:
        plan = list(steps(options.size, SIZES[options.size]))
        measured = Measured(folder)
        if options.list:
            for step in plan:
                done = measured.steps.get(step.name)
                print(f"{step.name:45} {_seconds(done) if done else ''}")
            return
        try:
            run(plan, measured, options.steps, options.redo)
        except StepError as error:
            print(f"real_models: {error}", file=sys.stderr)
            sys.exit(1)
        found = measured.content
    if options.write is None:
        print(real_page.all_tables(found))
        return
    real_page.fill(options.write, found)
    options.write.with_suffix(".json").write_text(real_page.as_text(found), encoding="utf-8")


# --- the steps ------------------------------------------------------------------------------------------------


def steps(name: str, size: Size) -> Iterator[Step]:
    """All steps of a size, in the order in which they need each other."""
    facts = "data/facts" if size.facts is None else f"real-models/measured-{name}/facts.jsonl"
    yield Step("facts", lambda _: ["kndb", "ingest", facts])
    for model in size.models:
        yield from _attribution(model, size)
        yield from _questions(model)
        yield from _probes(model, size)
        yield from _edits(model, size)


def _attribution(model: str, size: Size) -> Iterator[Step]:
    """What the model knows, and its facts' neurons; those of the activation baseline first, as the older refinement."""
    added: list[object] = ["kndb", "model", "add", model]
    attributed: list[object] = ["kndb", "attribute", "--model", model]
    if model == REAL:
        added = ["kndb", "model", "add", _checkpoint(), "--name", REAL]
        attributed += [*_options("--relation", size.relations), "--known-only"]
    yield Step(f"{model}.add", lambda _: added, lambda output: _some(output, ("family", "layers", "neurons")))
    asked = _options("--relation", size.relations) if model == REAL else []
    yield Step(f"{model}.known", lambda _: ["python", "benchmarks/known_facts.py", "--model", model, *asked])
    for part, words in (("-activation", [*attributed, "--method", "activation"]), ("", attributed)):
        run, refined = f"{model}.attribute{part}", f"{model}.refine{part}"
        yield Step(run, lambda _, words=words: words)
        yield Step(refined, lambda found, run=run: ["kndb", "refine", "--run", found[run]["output"]["run"]])
    if model == REAL and size.benched:
        bench = ["kndb", "bench", "attribution", "--checkpoint", _checkpoint(), "--prompts", size.benched]
        yield Step(f"{model}.bench", lambda _: [*bench, "--tokens", 8, "--baseline-prompts", 1])


def _questions(model: str) -> Iterator[Step]:
    """What the refinement says of the facts' neurons, and the run of its errors."""

    def errors(found: Results) -> Sequence[object]:
        run = found[f"{model}.attribute"]["output"]["run"]
        return ["kndb", "query", "sql", " ".join(ERRORS.format(run=run).split())]

    yield Step(f"{model}.errors", errors, summarise_errors)
    for name, words, of in (
        ("counts", "counts", "refine"),
        ("counts-activation", "counts", "refine-activation"),
        ("layers", "layers", "refine"),
        ("consistency", "consistency", "refine"),
    ):
        yield Step(
            f"{model}.{name}",
            lambda found, words=words, of=of: ["kndb", "query", words, "--refinement", _refinement(found, model, of)],
        )
    yield Step(
        f"{model}.overlap",
        lambda found: ["kndb", "query", "overlap", "--part", "summary", "--refinement", _refinement(found, model)],
        lambda output: output["summary"],
    )


def _probes(model: str, size: Size) -> Iterator[Step]:
    for kind in ("suppress", "amplify"):

        def words(found: Results, kind: str = kind) -> Sequence[object]:
            sets = [
                "--refinement",
                _refinement(found, model),
                "--baseline",
                _refinement(found, model, "refine-activation"),
            ]
            return ["kndb", "probe", kind, "--model", model, "--facts", size.probed, "--others", size.asked, *sets]

        yield Step(f"{model}.{kind}", words)


def _edits(model: str, size: Size) -> Iterator[Step]:
    """New answers by `edit update` and by gradient steps, a relation erased, and one edit applied and taken back."""
    chosen = _options("--relation", size.relations)
    for method, facts in (("update", size.updated), ("optimize", size.optimized)):

        def bench(found: Results, method: str = method, facts: int = facts) -> Sequence[object]:
            measured = ["--intra", size.near, "--inter", size.near, "--refinement", _refinement(found, model)]
            words = ["kndb", "edit", "bench", "--model", model, "--method", method, "--facts", facts, "--sizes", 1]
            return [*words, *chosen, *measured]

        yield Step(f"{model}.{method}", bench)
    first = size.relations[0]
    erase = ["kndb", "edit", "erase", "--model", model, "--relation", first, "--refinement"]
    yield Step(f"{model}.erase", lambda found: [*erase, _refinement(found, model)], _edit)
    yield Step(
        f"{model}.erase-eval",
        lambda found: ["kndb", "edit", "eval", found[f"{model}.erase"]["output"]["edit"], "--sample", size.sample],
        lambda output: output["measures"],
    )
    yield Step(f"{model}.fact", lambda _: ["kndb", "query", "facts", "--relation", "P36", "--subject", "Spain"])

    def plan(found: Results) -> Sequence[object]:
        target = ["--fact", found[f"{model}.fact"]["output"][0]["id"], "--to", "Rome", "--max-share", 1]
        return ["kndb", "edit", "update", "--model", model, *target, "--refinement", _refinement(found, model)]

    yield Step(f"{model}.plan", plan, _edit)
    for name in ("apply", "verify", "revert"):
        yield Step(
            f"{model}.{name}",
            lambda found, name=name: ["kndb", "edit", name, found[f"{model}.plan"]["output"]["edit"]],
            lambda _: None,
        )


def _options(name: str, values: Sequence[object]) -> list[object]:
    return [word for value in values for word in (name, value)]


def _checkpoint() -> str:
    return os.environ.get(VARIABLE) or str(DEFAULT.relative_to(ROOT))


def _refinement(found: Results, model: str, step: str = "refine") -> int:
    return int(found[f"{model}.{step}"]["output"][0]["refinement"])


def _some(output: Output, names: Sequence[str]) -> Output:
    return {name: output[name] for name in names}


def _edit(output: Output) -> Output:
    return _some(output, ("edit", "kind", "neurons"))


def summarise_errors(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Completeness errors of a run's prompts: of all, and by relation.

    Args:
        rows: `relation`, `error`, `evaluations` and `skipped` of each prompt.
    """
    found: dict[str, Any] = {}
    for key in (None, *sorted({row["relation"] for row in rows})):
        mine = [row for row in rows if key in (None, row["relation"]) and row["skipped"] is None]
        errors = sorted(row["error"] for row in mine)
        if errors:
            found[key or "all"] = {
                "prompts": len(errors),
                "mean": sum(errors) / len(errors),
                "p95": errors[math.ceil(0.95 * len(errors)) - 1],
                "largest": errors[-1],
                "above": sum(error > TOLERANCE for error in errors) / len(errors),
                "evaluations": sum(row["evaluations"] for row in mine) / len(mine),
            }
    return found


# --- running them ---------------------------------------------------------------------------------------------


class Measured:
    """What the steps of one size gave, in a file that is written whole after each step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "results.json"
        self.content: dict[str, Any] = {"size": folder.name.removeprefix("measured-"), "steps": {}}
        if self._path.is_file():
            self.content = json.loads(self._path.read_text(encoding="utf-8"))

    @property
    def steps(self) -> Results:
        """The steps that were run, by name."""
        found: Results = self.content["steps"]
        return found

    def add(self, name: str, record: dict[str, Any]) -> None:
        """Keeps what a step gave."""
        self.steps[name] = record
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(real_page.as_text(self.content), encoding="utf-8")
        temporary.replace(self._path)


def run(plan: Sequence[Step], measured: Measured, chosen: str, redo: str) -> None:
    """Runs the steps that are missing.

    Raises:
        StepError: if a command fails; what was measured before stays.
    """
    measured.folder.mkdir(parents=True, exist_ok=True)
    facts = measured.folder / "facts.jsonl"
    size = SIZES[measured.content["size"]]
    if size.facts is not None and not facts.is_file():
        facts.write_text("".join(f"{line}\n" for line in _few_facts(size)), encoding="utf-8")
    for step in plan:
        if not _matches(step.name, chosen) or (step.name in measured.steps and not _matches(step.name, redo)):
            continue
        try:
            words = [str(word) for word in step.words(measured.steps)]
        except KeyError as error:
            raise StepError(f"{step.name} needs what {error.args[0]} gives; run that step first") from None
        print(f"── {step.name}: {shown(words)}", file=sys.stderr)
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        output = _called(words, measured.folder / "kndb.db", step.name)
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        record = {
            "command": shown(words),
            "seconds": round(seconds, 2),
            "processor_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
            "at": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
            "machine": _machine(),
            "output": step.keep(output),
        }
        measured.add(step.name, record)
        print(f"   {_seconds(record)}", file=sys.stderr)


def _matches(name: str, patterns: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern.strip()) for pattern in patterns.split(",") if pattern.strip())


def _few_facts(size: Size) -> Iterator[str]:
    """The first facts of some relations, with all templates."""
    for key in (*size.relations, *size.others):
        facts = 0
        for line in (ROOT / "data" / "facts" / f"{key}.jsonl").read_text(encoding="utf-8").splitlines():
            if "subject" in json.loads(line):
                facts += 1
                if facts > (size.facts or 0):
                    break
            yield line


def _called(words: Sequence[str], store: Path, name: str) -> Output:
    """Runs a command on the store and reads the JSON that it prints; what it says beside that is shown as it comes."""
    program, *rest = words
    command = [sys.executable, *rest] if program == "python" else [str(Path(sys.executable).with_name("kndb")), *rest]
    if program == "kndb":
        command += ["--format", "json"]
    environment = {**os.environ, "KNDB_DB": str(store), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise StepError(f"{name} ended with exit code {done.returncode}; run this again to go on from there")
    return json.loads(done.stdout)


def shown(words: Sequence[str]) -> str:
    """A command as one types it, wherever this checkout and the checkpoint lie."""
    checkpoint = _checkpoint()
    words = [str(DEFAULT.relative_to(ROOT)) if word == checkpoint else word for word in words]
    return " ".join(f'"{word}"' if " " in word else word for word in words)


def _seconds(record: dict[str, Any]) -> str:
    return f"{record['seconds']:.1f} s, {record['processor_seconds']:.1f} s of processor time"


def _machine() -> str:
    import torch

    return (
        f"{os.cpu_count()} cores of {platform.machine()}, {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
