"""What the commands that plan an edit share: storing it, or showing what it would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.errors import UsageError

from .output import OutputFormat, as_row, note, print_parts, print_record, require_part

if TYPE_CHECKING:
    from kndb.database import Database

PreviewOption = Annotated[
    bool,
    typer.Option("--preview", help="Store nothing; show answers before and after, and who holds the slots."),
]
PreviewPartOption = Annotated[
    str | None,
    typer.Option(
        "--part",
        metavar="NAME",
        help="Of a preview, only this part: answers or collateral; CSV prints one at a time.",
        show_default=False,
    ),
]
_ANSWERS = ["prompt", "rank", "before", "probability_before", "after", "probability_after"]
_COLLATERAL = ["fact", "relation", "subject", "object", "neurons"]


def check_preview(preview: bool, part: str | None, output: OutputFormat) -> None:
    """Checks `--part`, before any work.

    Raises:
        UsageError: if a part is named that can't be printed.
    """
    if preview:
        require_part(("answers", "collateral"), output, part)
    elif part is not None:
        raise UsageError(f"found --part {part} without --preview; only a preview has parts")


def finish_plan(database: Database, draft: Any, preview: bool, part: str | None, output: OutputFormat) -> None:
    """Stores a draft and prints the edit; or prints what it would do, and stores nothing."""
    if preview:
        found = database.edits.preview(draft)
        slots, relations = len(found.collateral.neurons), len(found.collateral.relations)
        note(
            f"A preview; nothing was stored. The edit changes {slots} value slots, which {len(found.collateral.facts)} "
            f"facts of {relations} {'relation' if relations == 1 else 'relations'} hold."
        )
        answers = [as_row(row) for row in found.answers]
        facts = [as_row(row) for row in found.collateral.facts]
        print_parts({"answers": (answers, _ANSWERS), "collateral": (facts, _COLLATERAL)}, output, part)
        return
    print_planned(database.edits.add(draft), output)


def print_planned(planned: Any, output: OutputFormat) -> None:
    """Prints an edit that was planned."""
    from kndb.database.edits import recipe_title

    note(f"Planned, not applied. Apply it with: kndb edit apply {planned.id}")
    if output is OutputFormat.TABLE:
        summary = {"edit": planned.id, "model": planned.model, "kind": planned.kind, "what": recipe_title(planned)}
        summary |= {"neurons": planned.neurons, "base_version": planned.base_version, "object": planned.object_hash}
        print_record(summary, output)
    else:
        print_record({"edit": planned.id, **as_row(planned)}, output)
