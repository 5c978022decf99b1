"""What a run knows of itself: its prompts, those that were skipped, and how exact its scores are."""

from __future__ import annotations

from itertools import pairwise

from sqlalchemy import Connection, text

from ...records.run_findings import ErrorCount, RunFindings
from .. import runs
from ..run_errors import run_errors, worst_prompts

BOUNDS = tuple(10.0**power for power in range(-7, 2))
"""Completeness errors at which the distribution is cut."""
_COUNTS = ", ".join(f"COUNT(CASE WHEN completeness_error <= {bound:g} THEN 1 END)" for bound in BOUNDS)
_UP_TO = f"SELECT {_COUNTS}, COUNT(completeness_error) FROM prompt_result WHERE run_id = :run"  # noqa: S608 - numbers


def run_findings(connection: Connection, number: int, worst: int) -> RunFindings:
    """See `QueryCommands.run`."""
    found = runs.run(connection, number)
    return RunFindings(
        run=found,
        skipped=runs.skip_counts(connection, number),
        trust=runs.trust(connection, number),
        errors=run_errors(connection, found),
        distribution=distribution(connection, number),
        worst=tuple(worst_prompts(connection, number, worst)),
    )


def distribution(connection: Connection, number: int) -> tuple[ErrorCount, ...]:
    """A run's prompts by their completeness errors, one row for each power of ten; rows at the ends are not empty."""
    up_to = [int(count) for count in connection.execute(text(_UP_TO), {"run": number}).one()]
    edges: list[tuple[float, float | None]] = [
        (0.0, BOUNDS[0]),
        *pairwise(BOUNDS),
        (BOUNDS[-1], None),
    ]
    counts = [count - before for count, before in zip(up_to, (0, *up_to), strict=False)]
    held = [place for place, count in enumerate(counts) if count]
    shown = range(held[0], held[-1] + 1) if held else range(0)
    return tuple(ErrorCount(*edges[place], counts[place]) for place in shown)
