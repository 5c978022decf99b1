"""Conditions that an edit must meet before it is stored or applied: `success>=0.95`, `perplexity.others<=105%`.

A condition compares one measure of an evaluation (`kndb edit eval`) with a number. `condition_measures` has all that
may be named. The measure's value over all prompts is compared; a confident condition compares the end of its 95 %
confidence interval that is worse for it.
"""

from __future__ import annotations

import math
import operator as operators
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError
from .condition_measures import ALIASES, MEASURES, SHARE
from .display import Record
from .harmless import harmless

MOST_CONDITIONS = 50
"""Conditions of one edit, or of one call."""
_MOST_LETTERS = 100


OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operators.ge,
    "<=": operators.le,
    "==": operators.eq,
    ">": operators.gt,
    "<": operators.lt,
}
_CONDITION = re.compile(
    r"\s*(?P<measure>[A-Za-z_.]+)\s*(?P<operator>>=|<=|==|>|<)\s*"
    r"(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*(?P<percent>%?)\s*",
    re.ASCII,
)
_VERSION = re.compile("v[0-9a-f]{16}|unknown")


@dataclass(frozen=True)
class Condition(Record):
    """What a measure of an edit must be.

    Attributes:
        measure: a name of `MEASURES`.
        operator: `>=`, `<=`, `==`, `>` or `<`.
        bound: what the measure is compared with; shares and factors as numbers, 0.95 for 95 %.
        confident: compare the worse end of the measure's confidence interval, not its value.
    """

    measure: str
    operator: str
    bound: float
    confident: bool = False

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            UsageError: for an unknown measure or operator, or a bound that the measure can't be compared with.
        """
        if self.measure not in MEASURES:
            from difflib import get_close_matches

            near = get_close_matches(self.measure, MEASURES, n=1)
            meant = f"; did you mean {near[0]}?" if near else "."
            known = "; ".join(f"{name}: {one.meaning}" for name, one in MEASURES.items())
            raise UsageError(f"a condition can't be about {_said(self.measure)}{meant} It can be about {known}")
        if self.operator not in OPERATORS:
            raise UsageError(
                f"a condition must compare with one of {', '.join(OPERATORS)} (got {_said(self.operator)})"
            )
        unit = MEASURES[self.measure].unit
        if not 0 <= self.bound < math.inf or (unit == SHARE and self.bound > 1):
            hint = "; write 95% or 0.95 for 95 percent" if unit == SHARE else ""
            raise UsageError(f"{self.measure} is {unit}, so it can't be compared with {self.bound!r}{hint}")

    def __str__(self) -> str:
        """As it may be written; `parse_condition` reads it back."""
        return f"{self.measure}{self.operator}{self.bound!r}"

    @property
    def words(self) -> str:
        """As it is said, such as `success >= 95 %`."""
        bound = in_unit(self.measure, self.bound, digits=6)
        return f"{self.measure} {self.operator} {bound}{', confident' if self.confident else ''}"

    def _line(self) -> str:
        return self.words

    def holds(self, value: float, low: float | None, high: float | None) -> bool:
        """Whether a measure meets the condition; of a confident one, both ends if it is one of equality.

        Args:
            value: the measure.
            low: the lower end of its interval, if it has one; a confident condition needs both.
            high: the upper end.
        """
        compare = OPERATORS[self.operator]
        if not self.confident:
            return compare(value, self.bound)
        ends = {">": (low,), "<": (high,), "=": (low, high)}[self.operator[0]]
        return all(end is not None and compare(end, self.bound) for end in ends)


def in_unit(measure: str, value: float, digits: int = 4) -> str:
    """A value of a measure as it is said: shares in percent.

    Args:
        measure: a name of `MEASURES`.
        value: the value; shares from 0 to 1.
        digits: as many as are significant, at most.
    """
    return f"{100 * value:.{digits}g} %" if MEASURES[measure].unit == SHARE else f"{value:.{digits}g}"


def parse_condition(text: str, *, confident: bool = False) -> Condition:
    """Reads a condition such as `success>=95%`; spaces don't matter.

    Args:
        text: the condition.
        confident: whether it compares the worse end of the confidence interval.

    Raises:
        UsageError: if it is none.
    """
    found = _CONDITION.fullmatch(text) if len(text) <= _MOST_LETTERS else None
    if found is None:
        raise UsageError(
            f"a condition must be a measure, a comparison and a number of at least 0, such as success>=0.95 or "
            f"perplexity.others<=105% (got {_said(text)}); the measures are {', '.join(MEASURES)}"
        )
    from decimal import Decimal

    number = Decimal(found["number"])
    # Divided as it is written: 99.9 percent are 0.999, not the float after it.
    bound = float(number / 100 if found["percent"] else number)
    name = found["measure"].lower()
    return Condition(ALIASES.get(name, name), found["operator"], bound, confident)


def parse_conditions(texts: Iterable[str | Condition], *, confident: bool = False) -> tuple[Condition, ...]:
    """Reads conditions, each once, in their order.

    Raises:
        UsageError: if one is none, or there are more than `MOST_CONDITIONS`.
    """
    read = [one if isinstance(one, Condition) else parse_condition(one, confident=confident) for one in texts]
    found = tuple(dict.fromkeys(read))
    if len(found) > MOST_CONDITIONS:
        raise UsageError(f"at most {MOST_CONDITIONS} conditions can be required (got {len(found)})")
    return found


def _said(text: str) -> str:
    """A text of anybody's, short and harmless."""
    return harmless(reprlib.repr(text))


# --- what was found --------------------------------------------------------------------------------


@dataclass(frozen=True)
class CheckedCondition(Record):
    """A condition, and what was measured.

    Attributes:
        condition: the condition.
        value: the measure; `low`, `high`: the ends of its 95 % confidence interval, None where it has none.
        holds: whether the condition does.
    """

    condition: Condition
    value: float
    low: float | None
    high: float | None
    holds: bool

    @property
    def words(self) -> str:
        """In a few words, such as `success 80 % (60 % to 91 %) >= 95 % fails`."""
        measure = self.condition.measure
        value, low, high = (None if one is None else in_unit(measure, one) for one in (self.value, self.low, self.high))
        ends = "" if low is None or high is None else f" ({low} to {high})"
        bound = self.condition.words.removeprefix(f"{measure} ")
        return f"{measure} {value}{ends} {bound} {'holds' if self.holds else 'fails'}"

    def as_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "condition": str(self.condition),
            "confident": self.condition.confident,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "holds": self.holds,
        }

    @classmethod
    def parse(cls, values: object) -> CheckedCondition:
        """Reads what `as_json` wrote.

        Raises:
            TypeError, UsageError: if it is something else.
        """
        keys = {"condition", "confident", "value", "low", "high", "holds"}
        if not isinstance(values, Mapping) or set(values) != keys:
            raise TypeError(f"{reprlib.repr(values)} is no checked condition")
        text, confident, holds = (values[name] for name in ("condition", "confident", "holds"))
        if not isinstance(text, str) or not isinstance(confident, bool) or not isinstance(holds, bool):
            raise TypeError(f"{reprlib.repr(values)} is no checked condition")
        low, high = (None if values[name] is None else _number(values[name]) for name in ("low", "high"))
        return cls(parse_condition(text, confident=confident), _number(values["value"]), low, high, holds)

    def _line(self) -> str:
        return self.words


@dataclass(frozen=True)
class CheckedConditions(Record):
    """The conditions of a plan or of steps, and what was found.

    Attributes:
        checked: those that were checked.
        skipped: of steps, conditions of the edits that were not, as somebody said so.
        edits: so many edits were measured together, after the last one.
        version: the version without them, on which they were measured.
        evaluation: the evaluation that the figures are of; None for several edits, which no evaluation is of.
        settings: what was measured, as evaluations are stored with it.
    """

    checked: tuple[CheckedCondition, ...]
    skipped: tuple[Condition, ...] = ()
    edits: int = 1
    version: str | None = None
    evaluation: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions that were checked."""
        return tuple(one.condition for one in self.checked)

    @property
    def words(self) -> str:
        """In a line: each condition with its figures."""
        found = [one.words for one in self.checked]
        found += [f"{one.words} not checked" for one in self.skipped]
        return "; ".join(found)

    def as_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "checked": [one.as_json() for one in self.checked],
            "skipped": [{"condition": str(one), "confident": one.confident} for one in self.skipped],
            "edits": self.edits,
            "version": self.version,
            "evaluation": self.evaluation,
            "settings": dict(self.settings),
        }

    @classmethod
    def parse(cls, values: object) -> CheckedConditions:
        """Reads what `as_json` wrote.

        Raises:
            TypeError, UsageError: if it is something else.
        """
        keys = {"checked", "skipped", "edits", "version", "evaluation", "settings"}
        if not isinstance(values, Mapping) or set(values) != keys:
            raise TypeError(f"{reprlib.repr(values)} are no checked conditions")
        checked, skipped = (_list(values[name]) for name in ("checked", "skipped"))
        edits, version, evaluation, settings = (values[name] for name in ("edits", "version", "evaluation", "settings"))
        whole = type(edits) is int and edits >= 1 and (evaluation is None or type(evaluation) is int)
        if (
            not whole
            or not (version is None or (isinstance(version, str) and _VERSION.fullmatch(version)))
            or not _are_settings(settings)
        ):
            raise TypeError(f"{reprlib.repr(values)} are no checked conditions")
        return cls(
            tuple(map(CheckedCondition.parse, checked)),
            tuple(map(_condition, skipped)),
            edits,
            version,
            evaluation,
            settings,
        )

    def _line(self) -> str:
        return self.words


def _are_settings(values: object) -> bool:
    """Whether these are numbers by short names: they may be a stranger's words."""
    return (
        isinstance(values, Mapping)
        and len(values) <= MOST_CONDITIONS
        and all(len(name) <= _MOST_LETTERS and isinstance(one, (int, float)) for name, one in values.items())
    )


def _condition(values: object) -> Condition:
    if not isinstance(values, Mapping) or set(values) != {"condition", "confident"}:
        raise TypeError(f"{reprlib.repr(values)} is no condition")
    text, confident = values["condition"], values["confident"]
    if not isinstance(text, str) or not isinstance(confident, bool):
        raise TypeError(f"{reprlib.repr(values)} is no condition")
    return parse_condition(text, confident=confident)


def _number(value: object) -> float:
    if type(value) not in (int, float) or math.isnan(value):  # type: ignore[arg-type]
        raise TypeError(f"{reprlib.repr(value)} in place of a number")
    return float(value)  # type: ignore[arg-type]


def _list(value: object) -> Sequence[object]:
    if not isinstance(value, list) or len(value) > MOST_CONDITIONS:
        raise TypeError(f"{reprlib.repr(value)} in place of a list of at most {MOST_CONDITIONS}")
    return value
