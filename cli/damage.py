"""Whether a damaged database is behind an error.

What kndb reads is checked where it is read, but not every value in every way: only `kndb db check` knows them all. So
where a command ends as nobody foresaw, or does not find what should be there, the database is looked at.
"""

from __future__ import annotations

from kndb.advice import call
from kndb.errors import KndbError, NotFoundError, StoreDamagedError, StoreError, UsageError
from kndb.records.locations import without_password

from .advice import database_named, objects_named


def damage_behind(error: Exception) -> StoreError | None:
    """What is wrong with the database in force; None if it is sound, or no reason for the error.

    Args:
        error: of kndb's own only a `NotFoundError` is looked into, and by the references of small tables alone: names
            are mistyped every day. Any other error is one that kndb did not foresee.
    """
    if isinstance(error, KndbError) and not isinstance(error, NotFoundError):
        return None
    from kndb.database import broken_references, check_database, default_location

    location = database_named() or default_location()
    objects = objects_named()
    missing = isinstance(error, NotFoundError)
    try:
        problems = broken_references(location) if missing else check_database(location, objects=objects).problems
    except StoreDamagedError as found:
        return None if missing else found
    except (StoreError, UsageError):  # Such as that there is no database: no reason for an error that nobody foresaw.
        return None
    if not problems:
        return None
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    what = error.text.partition(";")[0] if isinstance(error, NotFoundError) else type(error).__name__
    return StoreDamagedError(
        f"{without_password(location)} is damaged, so this can't be done ({what}): {problems[0]}{more}; see: "
        f"{call('maintenance.check')}, and restore a backup"
    )
