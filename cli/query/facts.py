"""`kndb query facts`."""

from __future__ import annotations

from typing import Annotated

import typer

from kndb.advice import call

from ..options import (
    DatabaseOption,
    FormatOption,
    RelationsOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_rows
from .rows import no_facts


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
    if not found and limit != 0:
        note(_why_none(relation, subject, object_) if relation or subject or object_ else no_facts())
    columns = ["id", "relation", "subject", "object", "external_id", "prompts"]
    print_rows([as_row(fact) for fact in found], columns, output)


def _why_none(relation: list[str] | None, subject: str | None, object_: str | None) -> str:
    asked = [f"of {' or '.join(relation)}"] if relation else []
    asked += [f"with {text!r} in its {name}" for name, text in (("subject", subject), ("object", object_)) if text]
    return f"There is no fact {' and '.join(asked)}; the relations are listed by: {call('facts.relations')}"
