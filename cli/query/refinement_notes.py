"""Which refinement answers, and rows as several commands print them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kndb.errors import UsageError
from kndb.records.attribution import Refinement

from ..output import OutputFormat, as_row, note


def refinement_and_run(refinement: Refinement) -> str:
    """The refinement that an answer is from, in words."""
    return f"Refinement {refinement.id} of run {refinement.run_id}"


def require_positive(limit: int | None) -> None:
    """Refuses a --limit under 1.

    Raises:
        UsageError: for one.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1 (got {limit})")


def named(records: Sequence[Any], output: OutputFormat) -> list[dict[str, Any]]:
    """Rows; people read `all` where the relation is None."""
    rows = [as_row(record) for record in records]
    if output is OutputFormat.TABLE:
        rows = [{**row, "relation": "all" if row["relation"] is None else row["relation"]} for row in rows]
    return rows


def note_refinement(chosen: Refinement, relations: Sequence[str] | None = None) -> None:
    """Says on stderr which refinement answers, and of which of the relations it has nothing."""
    note(f"{refinement_and_run(chosen)}.")
    missing = set(relations or ()) - {outcome.relation for outcome in chosen.relations}
    if missing:
        note(f"It has no attributed facts of {', '.join(sorted(missing))}.")
