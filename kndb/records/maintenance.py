"""What a check of a database finds."""

from __future__ import annotations

from dataclasses import dataclass, field

from .display import Record, many


@dataclass(frozen=True)
class CheckReport(Record):
    """What `kndb db check` found. `problems` is empty for a sound store; orphans are harmless left-overs."""

    problems: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    repaired: tuple[str, ...] = field(default=())

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def _line(self) -> str:
        return "sound" if self.sound else many(len(self.problems), "problem")
