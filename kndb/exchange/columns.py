"""The columns of the three kinds of tables that kndb exports, whatever the format of the file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

Row = Mapping[str, Any]
"""A table's row: a value or None for each column."""


class Kind(Enum):
    """What a column holds."""

    TEXT = "text"
    WHOLE = "a whole number"
    NUMBER = "a number"
    FLAG = "true or false"
    TEXTS = "a list of texts"
    SCORES = "a list of [layer, neuron, score]"
    ERRORS = "a list of [layer, error]"
    OBJECTS = "a list of objects"


class Column(NamedTuple):
    """A column; every one may be empty (None), and an optional one missing in files of earlier kndbs."""

    name: str
    kind: Kind
    optional: bool = False


_FACT = (
    Column("relation", Kind.TEXT),
    Column("subject", Kind.TEXT),
    Column("object", Kind.TEXT),
    Column("id", Kind.TEXT),
    Column("fact", Kind.WHOLE, optional=True),
)
"""What names a fact; its number, `fact`, is that of the store that wrote the file, and is not read."""

NEURONS = (
    *_FACT,
    Column("name", Kind.TEXT, optional=True),
    Column("layer", Kind.WHOLE),
    Column("neuron", Kind.WHOLE),
    Column("prompts", Kind.WHOLE),
    Column("mean_score", Kind.NUMBER),
)
"""A neuron of a fact's refined set in each row."""

SCORES = (
    *_FACT,
    Column("prompt", Kind.TEXT),
    Column("probability", Kind.NUMBER),
    Column("predicted", Kind.TEXT),
    Column("predicted_probability", Kind.NUMBER),
    Column("correct", Kind.FLAG),
    Column("completeness_error", Kind.NUMBER),
    Column("completeness_error_mean", Kind.NUMBER),
    Column("max_score", Kind.NUMBER),
    Column("min_score", Kind.NUMBER),
    Column("evaluations", Kind.WHOLE),
    Column("tokens", Kind.WHOLE),
    Column("answer_tokens", Kind.WHOLE),
    Column("skipped", Kind.TEXT),
    Column("worst_layer", Kind.WHOLE, optional=True),
    Column("layers_above", Kind.ERRORS, optional=True),
    Column("scores", Kind.SCORES),
)
"""A prompt of a run in each row: its result, and the scores that were kept."""

FACTS = (
    Column("relation", Kind.TEXT),
    Column("relation_label", Kind.TEXT),
    Column("subject", Kind.TEXT),
    Column("object", Kind.TEXT),
    Column("id", Kind.TEXT),
    Column("template", Kind.TEXT),
    Column("held_out", Kind.FLAG),
    Column("sentences", Kind.TEXTS),
    Column("evaluation", Kind.OBJECTS, optional=True),
    Column("fact", Kind.WHOLE, optional=True),
)
"""A template or a fact in each row: the project's own lists."""


def fits(kind: Kind, value: object) -> bool:
    """Whether a value, not None, can stand in a column of this kind, and be stored."""
    if kind is Kind.TEXT:
        return _is_text(value)
    if kind is Kind.WHOLE:
        return type(value) is int and 0 <= value < _MOST
    if kind is Kind.NUMBER:
        return _is_number(value)
    if kind is Kind.FLAG:
        return isinstance(value, bool)
    if not isinstance(value, list):
        return False
    if kind is Kind.TEXTS:
        return all(_is_text(item) for item in value)
    if kind is Kind.OBJECTS:
        return all(isinstance(item, dict) for item in value)
    return all(_is_entry(item, 3 if kind is Kind.SCORES else 2) for item in value)


_MOST = 1 << 63
"""Under this, a whole number can be stored."""


def _is_text(value: object) -> bool:
    # JSON can spell half a surrogate pair, which is no text.
    return isinstance(value, str) and (value.isascii() or _encodes(value))


def _encodes(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_number(value: object) -> bool:
    if type(value) is int:
        return abs(value) < _MOST
    return isinstance(value, float) and math.isfinite(value)


def _is_entry(item: object, length: int) -> bool:
    """Whether an item is a list of whole numbers and a number at its end."""
    if not isinstance(item, list) or len(item) != length:
        return False
    *places, number = item
    return all(type(place) is int for place in places) and _is_number(number)
