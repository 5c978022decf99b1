"""What runs in a worker's process. Nothing here raises: an error is data (see `outcomes`)."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from .outcomes import Outcome, attempt

Compute = Callable[[Any], Any]
"""Computes a unit of what it is handed."""
Prepare = Callable[[int], tuple[Compute, Any]]
"""Prepares a worker, told how many there are on its machine: gives what computes, and something to say of it."""


def own_versions() -> tuple[str, str]:
    """The versions of kndb and of Python that have to be the same wherever work is done."""
    return version("kndb"), ".".join(platform.python_version_tuple()[:2])


@dataclass(frozen=True)
class Place:
    """Where a worker is: its machine, as Ray and as people call it, and its process there; what it runs."""

    machine: str
    host: str
    process: int
    versions: tuple[str, str]


class Worker:
    """An actor."""

    def __init__(self) -> None:
        self._compute: Compute | None = None

    def place(self) -> Place:
        """Where this worker is."""
        import ray

        machine = str(ray.get_runtime_context().get_node_id())
        return Place(machine, socket.gethostname(), os.getpid(), own_versions())

    def prepare(self, prepare: Prepare, beside: int) -> Outcome:
        """Prepares for units, once; `beside`: how many workers its machine has."""

        def prepared() -> Any:
            self._compute, said = prepare(beside)
            return said

        return attempt(prepared)

    def compute(self, payload: Any) -> Outcome:
        """Does a unit."""
        assert self._compute is not None, "a worker is prepared before it gets work"
        compute = self._compute
        return attempt(lambda: compute(payload))

    def answer(self) -> bool:
        """Answers, in a thread of its own, whatever is computed."""
        return True
