"""What the commands that plan an edit share: storing it, or showing what it would do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.advice import call
from kndb.errors import UsageError
from kndb.records.edits import Edit

from ..numbers import fact_number, number_ranges
from ..output import OutputFormat, as_row, note, print_parts, print_record, print_rows, progress_bar, require_part
from .conditions import NOTHING, Required, say_conditions
from .fact_list import FactList
from .reports import report_rows, success_cells, warnings
from .steps import EDIT_COLUMNS, edit_rows

if TYPE_CHECKING:
    from kndb.database import Database
    from kndb.database.edits.batch import Unusable
    from kndb.database.edits.draft import Draft
    from kndb.database.edits.targets import Targets
    from kndb.database.models import ModelVersion

FactOption = Annotated[
    int | None,
    typer.Option(
        "--fact",
        metavar="ID",
        help="Edit the fact of this number; see: kndb query facts.",
        show_default=False,
        parser=fact_number,
    ),
]
ToOption = Annotated[
    str | None,
    typer.Option("--to", metavar="OBJECT", help="Make this the new answer: one token.", show_default=False),
]
NeuronsOption = Annotated[
    int | None,
    typer.Option(
        "--neurons",
        help="Change only so many of a fact's neurons, those with the highest mean scores. Default: all.",
        show_default=False,
    ),
]
PreviewOption = Annotated[
    bool,
    typer.Option(
        "--preview", help="Store nothing; show the answers before and after, and the facts that hold the value slots."
    ),
]
PreviewPartOption = Annotated[
    str | None,
    typer.Option(
        "--part",
        metavar="NAME",
        help="Print only this part of a preview: answers, collateral or flips. CSV needs one. Default: all.",
        show_default=False,
    ),
]
_ANSWERS = ["prompt", "rank", "before", "probability_before", "after", "probability_after"]
_BATCH_COLUMNS = [
    "fact",
    "relation",
    "subject",
    "old_answer",
    "to",
    "neurons",
    "probability_before",
    "probability_after",
    "success_rate",
]
_BATCH_SHORT = [name for name in _BATCH_COLUMNS if name not in ("relation", "neurons")]
_NAMED = 10
"""Edits of a batch that a warning names."""
_COLLATERAL = ["fact", "relation", "subject", "object", "neurons"]
FlipsOption = Annotated[
    bool,
    typer.Option(
        "--list-flips",
        help="With --preview, ask 40 other facts, first those that hold the slots, and list the answers that change.",
    ),
]
FLIP_COLUMNS = ["fact", "relation", "subject", "old_answer", "new_answer", "prompts", "asked"]
_ASKED = 40


def require_one_way(fact: int | None, to: str | None, listed: FactList, part: str | None) -> tuple[int, str] | None:
    """The fact and its new answer; None if a file has many.

    Raises:
        UsageError: if neither or both are given, or an option of the other way is.
    """
    if listed.facts is None:
        if fact is None or to is None:
            raise UsageError("--fact and --to are both required, or else --facts with a file")
        if listed.skip_unusable:
            raise UsageError("--skip-unusable needs --facts: it is for the facts of a file")
        if listed.new_answers is not None:
            raise UsageError("--new-answers needs --facts: it names a field of the file")
        if listed.most_bytes is not None:
            raise UsageError("--most-bytes needs --facts: it is for the file")
        return fact, to
    if fact is not None or to is not None:
        raise UsageError("--facts goes without --fact and --to; give the file, or these two")
    if part is not None:
        raise UsageError(f"--part {part}: the preview of a file (--facts) has no parts")
    return None


def check_preview(
    preview: bool, part: str | None, output: OutputFormat, *, parts: bool = True, list_flips: bool = False
) -> None:
    """Checks `--part` and `--list-flips`, before any work.

    Args:
        preview: whether there is to be a preview.
        part: the part to print, if one is named.
        output: how to print it.
        parts: whether the preview has parts.
        list_flips: whether to name the facts whose answers flip.

    Raises:
        UsageError: if a part is named that can't be printed, or has to be and is not; if there are no flips to list.
    """
    if list_flips and not (preview and parts):
        raise UsageError("--list-flips needs --preview, of one fact or relation; or use: kndb edit eval --list-flips")
    if preview and parts:
        require_part(("answers", "collateral", *(("flips",) if list_flips else ())), output, part)
    elif part is not None:
        raise UsageError(f"--part {part} needs --preview: only a preview has parts")


def finish_plan(
    database: Database,
    draft: Draft,
    preview: bool,
    part: str | None,
    output: OutputFormat,
    db: str | None = None,
    *,
    list_flips: bool = False,
    required: Required = NOTHING,
) -> None:
    """Stores a draft and prints the edit; or prints what it would do, and stores nothing. Warns of what goes wrong."""
    recipe = draft.content.recipe
    if preview:
        for name, text in report_rows(recipe).items():
            note(f"{name.capitalize()}: {text}.")
        found = database.edits.preview(draft, others=_ASKED if list_flips else 0)
        slots, relations = len(found.collateral.neurons), len(found.collateral.relations)
        note(
            f"A preview; nothing was stored. The edit changes {slots} value slots, which {len(found.collateral.facts)} "
            f"{'other ' if draft.fact_id is not None else ''}facts of {relations} "
            f"{'relation' if relations == 1 else 'relations'} hold."
        )
        if list_flips:
            flipped = len({flip.fact for flip in found.flips})
            note(f"{flipped} of {found.asked} other facts asked have an answer that would flip.")
        answers = [as_row(row) for row in found.answers]
        facts = [as_row(row) for row in found.collateral.facts]
        shown = {"answers": (answers, _ANSWERS), "collateral": (facts, _COLLATERAL)}
        if list_flips:
            shown["flips"] = ([as_row(flip) for flip in found.flips], FLIP_COLUMNS)
        print_parts(shown, output, part)
        required.check(database, draft)
    else:
        print_planned(required.add(database, draft), output)
    for text in warnings(draft.version.record.name, recipe, db):
        note(text)


def plan_file(
    database: Database,
    model: str,
    listed: FactList,
    plan: Callable[[int, str, ModelVersion], Draft],
    *,
    preview: bool,
    output: OutputFormat,
    db: str | None = None,
    required: Required = NOTHING,
) -> None:
    """Plans the edits of a file, and stores and prints them; or prints what they would do together.

    Args:
        database: the database.
        model: a registered model.
        listed: the file.
        plan: plans that a fact gets an answer, on the weights in memory.
        preview: store nothing.
        output: how to print.
        db: the --db that was given.
        required: what the edits must meet together.
    """
    targets = read_targets(database, listed)
    with progress_bar("Planning", "facts") as tick:
        batch = database.edits.draft_batch(
            model,
            targets,
            lambda target, version: plan(target.fact, target.to, version),
            skip_unusable=listed.skip_unusable,
            progress=tick,
        )
    note_unusable(batch.unusable)
    if preview:
        note(f"A preview of {len(batch.drafts)} edits together; nothing was stored.")
        planned = [as_row(row) for row in database.edits.preview_batch(batch)]
        print_rows(planned, _BATCH_COLUMNS, output, short=_BATCH_SHORT)
        required.check_batch(database, batch)
        _warn_of_batch(model, [f"fact {one.fact}" for one in batch.targets], batch.drafts, db)
        return
    edits = required.add_batch(database, batch)
    say_conditions(edits[-1].conditions if required.conditions else None)
    note(
        f"Planned {'1 edit' if len(edits) == 1 else f'{len(edits)} edits, each on the ones before it'}; not applied. "
        f"Apply {'it' if len(edits) == 1 else 'them'} with: "
        f"{call('edits.apply_all', number_ranges([edit.id for edit in edits]).split())}"
    )
    rows = [{**row, **success_cells(edit.recipe)} for row, edit in zip(edit_rows(edits), edits, strict=True)]
    columns = [*EDIT_COLUMNS, "success", "held_out_success", "warning"]
    print_rows(rows, columns, output, short=["id", "what", "neurons", "success", "held_out_success", "warning"])
    _warn_of_batch(model, [f"edit {edit.id}" for edit in edits], batch.drafts, db)


def read_targets(database: Database, listed: FactList) -> Targets:
    """The facts of a file with their new answers; says which records were passed over."""
    from kndb.database.facts import MOST_BYTES

    assert listed.facts is not None
    targets = database.edits.targets(
        listed.facts,
        new_answers=listed.new_answers,
        skip_unusable=listed.skip_unusable,
        most_bytes=MOST_BYTES if listed.most_bytes is None else listed.most_bytes,
    )
    for text in targets.left_out[:_NAMED]:
        note(f"Passed over {text}")
    if targets.left_out[_NAMED:]:
        note(f"Passed over {len(targets.left_out) - _NAMED} more records.")
    return targets


def note_unusable(facts: Sequence[Unusable]) -> None:
    """Says for which facts no edit was planned."""
    for one in facts:
        note(f"Passed over {one.target.place or f'fact {one.target.fact}'}: {one.text}")


def _warn_of_batch(model: str, names: Sequence[str], drafts: Sequence[Draft], db: str | None) -> None:
    """One warning for all, as a hundred would not be read: which edits, and what to try for the first."""
    from kndb.database.edits.faults import faults

    wrong = [
        (name, draft.content.recipe) for name, draft in zip(names, drafts, strict=True) if faults(draft.content.recipe)
    ]
    if not wrong:
        return
    listed = ", ".join(name for name, _ in wrong[:_NAMED]) + (
        f", and {len(wrong) - _NAMED} more" if wrong[_NAMED:] else ""
    )
    name, first = wrong[0]
    note(f"{len(wrong)} of {len(drafts)} plans do not do what they should: {listed}. Of {name}:")
    for text in warnings(model, first, db):
        note(text)


def print_planned(planned: Edit, output: OutputFormat) -> None:
    """Prints an edit that was planned."""
    note(f"Planned, not applied. Apply it with: {call('edits.apply', planned.id)}")
    say_conditions(planned.conditions)
    if output is OutputFormat.TABLE:
        summary: dict[str, Any] = {"edit": planned.id, "model": planned.model, "kind": planned.kind}
        summary |= {"what": planned.title, "neurons": planned.neurons}
        summary |= report_rows(planned.recipe)
        summary |= {"base_version": planned.base_version, "object": planned.object_hash}
        print_record(summary, output)
    else:
        print_record({"edit": planned.id, **as_row(planned)}, output)
