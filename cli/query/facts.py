"""`kndb query facts`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kndb.advice import call

from ..option_groups import ANY, Which, takes_which
from ..options import (
    DatabaseOption,
    FormatOption,
    RelationsOption,
    open_existing,
)
from ..output import OutputFormat, Row, as_row, manner, note, print_rows, require_sortable, sorted_rows
from .rows import no_facts, require_positive

if TYPE_CHECKING:
    from kndb.database import Database
    from kndb.records.attribution import Refinement

_COLUMNS = ["id", "relation", "subject", "object", "external_id", "prompts"]
_SHORT = [name for name in _COLUMNS if name != "external_id"]
_NEURONS = "neurons"


@takes_which
def facts(
    relation: RelationsOption = None,
    subject: Annotated[
        str | None,
        typer.Option(
            "--subject",
            metavar="TEXT",
            help="List only facts whose subject holds this text, in upper or lower case.",
            show_default=False,
        ),
    ] = None,
    object_: Annotated[
        str | None,
        typer.Option(
            "--object",
            metavar="TEXT",
            help="List only facts whose object holds this text, in upper or lower case.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", help="List at most so many facts. Default: all.", show_default=False),
    ] = None,
    which: Which = ANY,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """List facts with their numbers; with --sort neurons, those with the most knowledge neurons first.

    Example: kndb query facts --relation P36 --subject France
    """
    require_positive(limit)
    counted = manner.sort == _NEURONS or which != ANY
    columns, short = ([*_COLUMNS, _NEURONS], [*_SHORT, _NEURONS]) if counted else (_COLUMNS, _SHORT)
    require_sortable([*_COLUMNS, _NEURONS])
    with open_existing(db) as database:
        # Sorted first: the largest of all facts are wanted, not the largest of the first ones.
        found = database.facts.find(relation or [], subject, object_, None if manner.sort else limit)
        rows: list[Row] = [as_row(fact) for fact in found]
        if counted:
            chosen = which.choose(database, relations=relation or [])
            rows = _with_neurons(database, rows, chosen)
    if not rows:
        note(_why_none(relation, subject, object_) if relation or subject or object_ else no_facts())
    print_rows(sorted_rows(rows)[:limit], columns, output, short=short)


def _with_neurons(database: Database, rows: list[Row], refinement: Refinement) -> list[Row]:
    """The rows with the number of each fact's knowledge neurons; None where the refinement has none of it."""
    sizes = database.query.set_sizes(refinement=refinement.id)
    return [{**row, _NEURONS: sizes.get(row["id"])} for row in rows]


def _why_none(relation: list[str] | None, subject: str | None, object_: str | None) -> str:
    asked = [f"of {' or '.join(relation)}"] if relation else []
    asked += [f"with {text!r} in its {name}" for name, text in (("subject", subject), ("object", object_)) if text]
    hint = " --subject and --object look for a part of the text; try less of it." if subject or object_ else ""
    return f"There is no fact {' and '.join(asked)}.{hint} The relations are listed by: {call('facts.relations')}"
