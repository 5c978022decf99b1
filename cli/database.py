"""`kndb db`: the store itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kndb.advice import call
from kndb.errors import StoreDamagedError, UsageError
from kndb.records.locations import without_password

from .advice import database_named, objects_named
from .commands import command, group
from .options import DatabaseOption, FormatOption, explained, open_existing, open_or_create
from .output import OutputFormat, as_row, note, print_record, progress_bar

app = group("Make, upgrade, check, back up and describe the database.")


@command(app, "init", "Make a new database.")
def init(db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE) -> None:
    """Make a new database; one that is there already stays as it is.

    Example: kndb db init
    """
    with open_or_create(db) as database:
        print_record(database.maintenance.info(), output)


@command(app, "upgrade", "Bring an older kndb's database up to date.")
def upgrade(db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE) -> None:
    """Bring a database of an older kndb to this one's schema, all or nothing.

    Example: kndb db upgrade
    """
    from kndb.database import default_location, upgrade_database

    location = db or default_location()
    with explained(db):
        revision = upgrade_database(location)
    print_record({"path": without_password(location), "revision": revision}, output)


@command(app, "check", "Look for damage.")
def check(
    repair: Annotated[bool, typer.Option("--repair", help="Remove files that no edit names.")] = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Look for damage in the database, its edit objects, versions and history. Exit code 4 if there is any.

    Example: kndb db check
    """
    from kndb.database import check_database, default_location

    with explained(db):
        report = check_database(db or default_location(), repair=repair, objects=objects_named())
    print_record({"sound": report.sound, **as_row(report)}, output)
    if report.orphans and not repair:
        repair_them = call("maintenance.check", repair=True)
        note(f"{len(report.orphans)} left-over files are named by no edit; remove them with: {repair_them}")
    if not report.sound:
        count = "1 problem" if len(report.problems) == 1 else f"{len(report.problems)} problems"
        raise StoreDamagedError(f"{count} found; the first: {report.problems[0]}")


@command(app, "backup", "Copy the database and its edits.")
def backup(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="Write this database file; edits go beside it.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Copy the database and its edit objects, in one consistent state.

    Example: kndb db backup backup/kndb.db
    """
    with open_existing(db) as database:
        print_record({"backup": str(database.maintenance.backup(target, overwrite=overwrite))}, output)


@command(app, "copy", "Copy the store into another database, or a server.")
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="Copy this database: a path, or postgresql://….")],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="Into this one: a new file, or an empty database on a server.")
    ],
    from_objects: Annotated[
        Path | None,
        typer.Option(
            "--from-objects",
            metavar="FOLDER",
            help="Take edits' bytes from here, if FROM is on a server. Default: $KNDB_OBJECTS.",
            show_default=False,
        ),
    ] = None,
    to_objects: Annotated[
        Path | None,
        typer.Option(
            "--to-objects",
            metavar="FOLDER",
            help="Put edits' bytes here, if TO is on a server. Default: $KNDB_OBJECTS.",
            show_default=False,
        ),
    ] = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Copy a store with its edits into another database, of SQLite or PostgreSQL: all of it, or nothing.

    Example: kndb db copy kndb.db copy.db
    """
    from kndb.database import copy_database

    if database_named() is not None:
        raise UsageError("--db is not of kndb db copy, which names both databases itself; leave --db out")
    with explained(source), progress_bar("Copying", "rows") as tick:
        rows = copy_database(source, target, source_objects=from_objects, target_objects=to_objects, progress=tick)
    shown = {"copied_from": without_password(source), "copied_to": without_password(target)}
    print_record({**shown, "rows": sum(rows.values())}, output)


@command(app, "info", "Say where the database is and what it holds.")
def info(db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE) -> None:
    """Say where the database is, how large, of which revision, and what it holds.

    Example: kndb db info
    """
    with open_existing(db) as database:
        print_record(database.maintenance.info(), output)
