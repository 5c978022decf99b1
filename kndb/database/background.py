"""Writing one thing while the next is computed."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")


class BackgroundWriter(Generic[Item]):
    """Hands items, one at a time and in order, to a function that runs in another thread.

    At most one item is being written while the caller makes the next: a process that is killed loses those two. An
    error of the function is raised by the next call, and at the latest when the block is left. To be used as a
    context manager, which waits for the last item.

    Attributes:
        waited: seconds that the caller spent waiting for writes.
    """

    def __init__(self, write: Callable[[Item], None]) -> None:
        self._write = write
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kndb-writer")
        self._last: Future[None] | None = None
        self.waited = 0.0

    def __enter__(self) -> BackgroundWriter[Item]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except Exception:
            if error is None:
                raise
        finally:
            self._executor.shutdown(wait=True)

    def submit(self, item: Item) -> None:
        """Waits for the item before, then has this one written."""
        self.wait()
        self._last = self._executor.submit(self._write, item)

    def wait(self) -> None:
        """Waits until everything handed over so far is written."""
        if self._last is None:
            return
        started = time.monotonic()
        last, self._last = self._last, None
        try:
            last.result()
        finally:
            self.waited += time.monotonic() - started
