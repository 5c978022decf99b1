"""Tables of edits by the measures of the field: of an evaluation, and of methods beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...records.edits import COMPARED_MEASURES, Edit, EditTrial, Evaluation, Interval, TrialSummary
from ...report.content import Cell, Command, Row, Table, count, decimal, named, table

_COMPARED = ("success", "ES", "PS", "NS", "S", "perplexity_others", "flips_others", "seconds")
"""Columns of the table of methods."""


def summary_table(edit: Edit, evaluation: Evaluation, line: str) -> Table | None:
    """The field's measures of an edit with their intervals, beside its random neurons; None where none are stored.

    Args:
        edit: the edit.
        evaluation: its evaluation.
        line: the command that makes it.
    """
    found: Any = evaluation.measures
    edited, control = ((found.get(name) or {}).get("summary", {}) for name in ("edited", "control"))
    ends = ((found.get("intervals") or {}).get("edited") or {}).get("summary", {})
    rows: list[Row] = [
        (name.replace("_", " "), _value(edited[name]), _interval(ends.get(name)), _value(control.get(name)))
        for name in COMPARED_MEASURES
        if name in edited
    ]
    if not rows:
        return None
    source = f"evaluation {evaluation.id}: {edit.model} {evaluation.version_before} → {evaluation.version_after}"
    columns = ("measure", "edit", "95 % interval over facts", "random neurons")
    command = Command(f"edit-eval-summary-{edit.id}", line)
    return table(f"Edit {edit.id} by the measures of the field", command, columns, rows, source=source)


def comparison_table(trial: EditTrial, summaries: Sequence[TrialSummary]) -> Table:
    """Methods by the number of facts that each edited at once.

    Args:
        trial: a bench of several methods.
        summaries: its table.
    """
    rows: list[Row] = [
        (
            named(f"{row.settings['method']}, {row.edits:,}"),
            count(row.planned),
            *(_with_ends(row.measures.get(name)) for name in _COMPARED),
        )
        for row in summaries
        if row.weights == "edit"
    ]
    columns = ("method, facts at once", "facts with an edit", *(name.replace("_", " ") for name in _COMPARED))
    command = Command(f"edit-trials-{trial.id}", f"kndb edit trials {trial.id} --wide")
    source = f"evaluations in memory, after the last edit: trial {trial.id} of {trial.model} {trial.version}"
    return table("Methods beside each other", command, columns, rows, source=source)


def _with_ends(interval: Interval | None) -> Cell:
    if interval is None or interval[0] is None:
        return Cell("")
    value, low, high = interval
    ends = "" if low is None or high is None else f" [{low:.2f}–{high:.2f}]"
    return Cell(f"{value:,.2f}{ends}", number=True)


def _value(value: float | None) -> Cell:
    return decimal(value, digits=3)


def _interval(ends: Sequence[float | None] | None) -> Cell:
    return Cell("") if not ends or None in ends else Cell(f"{ends[0]:,.3f}–{ends[1]:,.3f}", number=True)
