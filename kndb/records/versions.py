"""Steps of a model's versions, and names for them."""

from __future__ import annotations

from dataclasses import dataclass

from .conditions import CheckedConditions
from .display import Record, quoted


@dataclass(frozen=True)
class HistoryEntry(Record):
    """One step of a model's current version.

    Attributes:
        action: `apply`, `revert` or `restore`.
        edit: the edit that was applied or reverted.
        author: who took the step; None if nobody knows.
        direction: `apply` or `revert` for a step of a restore; None for other steps, and where it was not noted.
        conditions: what the step was checked against, and what was found; None without any. Those of several steps
            taken together stand in each.
    """

    id: int
    model: str
    action: str
    edit: int | None
    version_before: str
    version_after: str
    created_at: str
    author: str | None = None
    direction: str | None = None
    conditions: CheckedConditions | None = None

    def _line(self) -> str:
        edit = "" if self.edit is None else f" edit {self.edit}"
        return f"{self.id}, {self.model}, {self.action}{edit}, {self.version_before} → {self.version_after}"


@dataclass(frozen=True)
class Snapshot(Record):
    """A name for a version of a model."""

    name: str
    model: str
    version: str
    created_at: str

    def _line(self) -> str:
        return f"{quoted(self.name)}, {self.model}, {self.version}"
