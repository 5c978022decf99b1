"""`kndb edit apply`, `revert`, `log`, `diff` and `verify`: edits as version control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.errors import DiffFileError, StoreDamagedError, UsageError
from kndb.records import Edit, HistoryEntry

from .numbers import parse_numbers
from .options import (
    DatabaseOption,
    FormatOption,
    ModelOption,
    OptionalModelOption,
    PartOption,
    open_existing,
)
from .output import OutputFormat, as_row, note, print_parts, print_record, print_rows

if TYPE_CHECKING:
    from kndb.database.edit_diff import VersionDiff
    from kndb.database.edit_rebase import Rebase

EDIT_COLUMNS = ["id", "kind", "what", "neurons", "applied", "base_version", "created_at"]
_STEP_COLUMNS = ["edit", "model", "action", "version_before", "version_after"]
_REPLAY_COLUMNS = ["rebased_from", "slots", "different", "largest_change"]
VersionArgument = typer.Argument(help="A version: base, current, a version id or its start, or a snapshot's name.")


EditsArgument = Annotated[
    list[str],
    typer.Argument(metavar="EDIT...", help="Edits' numbers, or ranges such as 7-12; see: kndb edit list."),
]


def apply(
    edits: EditsArgument,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Apply edits to their model's current version, in the order given: all of them or none.

    Example: kndb edit apply 1
    """
    numbers = parse_numbers(edits)
    with open_existing(db) as database:
        _print_steps(database.edits.apply_all(numbers), "Applied", output)


def revert(
    edits: EditsArgument,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="Revert the later edits that overlap it too, the last first.")
    ] = False,
    rebase: Annotated[
        bool, typer.Option("--rebase", help="Take it out, and compute the later edits that overlap it anew.")
    ] = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Take edits out of their model's current version: every byte goes back; all of them or none.

    Example: kndb edit revert 1
    """
    if cascade and rebase:
        raise UsageError("found --cascade and --rebase; expected one of them, or neither")
    numbers = parse_numbers(edits)
    if (cascade or rebase) and len(numbers) > 1:
        option = "--cascade" if cascade else "--rebase"
        raise UsageError(f"found {option} with {len(numbers)} edits; expected one edit, as others may go with it")
    with open_existing(db) as database:
        if rebase:
            _print_rebase(numbers[0], database.edits.rebase(numbers[0]), output)
        elif cascade:
            steps = database.edits.revert_cascade(numbers[0])
            note(f"Reverted {len(steps)} edit{'s' if len(steps) > 1 else ''}: {_moved(steps)}")
            print_rows([step_row(step) for step in steps], _STEP_COLUMNS, output)
        else:
            _print_steps(database.edits.revert_all(numbers), "Reverted", output)


def _print_steps(steps: Sequence[HistoryEntry], done: str, output: OutputFormat) -> None:
    if len(steps) == 1:
        print_record(step_row(steps[0]), output)
        return
    note(f"{done} {len(steps)} edits: {_moved(steps)}")
    print_rows([step_row(step) for step in steps], _STEP_COLUMNS, output)


def log(
    model: OptionalModelOption = None, db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """List every apply, revert and restore: who, when, what, from and to which version; the oldest first.

    Example: kndb edit log
    """
    from kndb.database.edits import recipe_title

    with open_existing(db) as database:
        titles = {edit.id: recipe_title(edit) for edit in database.edits.all(model)}
        entries = database.edits.log(model)
    rows = [
        {
            **as_row(entry),
            "who": entry.author,
            "when": entry.created_at,
            "what": titles.get(entry.edit or 0),
            "from": entry.version_before,
            "to": entry.version_after,
        }
        for entry in entries
    ]
    print_rows(rows, ["id", "who", "when", "model", "action", "direction", "edit", "what", "from", "to"], output)


def diff(
    a: Annotated[str, VersionArgument],
    b: Annotated[str, VersionArgument],
    model: ModelOption,
    part: PartOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """What differs between two versions: value slots, the relations and facts that hold them, edits.

    Example: kndb edit diff base current --model lab-bert
    """
    with open_existing(db) as database:
        found = database.edits.diff(model, a, b)
    count = len(found.slots)
    note(
        f"{found.version_a} → {found.version_b}: "
        + (f"{count} value slot{'s differ' if count > 1 else ' differs'}." if count else "")
        + (f" {len(found.tensors)} other parameters differ." if found.tensors else "")
        + ("" if count or found.tensors else "the same weights.")
    )
    if found.refinement is None:
        note("There is no refinement of this model, so facts and relations are left out; see: kndb refine.")
    else:
        note(f"Facts and relations are those of refinement {found.refinement}.")
    edits = [{"only_in": side, **row} for side, only in _sides(found) for row in edit_rows(only)]
    print_parts(
        {
            "slots": ([as_row(row) for row in found.slots], _SLOT_COLUMNS),
            "tensors": ([{"parameter": name} for name in found.tensors], ["parameter"]),
            "relations": (
                [as_row(row) for row in found.relations],
                ["relation", "label", "facts", "share", "neurons"],
            ),
            "facts": ([as_row(row) for row in found.facts], ["fact", "relation", "subject", "object", "neurons"]),
            "edits": (edits, ["only_in", *EDIT_COLUMNS]),
        },
        output,
        part,
    )


def verify(
    edits: Annotated[
        list[int] | None, typer.Argument(metavar="[EDIT]...", help="Edits' numbers. Default: all.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All edits, as without numbers.")] = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="Compare the checkpoints with their fingerprints, too.")
    ] = False,
    model: OptionalModelOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Check edit objects byte by byte, what the database says of them, and the log; fails if anything is wrong.

    Example: kndb edit verify --all
    """
    if every and edits:
        raise UsageError("found numbers of edits and --all; expected one of the two, or neither for all edits")
    with open_existing(db) as database:
        found = database.edits.verify(edits or (), model=model, weights=weights)
    print_rows([as_row(row) for row in found], ["what", "ok", "detail"], output)
    wrong = [row for row in found if not row.ok]
    if not wrong:
        return
    message = f"{len(wrong)} of {len(found)} checks failed: {', '.join(dict.fromkeys(row.what for row in wrong))}; "
    if any(row.part == "object" for row in wrong):
        raise DiffFileError(f"{message}expected none. Restore the objects from a backup (see `kndb db backup`)")
    if any(row.part == "log" for row in wrong):
        raise StoreDamagedError(f"{message}expected none. Restore the database from a backup (see `kndb db backup`)")
    raise StoreDamagedError(f"{message}expected none. Put the checkpoint's files back as they were registered")


def step_row(entry: HistoryEntry) -> dict[str, Any]:
    """A step's fields, for apply and revert."""
    return {column: getattr(entry, column) for column in _STEP_COLUMNS}


def edit_rows(edits: Sequence[Edit]) -> list[dict[str, Any]]:
    """Rows of edits with what each is for; see `EDIT_COLUMNS`."""
    from kndb.database.edits import recipe_title

    return [{**as_row(edit), "what": recipe_title(edit)} for edit in edits]


_SLOT_COLUMNS = ["layer", "neuron", "parameter", "norm_a", "norm_b", "norm_difference", "facts", "relations"]


def _print_rebase(edit: int, done: Rebase, output: OutputFormat) -> None:
    replayed = {one.edit: as_row(one) for one in done.replayed}
    rows = [
        {**dict.fromkeys(_REPLAY_COLUMNS), **(replayed.get(step.edit or 0, {}) if step.action == "apply" else {})}
        | step_row(step)
        for step in done.steps
    ]
    later = f"{len(done.replayed)} later edit{'' if len(done.replayed) == 1 else 's'}"
    note(f"Took edit {edit} out and computed {later} anew: {_moved(done.steps)}")
    print_rows(rows, [*_STEP_COLUMNS[:3], *_REPLAY_COLUMNS, *_STEP_COLUMNS[3:]], output)


def _moved(steps: Sequence[HistoryEntry]) -> str:
    return f"{steps[0].version_before} → {steps[-1].version_after}"


def _sides(found: VersionDiff) -> list[tuple[str, Sequence[Edit]]]:
    return [("a", found.only_a), ("b", found.only_b)]
