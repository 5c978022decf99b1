"""`kndb query relations`."""

from __future__ import annotations

from kndb.advice import Placeholder, call

from ..options import (
    DatabaseOption,
    FormatOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_rows


def relations(db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE) -> None:
    """List the relations with the numbers of their facts, templates and prompts.

    Example: kndb query relations
    """
    with open_existing(db) as database:
        found = database.facts.relations()
    if not found:
        note(f"The database has no facts yet; add some with: {call('facts.ingest', Placeholder('PATH'))}")
    print_rows([as_row(row) for row in found], ["key", "label", "facts", "templates", "prompts"], output)
