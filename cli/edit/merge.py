"""`kndb edit merge`: one edit of several that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.advice import call
from kndb.records.edits import Edit
from kndb.records.together import KeptFacts

from ..answering import warn
from ..numbers import edit_number, parse_numbers
from ..options import (
    DatabaseOption,
    FormatOption,
    RefinementMethodOption,
    RefinementOption,
    ThreadsOption,
    computing,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_json, print_rows, progress_bar
from .merge_settings import NO_SETTINGS, GivenSettings, takes_settings
from .planning import print_planned
from .reports import report_rows, warnings
from .steps import EditsArgument
from .together import note_outcome, parse_layers

if TYPE_CHECKING:
    from kndb.database import Database
    from kndb.records.attribution import RefinementChoice

_COLUMNS = ["edit", "fact", "relation", "subject", "object", "to", "stands", "prompts", "alone", "merged"]
_SHORT = ["edit", "fact", "subject", "to", "stands", "prompts", "alone", "merged"]


@takes_settings
def merge(
    edits: EditsArgument,
    prefer: Annotated[
        list[int] | None,
        typer.Option(
            "--prefer",
            metavar="EDIT",
            help="Where edits give one question different answers, take those of this edit; repeatable, the first one "
            "counts most. Default: refuse.",
            show_default=False,
            parser=edit_number,
        ),
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Merge edits that change no value slot in common, too.")
    ] = False,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            metavar="LAYERS",
            help="Change the value slots of these layers, such as 24-29 or 0,2; no refinement is needed.",
            show_default=False,
        ),
    ] = None,
    settings: GivenSettings = NO_SETTINGS,
    steps_file: Annotated[
        Path | None,
        typer.Option(
            "--steps-file",
            metavar="FILE",
            help="Keep the steps in this file: run a merge that was stopped again, and it resumes.",
            show_default=False,
        ),
    ] = None,
    refinement: RefinementOption = None,
    method: RefinementMethodOption = None,
    threads: ThreadsOption = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Store nothing; show what the merge would do to each fact.")
    ] = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Plan one edit that gives the facts of several edits their new answers, planned together; nothing is applied.

    It is planned on the current version without those of the edits that are applied: it takes their place.

    Example: kndb edit merge 2 3 --anyway --steps 20 --preview
    """
    numbers, chosen_layers = parse_numbers(edits), parse_layers(layers)
    keep = KeptFacts(**settings.kept)
    with open_existing(db) as database, computing(threads):
        named = _named_refinement(database, numbers, refinement, method)
        with progress_bar("Planning", "steps") as tick:
            planned = database.edits.draft_merge(
                numbers,
                prefer=prefer or (),
                settings=settings.how,
                keep=keep,
                layers=chosen_layers,
                refinement=named,
                anyway=anyway,
                steps_file=steps_file,
                progress=tick,
            )
        draft = planned.draft
        for text in planned.texts:
            note(text)
        note_outcome(draft.content.recipe)
        rows = [as_row(one) for one in planned.facts]
        if preview:
            for name, text in report_rows(draft.content.recipe).items():
                note(f"{name.capitalize()}: {text}.")
            note(f"A preview of one edit in place of {len(numbers)}; nothing was stored.")
            print_rows(rows, _COLUMNS, output, short=_SHORT)
        else:
            edit = database.edits.add(draft)
            if steps_file is not None:
                steps_file.unlink(missing_ok=True)
            _print_merge(edit, rows, planned.revert_first, output)
        for text in warnings(draft.version.record.name, draft.content.recipe, db):
            note(text)


def _named_refinement(
    database: Database, edits: Sequence[int], refinement: int | None, method: str | None
) -> RefinementChoice:
    """The refinement that --refinement or --method names; None leaves it to the edits."""
    if (refinement is None and method is None) or not edits:
        return None
    return warn(database, refinement, method, database.edits.get(edits[0]).model)


def _print_merge(edit: Edit, rows: Sequence[dict[str, Any]], revert_first: Sequence[int], output: OutputFormat) -> None:
    """Prints a merge that was stored, and what becomes of the facts of each edit."""
    if output is OutputFormat.TABLE:
        print_planned(edit, output)
    else:
        note(f"Planned, not applied. Apply it with: {call('edits.apply', edit.id)}")
    if output is OutputFormat.JSON:
        print_json({"edit": edit.id, **as_row(edit), "revert_first": list(revert_first), "facts": rows})
    else:
        print_rows(rows, _COLUMNS, output, short=_SHORT)
