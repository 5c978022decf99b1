"""`kndb edit pull`: edits from a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.advice import call

from ..numbers import number_ranges
from ..options import DatabaseOption, FormatOption, OptionalModelOption, open_existing
from ..output import OutputFormat, as_row, note, print_rows
from .conditions import conditions_cell

if TYPE_CHECKING:
    from kndb.database.edits.pull import Pulled

_COLUMNS = ["edit", "known", "wanted", "kind", "change", "base", "fact", "builds_on", "unknown_facts", "object_hash"]
"""What was computed from the file's bytes."""
_WORDS = ["what", "author", "created_at", "conditions"]
"""The sender's words, marked in a table."""
_SHORT = ["edit", "known", "kind", "change", "builds_on"]


def pull(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that kndb edit push wrote.")],
    model: OptionalModelOption = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Store nothing; check the file and show what is in it.")
    ] = False,
    most_bytes: Annotated[
        int | None,
        typer.Option(
            "--most-bytes",
            metavar="N",
            help="Refuse a larger file. Default: four times the model's weight files, and 64 MiB.",
            show_default=False,
        ),
    ] = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Take the edits of a file into the store, all or none; nothing is applied. Another checkpoint is refused.

    What an edit changes is computed from its bytes; what it is for, who planned it and when are the sender's words.

    Example: kndb edit pull toyota.kndb
    """
    with open_existing(db) as database:
        found = database.edits.pull(file, model=model, preview=preview, most_bytes=most_bytes)
    count = f"{len(found)} edit{'s' if len(found) != 1 else ''}"
    if preview:
        note(f"{count} in {file}; nothing was stored.")
    else:
        new = sum(not one.known for one in found)
        ready = number_ranges([one.edit for one in found if one.edit is not None]).split()
        note(f"Took in {count}, {new} of them new; not applied. Apply them with: {call('edits.apply_all', ready)}")
    if output is OutputFormat.TABLE:
        rows = [{**_row(one, output), "sender_says": _words(one)} for one in found]
        print_rows(rows, [*_COLUMNS, "sender_says"], output, short=[*_SHORT, "sender_says"])
    else:
        rows = [{**_row(one, output), "slots": [as_row(slot) for slot in one.change.slots]} for one in found]
        slots = ["slots"] if output is OutputFormat.JSON else []
        print_rows(rows, [*_COLUMNS, *_WORDS, *slots], output)


def _row(one: Pulled, output: OutputFormat) -> dict[str, Any]:
    row = {name: getattr(one, name) for name in (*_COLUMNS, *_WORDS)}
    return {**row, "change": one.change.words, "conditions": conditions_cell(one.conditions, output)}


def _words(one: Pulled) -> str:
    who = "somebody" if one.author is None else one.author
    required = (
        "" if one.conditions is None else f"; must meet {'; '.join(each.words for each in one.conditions.conditions)}"
    )
    return f"{one.what}; by {who}, {one.created_at[:10]}{required}"
