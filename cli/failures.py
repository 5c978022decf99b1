"""What a command says of work that failed however often it was tried, and how it ends then."""

from __future__ import annotations

from collections.abc import Sequence

from kndb.errors import WorkError
from kndb.records.work import FailedItem

from .output import note

_SHOWN = 10
"""Items that are named; the others are counted."""


def require_all_done(failed: Sequence[FailedItem], kind: str) -> None:
    """Names what failed, and why.

    Args:
        failed: what did.
        kind: what it is, in the singular, such as `prompt`.

    Raises:
        WorkError: if anything failed.
    """
    if not failed:
        return
    for one in failed[:_SHOWN]:
        note(f"Warning: {kind} {one.item} failed ({one.what}): {one.error}")
    if len(failed) > _SHOWN:
        note(f"Warning: {len(failed) - _SHOWN:,} more failed likewise.")
    many = f"1 {kind}" if len(failed) == 1 else f"{len(failed):,} {kind}s"
    raise WorkError(f"{many} failed however often they were tried; all else is done. The same command tries them again")
