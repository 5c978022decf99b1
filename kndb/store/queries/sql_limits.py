"""What a user's query may take: time, memory, and how much it may answer."""

from __future__ import annotations

import difflib
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from ...advice import option
from ...errors import UsageError

MOST_MEMORY = 2 << 30
"""Bytes that a query may take to sort and group in."""

Row = tuple[object, ...]


@dataclass(frozen=True)
class SqlLimits:
    """What a query may take.

    Attributes:
        time_limit: seconds that the database system may work, above 0.
        most_rows: rows of the answer, at least 1.
        most_bytes: bytes of the answer's values, at least 1: those of texts in UTF-8 and of blobs; 8 for a number.
    """

    time_limit: float = 30.0
    most_rows: int = 1_000_000
    most_bytes: int = 1 << 28

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            UsageError: for a limit under its least.
        """
        if not 0 < self.time_limit < math.inf:
            raise UsageError(f"{option('time_limit')} must be a number of seconds above 0 (got {self.time_limit:g})")
        for name in ("most_rows", "most_bytes"):
            if getattr(self, name) < 1:
                raise UsageError(f"{option(name)} must be at least 1 (got {getattr(self, name)})")


USUAL_LIMITS = SqlLimits()


def limited(
    next_row: Callable[[], Row | None], limits: SqlLimits, told: Callable[[], AbstractContextManager[None]]
) -> Iterator[Row]:
    """The rows of an answer, as long as it keeps within its limits.

    Args:
        next_row: gives the next row of a statement that was begun, and None at the end.
        limits: what the answer may have.
        told: in which errors of the driver's are said as kndb's.

    Raises:
        UsageError: once there is more.
    """
    rows = size = 0
    while True:
        with told():
            row = next_row()
        if row is None:
            return
        rows += 1
        size += row_size(row)
        for name, count, most in (("most_rows", rows, limits.most_rows), ("most_bytes", size, limits.most_bytes)):
            if count > most:
                what = "rows" if name == "most_rows" else "bytes"
                raise UsageError(
                    f"{option(name)}: the answer has more than {most:,} {what}; raise the limit, or have the query "
                    "give less: end it with LIMIT"
                )
        yield row


def row_size(row: Row) -> int:
    """The bytes of a row's values, as `SqlLimits` counts them."""
    return sum(map(_size, row))


def _size(value: object) -> int:
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    return len(value) if isinstance(value, bytes) else 8


class Watch:
    """Looks after a query while it runs."""

    def __init__(self, limits: SqlLimits) -> None:
        self._limits = limits
        self._left = limits.time_limit
        self._end = math.inf
        self._most = _peak_memory() + MOST_MEMORY
        self._reason: BaseException | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts the time of the block: it is SQLite's, and not that of whoever reads the answer."""
        started = time.monotonic()
        self._end = started + self._left
        try:
            yield
        finally:
            self._left -= time.monotonic() - started

    def look(self) -> int:
        """Gives 1, with which SQLite stops, once the query has taken too much."""
        if time.monotonic() > self._end:
            self._reason = UsageError(
                f"{option('time_limit')}: the query was stopped after {self._limits.time_limit:g} s; give it more "
                "time, or have it read less"
            )
        elif _peak_memory() > self._most:
            self._reason = UsageError(
                f"the query was stopped: it took more than {MOST_MEMORY / 2**30:g} GiB of memory to sort and group "
                "in; have it read less"
            )
        return int(self._reason is not None)

    def reason(self) -> BaseException:
        """Why SQLite stopped: a limit, or else Ctrl-C."""
        return self._reason or KeyboardInterrupt()


def _peak_memory() -> int:
    """The most memory that this process had, in bytes; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def nearest_names(wrong: str, names: dict[str, str]) -> str:
    """Says which names have short forms that are most like a wrong one, at most three."""
    near = difflib.get_close_matches(wrong.casefold(), sorted(set(names.values())), n=3, cutoff=0.5)
    found = [name for short in near for name in names if names[name] == short][:3]
    if not found:
        return "none is near"
    return f"the nearest {'is' if len(found) == 1 else 'are'} {', '.join(found)}"


def distinct_names(names: list[str]) -> list[str]:
    """Names of columns, none twice."""
    found: list[str] = []
    for name in names:
        tried, number = name, 1
        while tried in found or (number > 1 and tried in names):
            number += 1
            tried = f"{name}_{number}"
        found.append(tried)
    return found
