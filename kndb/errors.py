"""Every error that kndb raises on purpose, and the exit code each one gives the command line.

    KndbError                     1   base of them all; never raised itself
    ├── UsageError                2   an option or a combination of options makes no sense
    ├── InputError                3   a file that was to be read is not what it should be
    ├── StoreError                4   the database itself
    │   ├── StoreMissingError     4   no database where one was named
    │   ├── SchemaVersionError    4   the database has another schema revision than this kndb
    │   └── StoreDamagedError     4   `kndb db check` found something wrong
    ├── NotFoundError             5   no relation, fact, model, run, edit, … of that name
    ├── ModelError                6   a checkpoint that can't be used
    │   ├── UnsupportedModelError 6   an architecture without an adapter
    │   └── FingerprintError      6   the checkpoint's bytes are not those that were registered
    ├── AttributionError          7   the attribution or refinement can't be computed as asked
    ├── EditError                 8   an edit can't be planned, applied or reverted
    │   ├── ConflictError         8   the edit meets weights that another edit changed
    │   ├── VersionMovedError     8   another process moved the model's version meanwhile
    │   ├── ConditionError        8   a condition that the edit was to meet fails, or can't be measured
    │   └── DiffFileError         8   an edit object is damaged, incomplete or not an edit object
    ├── DemoError                 9   a step of the demo did not do what it says
    ├── OutputError               10  an answer or a file can't be written
    ├── KnowledgeTestError        11  knowledge tests failed, or could not be asked
    └── WorkError                 12  workers can't be had, or could not do some of the work

A message names the option or file first, then what was given, what is allowed and, where there is one, what to run:
options and calls as `kndb.advice` marks them, so that Python and the command line each say them in their own words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .advice import for_python

__all__ = [
    "AttributionError",
    "ConditionError",
    "ConflictError",
    "DemoError",
    "DiffFileError",
    "EditError",
    "FingerprintError",
    "InputError",
    "KndbError",
    "KnowledgeTestError",
    "ModelError",
    "NotFoundError",
    "OutputError",
    "RejectedLine",
    "SchemaVersionError",
    "StoreDamagedError",
    "StoreError",
    "StoreMissingError",
    "UnsupportedModelError",
    "UsageError",
    "VersionMovedError",
    "WorkError",
]


@dataclass(frozen=True)
class RejectedLine:
    """One place in an input file that could not be used.

    Attributes:
        file: the file as the user named it.
        line: its 1-based line number; for a JSON document, the 1-based number of the list item.
        reason: what is wrong there, and what is allowed.
    """

    file: str
    line: int
    reason: str

    @property
    def text(self) -> str:
        """Where and why, with the marks of `kndb.advice`."""
        return f"{self.file}:{self.line}: {self.reason}"

    def __str__(self) -> str:
        return for_python(self.text)


class KndbError(Exception):
    """Base of every error that kndb raises on purpose. `str(error)` speaks Python."""

    exit_code = 1

    @property
    def text(self) -> str:
        """The message, with the marks of `kndb.advice`."""
        return super().__str__()

    def __str__(self) -> str:
        return for_python(self.text)


class UsageError(KndbError):
    """An option, or a combination of options, that makes no sense."""

    exit_code = 2


class InputError(KndbError):
    """A file that was to be read is not what it should be.

    Attributes:
        rejected: the places in the file that caused it, where there are any.
    """

    exit_code = 3

    def __init__(self, message: str, rejected: Sequence[RejectedLine] = ()) -> None:
        super().__init__(message)
        self.rejected = tuple(rejected)


class StoreError(KndbError):
    """The database can't be opened, read or written."""

    exit_code = 4


class StoreMissingError(StoreError):
    """There is no database at the place named."""


class SchemaVersionError(StoreError):
    """The database has another schema revision than this version of kndb needs."""


class StoreDamagedError(StoreError):
    """A check of the database or of its edit objects found something wrong."""


class NotFoundError(KndbError):
    """Nothing in the store has the name or number given."""

    exit_code = 5


class ModelError(KndbError):
    """A checkpoint that can't be used."""

    exit_code = 6


class UnsupportedModelError(ModelError):
    """No adapter knows this architecture, or not with these settings."""


class FingerprintError(ModelError):
    """The checkpoint's bytes are not those that were registered."""


class AttributionError(KndbError):
    """An attribution or refinement that can't be computed as asked."""

    exit_code = 7


class EditError(KndbError):
    """An edit that can't be planned, applied or reverted."""

    exit_code = 8


class ConflictError(EditError):
    """The edit expects other bytes in its value slots than the current version has."""


class VersionMovedError(EditError):
    """Another process moved the model's current version in the meantime."""


class ConditionError(EditError):
    """A condition that an edit was to meet fails, or can't be measured; nothing was stored or applied.

    Attributes:
        checked: every condition that was measured, with its figures (`kndb.records.conditions.CheckedCondition`).
    """

    def __init__(self, message: str, checked: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.checked = tuple(checked)


class DiffFileError(EditError):
    """An edit object that is damaged, incomplete, or no edit object at all."""


class DemoError(KndbError):
    """A step of the demo did not do what it says."""

    exit_code = 9


class OutputError(KndbError):
    """An answer, or a file that was to be made, can't be written: no space, no such folder, a closed stdout."""

    exit_code = 10


class KnowledgeTestError(KndbError):
    """Knowledge tests failed or could not be asked; or a history has no step that broke one."""

    exit_code = 11


class WorkError(KndbError):
    """Workers can't be started or reached, or some of the work failed however often it was tried."""

    exit_code = 12
