"""What comes back from a worker: a result, or what went wrong as data, whatever the error was."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import KndbError, WorkError


@dataclass(frozen=True)
class Failure:
    """An error of a worker.

    Attributes:
        text: what it says, with the marks of `kndb.advice`.
        kind: its class, if it is one of kndb's.
        trace: where it was raised.
    """

    text: str
    kind: type[KndbError] | None = None
    trace: str = ""

    def as_error(self) -> KndbError:
        """The error, to be raised here."""
        if self.kind is not None:
            return self.kind(self.text)
        return WorkError(f"a worker failed: {self.text}\n{self.trace}".rstrip())


@dataclass(frozen=True)
class Outcome:
    """What a worker made of something: a value, or a failure."""

    value: Any = None
    failure: Failure | None = None


def attempt(compute: Callable[[], Any]) -> Outcome:
    """What a computation gives; its errors are data, so that none needs to be understood where it arrives."""
    try:
        return Outcome(compute())
    except KndbError as error:
        return Outcome(failure=Failure(error.text, type(error), traceback.format_exc()))
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        return Outcome(failure=Failure(said, None, traceback.format_exc()))
