"""Looking for damage in a store, and removing what crashes left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection

from ..errors import StoreDamagedError
from ..records.maintenance import CheckReport
from .backends.backend import Backend
from .backends.shared_folder import STORES
from .edits.checks import check_edits
from .engine import Store
from .json_checks import check_json
from .object_files import ObjectFile, file_errors, files_in, named_objects, object_problem
from .refinement_checks import check_refinements
from .row_checks import Problem, check_references, check_rows, check_shapes
from .run_errors import check_run_errors
from .schema import current_revision, head_revision
from .schema_checks import check_schema
from .tables import EditRow

ROW_CHECKS: tuple[Callable[[Connection], list[str]], ...] = (check_edits, check_refinements, check_run_errors)
"""What `check` asks of rows together, where each is right in itself. Add more here."""

_SMALL = (
    "applied_edit",
    "edit",
    "edit_trial",
    "evaluation",
    "history",
    "probe",
    "refinement",
    "run",
    "snapshot",
    "version",
)
"""Tables with a row for each run, edit, …, and not one for each prompt or neuron of it."""


def check(store: Store, repair: bool = False) -> CheckReport:
    """Looks for damage: in SQLite's pages, the schema, each row, references, the edits and their object files.

    Args:
        store: the store; it need not have this kndb's schema revision.
        repair: whether to remove the files in the folder of objects that no edit names; damage stays.

    Returns:
        The problems, the left-over files found, and those of them that were removed.

    Raises:
        StoreError: if the database can't be read, or with `repair` not be locked.
    """
    try:
        with store.reading() as connection:
            problems = _file_problems(store.backend, connection)
            if problems:
                return CheckReport(problems=tuple(problems))
            in_rows = _value_problems(connection)
            problems = [problem.text for problem in in_rows]
            # What rows say together can only be told of rows that are right in themselves.
            if not problems:
                problems = [problem for row_check in ROW_CHECKS for problem in row_check(connection)]
            if any(problem.table == EditRow.__tablename__ for problem in in_rows):
                return CheckReport(problems=tuple(problems))
            objects = named_objects(connection)
            # Where nobody said where objects are, there may still be none.
            looks = bool(objects) or store.backend.has_folders
            orphans = _orphans(store, objects) if looks else []
    except StoreDamagedError as error:
        return CheckReport(problems=(str(error),))
    problems += [problem for named in objects if (problem := object_problem(store.objects, named))]
    repaired: list[str] = []
    if repair and orphans:
        sharing = store.backend.sharing_objects()
        problems += [f"{other} shares {store.objects}: nothing was removed; move it away" for other in sharing]
        repaired = [] if sharing else _remove_orphans(store)
    return CheckReport(tuple(problems), tuple(orphans), tuple(repaired))


def _file_problems(backend: Backend, connection: Connection) -> list[str]:
    """What is wrong with the file as a database of kndb's; with a problem here, rows can't be looked at."""
    own = backend.file_problems(connection)
    if own:
        return own
    revision = current_revision(connection)
    if revision is not None and revision != head_revision():
        return [f"its schema revision is {revision}, and this kndb needs {head_revision()}: upgrade the database"]
    problems = check_schema(connection)
    if revision is None:
        problems.insert(0, f"it has no schema revision; this kndb needs {head_revision()}")
    return problems


def broken_references(store: Store) -> tuple[str, ...]:
    """The problems of `check` that are references of small tables: it takes no time that grows with the results.

    Raises:
        StoreError: if the database can't be read.
    """
    with store.reading() as connection:
        return tuple(problem.text for problem in check_references(connection, _SMALL))


def _value_problems(connection: Connection) -> list[Problem]:
    """What is wrong in single rows."""
    problems = check_rows(connection) + check_references(connection)
    wrong = {problem.table for problem in problems}
    return problems + check_json(connection, wrong) + check_shapes(connection, wrong)


def _orphans(store: Store, objects: list[ObjectFile]) -> list[str]:
    named = {store.objects / one.path for one in objects}
    named.add(store.objects / STORES)
    return sorted(str(path) for path in files_in(store.objects) if path not in named)


def _remove_orphans(store: Store) -> list[str]:
    """Removes left-overs while nobody can be writing an edit."""
    with store.writing() as connection, file_errors(store.objects):
        orphans = _orphans(store, named_objects(connection))
        for orphan in orphans:
            Path(orphan).unlink(missing_ok=True)
        for folder in store.objects.glob("*/"):
            with contextlib.suppress(OSError):  # one that still holds objects
                folder.rmdir()
    return orphans
