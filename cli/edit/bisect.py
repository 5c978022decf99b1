"""`kndb edit bisect`: which step of a model's history broke knowledge tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from kndb.advice import Placeholder, call
from kndb.errors import UsageError
from kndb.records.display import many
from kndb.records.knowledge_tests import BisectReport, HistoryMatrix, HistoryStep

from ..knowledge_tests import MostBytesOption, OnlyOption, read_tests, status_word
from ..options import (
    DatabaseOption,
    DeviceOption,
    FormatOption,
    ModelOption,
    PartOption,
    ThreadsOption,
    computing,
    open_existing,
)
from ..output import OutputFormat, note, print_json, print_parts, print_record, print_rows, progress_bar, require_part

_STEP_COLUMNS = ["step", "action", "does", "edit", "kind", "what", "planned_by", "planned_at", "who", "when", "version"]
_STEP_SHORT = ["step", "does", "edit", "what", "who", "when"]
_BROKEN_COLUMNS = ["name", "status", "asks", "expects", "why"]
_PARTS = ("steps", "tests")


def bisect(
    tests: Annotated[Path, typer.Option("--test", metavar="FILE", help="The file of tests; see: kndb test.")],
    model: ModelOption,
    good: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="VERSION",
            help="Search from this version on, at which tests pass: base, a version id, or a snapshot's name.",
        ),
    ] = "base",
    bad: Annotated[
        str,
        typer.Option("--to", metavar="VERSION", help="Search up to this later version, at which some of them fail."),
    ] = "current",
    only: OnlyOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="Run the tests at every version between the two, and print what they find.")
    ] = False,
    part: PartOption = None,
    most_bytes: MostBytesOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Find the step of a model's history that broke knowledge tests; each version is asked in memory, nothing moves.

    Example: kndb edit bisect --test tests.jsonl --model lab-bert
    """
    if every:
        require_part(_PARTS, output, part)
    elif part is not None:
        raise UsageError("--part chooses a part of what --all prints; add --all, or leave --part out")
    with open_existing(db) as database:
        chosen = read_tests(database, tests, only, most_bytes)
        keywords: dict[str, Any] = {"good": good, "bad": bad, "device": device}
        with computing(threads), progress_bar("Asking", "versions") as tick:
            if every:
                matrix = database.tests.walk(model, chosen, **keywords, progress=tick)
            else:
                report = database.tests.bisect(model, chosen, **keywords, progress=tick)
    if every:
        _print_matrix(matrix, output, part)
    else:
        _print_report(report, output)


def step_row(step: HistoryStep) -> dict[str, Any]:
    """A step's fields."""
    return {
        "step": step.entry.id,
        "action": step.entry.action,
        "does": step.does,
        "edit": step.entry.edit,
        "kind": step.kind,
        "what": step.title,
        "planned_by": step.planned_by,
        "planned_at": step.planned_at,
        "who": step.entry.author,
        "when": step.entry.created_at,
        "version": step.entry.version_after,
    }


def _print_report(report: BisectReport, output: OutputFormat) -> None:
    broken = [
        {
            "name": one.name,
            "status": one.status,
            "asks": one.test.asks,
            "expects": one.test.expects,
            "why": one.why,
        }
        for one in report.broken
    ]
    note(
        f"{many(report.steps, 'step')} from {report.good} to {report.bad}; {many(report.probes, 'version')} asked. "
        f"{report.step.words[0].upper()}{report.step.words[1:]} broke {many(len(broken), 'test')}."
    )
    _note_names("did not pass at the first version, and did not count", report.left_out)
    if report.broke_later:
        after = report.step.entry.version_after
        _note_names("still passed after it, and broke later", report.broke_later)
        note(f"Search on: {call('tests.bisect', model=report.model, tests=Placeholder('FILE'), good=after)}")
    record = {**step_row(report.step), "version_before": report.step.entry.version_before}
    if output is OutputFormat.JSON:
        counts = {"steps": report.steps, "probes": report.probes}
        names = {"broke_later": report.broke_later, "left_out": report.left_out}
        print_json({**record, "broken": broken, **names, "good": report.good, "bad": report.bad, **counts})
    elif output is OutputFormat.CSV:
        print_rows(
            [{**record, **{f"test_{name}": row[name] for name in row}} for row in broken], _csv_columns(), output
        )
    else:
        print_record(record, output)
        print_rows(broken, _BROKEN_COLUMNS, output, short=["name", "why"])


def _csv_columns() -> list[str]:
    return [*_STEP_COLUMNS, "version_before", *(f"test_{name}" for name in _BROKEN_COLUMNS)]


def _note_names(what: str, names: Sequence[str]) -> None:
    if names:
        note(f"{many(len(names), 'test')} {what}: {', '.join(names)}.")


def _print_matrix(matrix: HistoryMatrix, output: OutputFormat, part: str | None) -> None:
    note(
        f"{many(len(matrix.steps), 'step')} from {matrix.versions[0]} to {matrix.versions[-1]}; "
        f"{many(matrix.probes, 'version')} asked."
    )
    columns = ["start", *(str(step.entry.id) for step in matrix.steps)]
    rows = [
        {"name": name, **dict(zip(columns, map(status_word, statuses), strict=True))}
        for name, statuses in zip(matrix.names, matrix.statuses, strict=True)
    ]
    steps = [step_row(step) for step in matrix.steps]
    parts = {"steps": (steps, _STEP_COLUMNS), "tests": (rows, ["name", *columns])}
    about = {"model": matrix.model, "versions": matrix.versions, "probes": matrix.probes}
    print_parts(parts, output, part, about, short={"steps": _STEP_SHORT})
