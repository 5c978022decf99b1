"""What each column of the store may hold: more than SQLite enforces, which takes any value in any column.

The rules are those of `tables`, made more exact by the columns' names. They are asked in two places: when a value is
read (`stored_types`: its type, and whether a number is one that can be computed with), and by `kndb db check`
(`row_checks`: all of it, in SQL, as tables have millions of rows).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

MOST_LAYERS = 10_000
MOST_NEURONS = 100_000_000
"""No model has as many: such a number would only make kndb count for ever."""
_LARGEST = 2**63 - 1
_ROUNDING = 1e-6
"""Sums of rounded probabilities can be above 1 by so much."""


@dataclass(frozen=True)
class ColumnRule:
    """What a column may hold beside NULL, which SQLite itself sees to.

    Attributes:
        kind: `whole`, `number`, `text`, `flag`, `object` or `list`; the last two are JSON texts.
        least, most: bounds of a number, included.
        infinite: whether a number may be infinite.
        form: the name of the form of a text, one of `FORMS`.
        among: the texts that it may be; empty for any.
    """

    kind: str
    least: float = -math.inf
    most: float = math.inf
    infinite: bool = False
    form: str | None = None
    among: tuple[str, ...] = ()

    def can_be_read(self, value: object) -> bool:
        """Whether a value of the database is of the rule's type, and a number is within its bounds."""
        if self.kind == "whole":
            return type(value) is int and self.least <= value <= self.most
        if self.kind == "number":
            return type(value) in (float, int) and (self.infinite or math.isfinite(value))  # type: ignore[arg-type]
        if self.kind == "flag":
            return type(value) in (int, bool) and value in (0, 1)
        return type(value) is str

    @property
    def must_be(self) -> str:
        """What the column must hold, in words."""
        if self.kind == "whole":
            return f"a whole number{self._bounds}"
        if self.kind == "number":
            return f"a {'' if self.infinite else 'finite '}number{self._bounds}"
        if self.among:
            return f"one of {', '.join(self.among)}"
        if self.form is not None:
            return FORMS[self.form].must_be
        return {"flag": "0 or 1", "text": "text", "object": "a JSON object", "list": "a JSON list"}[self.kind]

    @property
    def _bounds(self) -> str:
        if self.most in (math.inf, _LARGEST):
            return "" if self.least == -math.inf else f" of at least {self.least:,g}"
        return f" from {self.least:,g} to {round(self.most, 5):,}"


@dataclass(frozen=True)
class Form:
    """A form of texts.

    Attributes:
        must_be: what it is, in words.
        fits: whether a text has it.
        pattern: a regular expression, of Python's and PostgreSQL's, that all texts of this form match, and no other.
    """

    must_be: str
    fits: Callable[[str], bool]
    pattern: str


def _is_time(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _form(must_be: str, pattern: str) -> Form:
    compiled = re.compile(pattern)
    return Form(must_be, lambda value: compiled.fullmatch(value) is not None, f"^({pattern})$")


_TIME_PATTERN = (
    "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    "([T ]([01][0-9]|2[0-3])(:[0-5][0-9](:[0-5][0-9]([.][0-9]{3}([0-9]{3})?)?)?)?([+-][0-9]{2}:[0-9]{2}|Z)?)?$"
)
"""Times as `datetime.fromisoformat` takes them, but for days that a month has not."""

FORMS: Mapping[str, Form] = {
    "time": Form("a time in ISO 8601", _is_time, _TIME_PATTERN),
    "sha256": _form("64 hex digits", "[0-9a-f]{64}"),
    "fingerprint": _form("64 hex digits, or empty", "(?:[0-9a-f]{64})?"),
    "version": _form("a version's id (v and 16 hex digits), or unknown", "v[0-9a-f]{16}|unknown"),
}

_WHOLE = ColumnRule("whole")
_NUMBER = ColumnRule("number")
_KEY, _COUNT = replace(_WHOLE, least=1, most=_LARGEST), replace(_WHOLE, least=0, most=_LARGEST)
_LAYER, _NEURON = replace(_WHOLE, least=0, most=MOST_LAYERS - 1), replace(_WHOLE, least=0, most=MOST_NEURONS - 1)
_SHARE, _ANY_NUMBER = replace(_NUMBER, least=0, most=1 + _ROUNDING), replace(_NUMBER, infinite=True)
_TEXT = ColumnRule("text")
_TIME, _HASH, _VERSION = (replace(_TEXT, form=form) for form in ("time", "sha256", "version"))

_BY_TYPE = {
    "int": _COUNT,
    "str": _TEXT,
    "bool": ColumnRule("flag"),
    "float": _NUMBER,
    "dict[str, Any]": ColumnRule("object"),
    "list[int]": ColumnRule("list"),
    "list[str]": ColumnRule("list"),
}
_BY_NAME = {
    "id": _KEY,
    "layer": _LAYER,
    "worst_layer": _LAYER,
    "neuron": _NEURON,
    "probability": _SHARE,
    "predicted_probability": _SHARE,
    "share": _SHARE,
    "completeness_error": _ANY_NUMBER,
    "completeness_error_mean": _ANY_NUMBER,
    "created_at": _TIME,
    "finished_at": _TIME,
    "lease_until": _TIME,
    "object_hash": _HASH,
    "version": _VERSION,
    "since": _VERSION,
    "version_before": _VERSION,
    "version_after": _VERSION,
    "base_version": _VERSION,
}
_BY_PLACE = {
    "model.layers": replace(_LAYER, least=1, most=MOST_LAYERS),
    "model.neurons": replace(_NEURON, least=1, most=MOST_NEURONS),
    "model.fingerprint": replace(_TEXT, form="fingerprint"),
    "model.chat_template": _HASH,
    "refinement_relation.mean_size": replace(_NUMBER, least=0),
    "probe_fact.probability_before": _SHARE,
    "probe_fact.probability_after": _SHARE,
    "probe_fact.correct_before": _SHARE,
    "probe_fact.correct_after": _SHARE,
    "probe_fact.flips": _SHARE,
    "probe_text.rank": replace(_WHOLE, least=-MOST_NEURONS, most=MOST_NEURONS),
    "probe_text.kind": replace(_TEXT, among=("head-and-tail", "head", "neither")),
    "work_unit.state": replace(_TEXT, among=("open", "leased", "done", "failed")),
    "evaluation_measure.value": _ANY_NUMBER,
    "evaluation_measure.low": _ANY_NUMBER,
    "evaluation_measure.high": _ANY_NUMBER,
}


def rule_of(table: str, column: str, declared: str) -> ColumnRule:
    """The rule of a column.

    Args:
        table: its table.
        column: its name.
        declared: its type as `tables` declares it, such as `int`.
    """
    usual = _BY_TYPE[declared]
    if usual.kind == "whole" and column.endswith("_id"):
        usual = _KEY
    if usual.kind == "text" and column.endswith("_sha256"):
        usual = _HASH
    named = _BY_PLACE.get(f"{table}.{column}") or _BY_NAME.get(column)
    return named if named is not None and named.kind == usual.kind else usual
