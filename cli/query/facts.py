"""`kndb query facts`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import (
    DatabaseOption,
    FormatOption,
    RelationsOption,
    open_existing,
)
from ..output import OutputFormat, as_row, print_rows


def facts(
    relation: RelationsOption = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Text in the subject.", show_default=False)] = None,
    object_: Annotated[str | None, typer.Option("--object", help="Text in the object.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="At most so many rows.", show_default=False)] = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """List facts with their numbers.

    Example: kndb query facts --relation P36 --subject France
    """
    with open_existing(db) as database:
        found = database.facts.find(relation or [], subject, object_, limit)
    columns = ["id", "relation", "subject", "object", "external_id", "prompts"]
    print_rows([as_row(fact) for fact in found], columns, output)
