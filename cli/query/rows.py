"""Rows and limits as several questions have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kndb.advice import Placeholder, call, option
from kndb.errors import UsageError

from ..output import OutputFormat, as_row


def require_positive(limit: int | None) -> None:
    """Refuses a --limit under 1.

    Raises:
        UsageError: for one.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"{option('limit')} must be at least 1 (got {limit})")


def named(records: Sequence[Any], output: OutputFormat) -> list[dict[str, Any]]:
    """Rows; people read `all` where the relation is None."""
    rows = [as_row(record) for record in records]
    if output is OutputFormat.TABLE:
        rows = [{**row, "relation": "all" if row["relation"] is None else row["relation"]} for row in rows]
    return rows


def no_facts() -> str:
    """What to say where a store has no facts at all."""
    return f"The store has no facts yet; add some with: {call('facts.ingest', Placeholder('PATH'))}"
