"""Values that are stored as JSON objects: dataclasses whose fields say how they are read and written.

`parse(as_json(x)) == x`, and `as_json` gives back what was read, with the keys that this kndb does not know.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

from ..errors import EditError, UsageError
from .models import Neuron

_T = TypeVar("_T", bound="JsonObject")
Parse = Callable[[Any], object]


def same(value: Any) -> Any:
    """The value itself."""
    return value


def said(parse: Parse, write: Callable[[Any], object] = same, *, key: str | None = None) -> Mapping[str, Any]:
    """Metadata of a field that `parse` reads and `write` writes; a field with a default may be missing in the JSON.

    Args:
        parse: raises a TypeError, ValueError, UsageError or EditError for what it can't take.
        write: gives back what was read.
        key: in the JSON, if not the field's name.
    """
    return {"parse": parse, "write": write, "key": key}


@dataclass(frozen=True, kw_only=True)
class JsonObject:
    """A JSON object as a value.

    Attributes:
        extra: the keys that this kndb does not know, as they were read.
    """

    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def parse(cls: type[_T], values: object) -> _T:
        """Reads the object.

        Raises:
            EditError: if something is missing, or not what it should be.
        """
        if not isinstance(values, Mapping):
            raise EditError(f"{reprlib.repr(values)} is not a JSON object")
        found: dict[str, Any] = {}
        left = dict(values)
        for one in fields(cls):
            if one.name == "extra":
                continue
            key = one.metadata["key"] or one.name
            if key in left:
                value = left.pop(key)
                try:
                    found[one.name] = one.metadata["parse"](value)
                except (TypeError, ValueError, OverflowError, UsageError, EditError):
                    raise EditError(f"{key} is {reprlib.repr(value)}") from None
            elif one.default is MISSING:
                raise EditError(f"{key} is missing")
        try:
            return cls(**found, extra=left)
        except UsageError as error:
            raise EditError(str(error)) from None

    def as_json(self) -> dict[str, Any]:
        """The object: what is said, in the order of the fields, then what this kndb does not know."""
        found = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name != "extra" and (one.default is MISSING or value is not one.default):
                found[one.metadata["key"] or one.name] = one.metadata["write"](value)
        return found | dict(self.extra)


def refused(value: object) -> Any:
    """Raises a TypeError for a value."""
    raise TypeError(value)


def whole(value: object) -> int:
    """A whole number that SQLite can hold."""
    # True and False are integers to Python, not to JSON.
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise TypeError(value)
    return value


def count(value: object) -> int:
    """A whole number that counts something, from 0."""
    return whole(value) if isinstance(value, int) and value >= 0 else refused(value)


def share(value: object) -> float:
    """A number from 0 to 1."""
    found = number(value)
    return found if 0 <= found <= 1 else refused(value)


def number(value: object) -> float:
    """A finite number; a whole one stays whole."""
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
        raise TypeError(value)
    return value  # type: ignore[return-value]


def text(value: object) -> str:
    """A text."""
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def or_null(parse: Parse) -> Parse:
    """None for null, else what `parse` reads."""
    return lambda value: None if value is None else parse(value)


def list_of(parse: Parse) -> Parse:
    """A list, as a tuple of what `parse` reads."""

    def parsed(value: object) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise TypeError(value)
        return tuple(parse(one) for one in value)

    return parsed


def any_neurons(value: object) -> tuple[Neuron, ...]:
    """A list of neurons' names."""
    return tuple(Neuron.parse(text(one)) for one in value) if isinstance(value, list) else refused(value)


def some_neurons(value: object) -> tuple[Neuron, ...]:
    """A list of neurons' names, at least one."""
    return any_neurons(value) or refused(value)


def by_neuron(parse: Parse) -> Parse:
    """An object with neurons' names for keys."""

    def parsed(value: object) -> dict[Neuron, object]:
        if not isinstance(value, Mapping):
            raise TypeError(value)
        return {Neuron.parse(name): parse(one) for name, one in value.items()}

    return parsed


def names(neurons: Any) -> list[str]:
    """Neurons' names."""
    return [str(neuron) for neuron in neurons]


def named(values: Any) -> dict[str, object]:
    """Values by neurons, by their names."""
    return {str(neuron): value for neuron, value in values.items()}


def as_json(value: Any) -> object:
    """A value's JSON."""
    return value.as_json()
