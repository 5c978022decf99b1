"""The report's section on errors: how exact the scores are that all else is made of."""

from __future__ import annotations

import shlex

from ...records.attribution import RunErrors
from ...records.facts import BLANK
from ...report.content import (
    GRADES,
    LARGE_ERROR,
    Cell,
    Command,
    Row,
    Section,
    Table,
    Verdict,
    count,
    decimal,
    graded_error,
    percent,
    table,
)
from ...store import runs as store_runs
from ...store.run_errors import run_errors, worst_prompts
from ..error_words import verdict_in_words
from .sources import Sources

WORST = 10
"""Prompts with the largest errors that are listed."""


def trust(sources: Sources) -> Section:
    """How right the run's numbers are."""
    title, run = "Can the scores be trusted?", sources.run
    if not run.prompts:
        return Section(
            "trust",
            title,
            missing="These results were imported: their integrals were not checked. Attribute prompts with:",
            remedy=f"kndb attribute --model {sources.name}",
        )
    with sources.database.store.reading() as connection:
        trust = store_runs.trust(connection, run.id)
        errors = run_errors(connection, run)
    runs = Command("query-runs", f"kndb query runs --model {sources.name}")
    prompts = [(run.status, count(run.prompts), count(run.skipped))]
    rows = [
        ("known answers: the fact's object is the most probable token", percent(trust["correct"])),
        ("mean probability of the answer", decimal(trust["probability"], digits=3)),
        ("completeness error, mean over prompts", graded_error(trust["completeness_error"], errors.limit)),
        ("completeness error, largest", graded_error(trust["completeness_error_max"], errors.limit)),
        (
            f"prompts above {'the tolerance of ' if errors.asked else ''}{errors.limit:g}",
            count(errors.above if errors.prompts else None, runs),
        ),
        ("facts with such prompts", count(errors.facts_above if errors.prompts else None)),
        ("gradient evaluations per prompt", decimal(trust["evaluations"], digits=1)),
    ]
    text = (
        "The completeness error is |Σ scores − (P(1) − P(0))| of a prompt's worst layer, relative to that difference. "
        "The command does not recompute prompts that have their results."
    )
    again = Command("attribute", _same_again(sources))
    tables = [
        table(f"Run {run.id}", runs, ("status", "prompts attributed", "prompts left out"), prompts),
        table("Its errors", again, ("measure", "value"), rows),
    ]
    if errors.layers:
        by_layer: list[Row] = [
            (str(one.layer), count(one.prompts), graded_error(one.worst, errors.limit)) for one in errors.layers
        ]
        tables.append(
            table(f"Layers with errors above {errors.limit:g}", again, ("layer", "prompts", "worst"), by_layer)
        )
    worst = _worst(sources, errors)
    return Section("trust", title, (text,), (*tables, *worst), verdict=_verdict(errors))


def _verdict(errors: RunErrors) -> Verdict | None:
    """What the errors come down to."""
    if not errors.prompts:
        return None
    grade = GRADES[0] if not errors.above else GRADES[2] if (errors.worst or 0.0) > LARGE_ERROR else GRADES[1]
    return Verdict(f"{verdict_in_words(errors)}.", grade)


def _worst(sources: Sources, errors: RunErrors) -> list[Table]:
    """The prompts with the largest errors; nothing where no error is above the limit."""
    if not errors.above:
        return []
    with sources.database.store.reading() as connection:
        found = worst_prompts(connection, sources.run.id, WORST)
    rows: list[Row] = [
        (
            prompt.text.replace(BLANK, f"[{prompt.answer}]"),
            graded_error(prompt.error, errors.limit),
            count(prompt.layer),
            Cell(str(prompt.fact), number=True),
        )
        for prompt in found
        if prompt.error > errors.limit
    ]
    command = Command("query-fact-worst", f"kndb query fact {found[0].fact} --refinement {sources.refinement.id}")
    columns = ("prompt, with its answer", "completeness error", "worst layer", "fact")
    return [table("Prompts with the largest errors", command, columns, rows, folded=False)]


def _same_again(sources: Sources) -> str:
    """The command that resumes the run, which prints its errors."""
    run = sources.run
    words = [f"kndb attribute --model {sources.name} --run {run.id} --version {run.version} --method {run.method}"]
    for name, value in sorted(run.settings.items()):
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value is not None and value is not False:
            words.append(f"{option} {shlex.quote(str(value))}")
    attributed = [outcome.relation for outcome in sources.refinement.relations]
    if set(attributed) != set(sources.labels):
        words += [f"--relation {shlex.quote(relation)}" for relation in attributed]
    return " ".join(words)
