"""What there is to know of an attribution run before its neurons are believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .attribution import Run, RunErrors, WorstPrompt
from .display import Record, many


@dataclass(frozen=True)
class ErrorCount(Record):
    """How many of a run's prompts have a completeness error `above` one bound and at most `up_to` another."""

    above: float
    up_to: float | None
    prompts: int

    def _line(self) -> str:
        return f"{self.above:g} to {self.up_to}, {many(self.prompts, 'prompt')}"


@dataclass(frozen=True)
class RunFindings(Record):
    """All that a run knows of itself.

    Attributes:
        run: the run.
        skipped: its prompts without a score, by reason (see `records.skip_reasons`).
        trust: the share of known answers (`correct`), the answers' mean `probability`, the mean and largest
            completeness error (`completeness_error`, `completeness_error_max`) and `evaluations` per prompt, over
            prompts with scores; None where none are stored.
        errors: prompts above its tolerance, and in which layers.
        distribution: prompts by their completeness errors, one row for each power of ten, without the empty ones at
            either end.
        worst: the prompts with the largest errors, the largest first.
    """

    run: Run
    skipped: Mapping[str, int]
    trust: Mapping[str, float | int | None]
    errors: RunErrors
    distribution: tuple[ErrorCount, ...]
    worst: tuple[WorstPrompt, ...]

    def _line(self) -> str:
        return f"{self.run!r}, {self.errors.above:,} above {self.errors.limit:g}"
