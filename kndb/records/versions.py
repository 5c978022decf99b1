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


IN_EFFECT, OVERWRITTEN, REVERTED = ("in effect", "overwritten", "reverted")
"""What became of what an edit wrote."""


@dataclass(frozen=True)
class SlotWrite(Record):
    """An edit's writing of a value slot, or of a parameter as a whole: from its apply to its revert, if there was one.

    An edit that was applied twice wrote twice.

    Attributes:
        slot: the neuron whose slot it is, such as `L2.N418`; or the parameter's name.
        parameter: the parameter.
        edit: the edit's number.
        kind, what: the edit's kind, and what it is for; of an edit from a file, said to be the sender's words.
        planned_by: who planned it, if anybody knows; `planned_at`: when.
        step: the number of the step that applied it; `applied_by`, `applied_at`: who took it, and when.
        status: `in effect`, if the slot holds what it wrote; `overwritten`, if it is applied and a later edit wrote the
            slot, planned on what this one wrote; `reverted`.
        reverted_step: the number of the step that took it out; `reverted_by`, `reverted_at`: who took it, and when.
        relative_change: ‖new − old‖ ÷ ‖old‖; infinite where the old values were all 0; None where the change is kept as
            low-rank factors, which tell it only with the weights.
        old_sha256, new_sha256: of the slot's bytes before and after, as versions know them.
    """

    slot: str
    parameter: str
    edit: int
    kind: str
    what: str
    planned_by: str | None
    planned_at: str
    step: int
    applied_by: str | None
    applied_at: str
    status: str
    reverted_step: int | None
    reverted_by: str | None
    reverted_at: str | None
    relative_change: float | None
    old_sha256: str
    new_sha256: str

    def _line(self) -> str:
        return f"{self.slot}, edit {self.edit}, step {self.step}, {self.status}"


@dataclass(frozen=True)
class Blame(Record):
    """Which edits wrote value slots of a model.

    Attributes:
        model: the model's name; `version`: its current version, for which it is said what is in effect.
        slots: the slots asked about that some edit would change, by name.
        writes: what was written, slot by slot, in the order of the history.
        never_applied: numbers of edits that would change one of the slots, and were never applied.
    """

    model: str
    version: str
    slots: tuple[str, ...]
    writes: tuple[SlotWrite, ...]
    never_applied: tuple[int, ...]

    def _line(self) -> str:
        return f"{self.model}, version {self.version}, {len(self.writes)} writings of {len(self.slots)} slots"
