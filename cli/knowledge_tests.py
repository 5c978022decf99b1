"""`kndb test`: knowledge tests, run on versions of a model or made from its edits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.errors import KnowledgeTestError, UsageError
from kndb.records.display import many
from kndb.records.knowledge_tests import ERROR, FAILED, PASSED, KnowledgeRun, KnowledgeTest, chosen_tests

from .options import DatabaseOption, DeviceOption, FormatOption, ThreadsOption, computing, open_existing
from .output import OutputFormat, note, print_rows, progress_bar, require_sortable

if TYPE_CHECKING:
    from kndb.database import Database

TestsArgument = Annotated[
    Path | None,
    typer.Argument(metavar="[FILE]", help="A file of tests: JSON lines or a table.", show_default=False),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--only", metavar="NAME", help="Take only the test of this name; repeatable. Default: all.", show_default=False
    ),
]
MostBytesOption = Annotated[
    int | None,
    typer.Option(
        "--most-bytes",
        metavar="N",
        help="Refuse a file with more bytes of unpacked text than this. Default: 1 GiB.",
        show_default=False,
    ),
]
_COLUMNS = ["name", "version", "status", "prompt", "why", "answered", "answered_probability", "probability"]
_LIST_COLUMNS = ["name", "asks", "expects", "note"]


def run_tests(
    file: TestsArgument = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="Test this registered model; see: kndb model list."),
    ] = None,
    versions: Annotated[
        list[str] | None,
        typer.Option(
            "--version",
            metavar="VERSION",
            help="Test this version: base, current, a version id, or a snapshot's name; repeatable. Default: current.",
            show_default=False,
        ),
    ] = None,
    only: OnlyOption = None,
    listed: Annotated[bool, typer.Option("--list", help="List the tests of the file, and ask nothing.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Show the tests that passed in the table, too.")] = False,
    junit: Annotated[
        Path | None,
        typer.Option(
            "--junit", metavar="FILE", help="Also write the outcomes to this file, as JUnit XML.", show_default=False
        ),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write",
            metavar="FILE",
            help="Make tests from the version's edits, and write them to this file.",
            show_default=False,
        ),
    ] = None,
    neighbours: Annotated[
        int | None,
        typer.Option(
            "--neighbours",
            metavar="N",
            help="With --write, also keep so many other facts for each edited one. Default: 2.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", help="With --write, the random seed. Default: 0.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="With --write, replace a file that is there.")] = False,
    most_bytes: MostBytesOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Run knowledge tests: prompts, and what a model must answer to them, or must not; at any version of it.

    Example: kndb test tests.jsonl --model lab-bert
    """
    _check_options(file, write, listed=listed, running=bool(only or junit or every))
    if write is None and (neighbours is not None or seed is not None or force):
        raise UsageError("--neighbours, --seed and --force go with --write; leave them out, or add --write FILE")
    if not listed and model is None:
        raise UsageError("--model is missing; name the model to test, as listed by: kndb model list")
    require_sortable(_LIST_COLUMNS if listed else _COLUMNS)
    with open_existing(db) as database:
        if write is not None:
            version = _single(versions)
            with computing(threads):
                _write(database, write, str(model), version, neighbours, seed, device, force=force)
            return
        tests = read_tests(database, file, only, most_bytes)
        if listed:
            print_rows([_listed(one) for one in tests], _LIST_COLUMNS, output, short=_LIST_COLUMNS[:3])
            return
        with computing(threads), progress_bar("Asking", "questions") as tick:
            runs = database.tests.run(str(model), tests, versions=versions or ["current"], device=device, progress=tick)
        if junit is not None:
            database.tests.write_junit(junit, runs)
    _print(runs, output, every=every)


def read_tests(
    database: Database, file: Path | None, only: Sequence[str] | None, most_bytes: int | None
) -> list[KnowledgeTest]:
    """The tests of a file, or those of some names."""
    assert file is not None, "the options were checked"
    limit = {} if most_bytes is None else {"most_bytes": most_bytes}
    return chosen_tests(database.tests.read(file, **limit), only or ())


def _check_options(file: Path | None, write: Path | None, *, listed: bool, running: bool) -> None:
    if file is None and write is None:
        raise UsageError("FILE is missing; name a file of tests, or make one from a model's edits with --write FILE")
    if write is not None and (file is not None or listed or running):
        raise UsageError(
            "--write makes a file of tests, and takes no FILE, --list, --all, --only or --junit; run the tests after it"
        )


def _single(versions: Sequence[str] | None) -> str:
    if versions is not None and len(versions) > 1:
        raise UsageError(f"--write makes tests of one version ({len(versions)} given)")
    return versions[0] if versions else "current"


def _write(
    database: Database,
    path: Path,
    model: str,
    version: str,
    neighbours: int | None,
    seed: int | None,
    device: str,
    *,
    force: bool,
) -> None:
    with progress_bar("Asking", "questions") as tick:
        made = database.tests.of_edits(
            model,
            version=version,
            neighbours=2 if neighbours is None else neighbours,
            seed=0 if seed is None else seed,
            device=device,
            progress=tick,
        )
    for text in made.left_out:
        note(f"Left out: {text}.")
    if not made.tests:
        raise KnowledgeTestError(f"there is no test to write: no prompt has an edit's new answer at version {version}")
    database.tests.write(path, made.tests, force=force)
    note(
        f"Wrote {many(len(made.tests), 'test')} to {path}: {made.edited} of edited facts, {made.kept} of neighbours. "
        "All of them pass now."
    )


def _print(runs: Sequence[KnowledgeRun], output: OutputFormat, *, every: bool) -> None:
    for run in runs:
        note(f"{run.model}, {_called(run)}: {run.words}.")
        left_out = sum(one.left_out for one in run.outcomes)
        if left_out:
            note(
                f"{many(left_out, 'prompt')} of facts were not asked: their blank is not their end, as a causal model "
                "needs it."
            )
    shown = [
        row
        for run in runs
        for row in rows_of(run)
        if every or output is not OutputFormat.TABLE or row["status"] != PASSED
    ]
    if shown or output is not OutputFormat.TABLE:
        short = ["name", *(["version"] if len(runs) > 1 else []), "status", "prompt", "why"]
        print_rows(shown, _COLUMNS, output, short=short)
    bad = [run for run in runs if not run.ok]
    if bad:
        wrong = [f"{len(run.outcomes) - run.count(PASSED)} at {_called(run)}" for run in bad]
        raise KnowledgeTestError(f"knowledge tests of {bad[0].model} did not pass: {', '.join(wrong)}")


def _called(run: KnowledgeRun) -> str:
    return run.asked_as if run.asked_as == run.version else f"{run.asked_as} ({run.version})"


def rows_of(run: KnowledgeRun) -> list[dict[str, Any]]:
    """A row for each prompt that was asked, and one for each test that had none."""
    rows = []
    for outcome in run.outcomes:
        common = {"name": outcome.name, "version": run.version}
        if not outcome.prompts:
            nothing = dict.fromkeys(("answered", "answered_probability", "probability"))
            said = {"status": outcome.status, "prompt": outcome.test.prompt, "why": outcome.why}
            rows.append({**common, **said, **nothing})
        for one in outcome.prompts:
            first = one.top[0] if one.top else None
            rows.append(
                {
                    **common,
                    "status": one.status,
                    "prompt": one.prompt,
                    "why": one.why,
                    "answered": None if first is None else first.token,
                    "answered_probability": None if first is None else first.probability,
                    "probability": one.probability,
                }
            )
    return rows


def status_word(status: str) -> str:
    """A status as a matrix shows it: what did not pass stands out."""
    return {PASSED: "pass", FAILED: "FAIL", ERROR: "error"}[status]


def _listed(one: KnowledgeTest) -> dict[str, Any]:
    return {"name": one.name, "asks": one.asks, "expects": one.expects, "note": one.note}
