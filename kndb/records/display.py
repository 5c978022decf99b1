"""How records show themselves: a line in a shell, a table in a notebook, a frame for pandas.

`Record` is the base of the records that users meet, `Rows` the list in which methods give them. A record's line has
what identifies it (`Record._line`); one that does not say shows its fields. Text is never markup: it is escaped. pandas
is imported when a frame is asked for, and not before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from html import escape
from typing import Any, Protocol, SupportsIndex, TypeVar, overload

from ..errors import UsageError

LINES, TABLE_ROWS = 10, 20
"""Rows that a list shows at most, in a shell and in a notebook."""
_LETTERS = 60
"""Letters of a text that a line shows."""
_CELL = 400
"""Letters of a text that a cell shows."""
_BOX = '<div style="overflow-x: auto">'
"""What is wider than a notebook scrolls by itself."""
_MEMBERS = 8
"""Members of a collection that a cell names."""

Item = TypeVar("Item")


class _OfFact(Protocol):
    """A record that names a fact."""

    @property
    def relation(self) -> str: ...

    @property
    def subject(self) -> str | None: ...

    @property
    def object(self) -> str: ...


class Record:
    """Base of the records that users meet, which are frozen dataclasses."""

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A dataclass makes a repr of all its fields unless the class itself has one; an inherited one does not count.
        if "__repr__" not in vars(cls):
            cls.__repr__ = Record.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({printable(self._line())})"

    def _line(self) -> str:
        """What identifies the record, in one line."""
        return ", ".join(f"{name}={brief(value)}" for name, value in _values(self).items() if not _holds_more(value))

    def _repr_html_(self) -> str:
        """Names and values as an HTML table, lists of records folded below it; for notebooks."""
        values = _values(self)
        plain = {name: value for name, value in values.items() if not _holds_records(value)}
        rows = "".join(f"<tr>{_head(name)}{_cell(value, number=False)}</tr>" for name, value in _joined(plain).items())
        parts = "".join(_folded(name, value) for name, value in values.items() if _holds_records(value))
        return f"{_BOX}<strong>{escape(type(self).__name__)}</strong><table>{rows}</table>{parts}</div>"

    def to_frame(self, part: str | None = None) -> Any:
        """The record as a `pandas.DataFrame`.

        Args:
            part: a field that holds records: a row for each of them. None gives one row, of the record's own fields.

        Raises:
            UsageError: if there is no such part, or pandas is not installed.
        """
        if part is None:
            return Rows([self]).to_frame()
        parts = {name: value for name, value in _values(self).items() if _is_sequence(value)}
        if part not in parts:
            known = f"its parts are {', '.join(parts)}" if parts else "it has none"
            raise UsageError(f"{part!r} is not a part of {type(self).__name__}; {known}")
        return Rows(parts[part]).to_frame()


class Rows(list[Item]):
    """A list of records: equal to any list of the same, with a short `repr`, a table in notebooks, and `to_frame`."""

    __slots__ = ("_kind",)

    def __init__(self, rows: Iterable[Item] = (), kind: type[Item] | None = None) -> None:
        """Makes a list.

        Args:
            rows: its records.
            kind: their class, from which a frame of no records takes its columns.
        """
        super().__init__(rows)
        self._kind = kind

    @overload
    def __getitem__(self, place: SupportsIndex, /) -> Item: ...

    @overload
    def __getitem__(self, place: slice, /) -> Rows[Item]: ...

    def __getitem__(self, place: SupportsIndex | slice, /) -> Item | Rows[Item]:
        if isinstance(place, slice):
            return Rows(super().__getitem__(place), self._kind)
        return super().__getitem__(place)

    def __repr__(self) -> str:
        lines = [repr(row) for row in self[:LINES]]
        if len(self) > LINES:
            lines.append(f"… {len(self) - LINES:,} more")
        return f"[{(',' + chr(10) + ' ').join(lines)}]"

    def _repr_html_(self) -> str:
        """The first rows as an HTML table; for notebooks."""
        shown = [_joined(_values(row)) for row in self[:TABLE_ROWS]]
        if not shown:
            return "<div>no rows</div>"
        numeric = {name: all(_is_number(row[name]) for row in shown) for name in shown[0]}
        head = "".join(_head(name, number=numeric[name]) for name in shown[0])
        body = "".join(
            f"<tr>{''.join(_cell(value, number=numeric[name]) for name, value in row.items())}</tr>" for row in shown
        )
        more = f"<p>{len(shown):,} of {len(self):,} rows</p>" if len(self) > len(shown) else ""
        return f"{_BOX}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}</div>"

    def to_frame(self) -> Any:
        """The rows as a `pandas.DataFrame`: a column for each field, with the values as they are.

        Raises:
            UsageError: if pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise UsageError(
                "to_frame needs pandas, which is not installed; install it with: pip install pandas"
            ) from None
        kind = self._kind or (type(self[0]) if self else None)
        names = _names(kind) if kind is not None else []
        return pd.DataFrame([list(_values(row).values()) for row in self], columns=names)


def quoted(text: str) -> str:
    """A text in quotation marks for a record's line, control characters escaped, the rest of a long one left out."""
    return repr(text if len(text) <= _LETTERS else text[: _LETTERS - 1] + "…")


def fact_words(fact: _OfFact) -> str:
    """A fact's relation, subject and object for a record's line."""
    subject = "(not named)" if fact.subject is None else quoted(fact.subject)
    return f"{fact.relation}, {subject} → {quoted(fact.object)}"


def brief(value: object) -> str:
    """A value for a record's line."""
    if isinstance(value, str):
        return quoted(value)
    return f"{value:.4g}" if isinstance(value, float) else repr(value)


def printable(text: str) -> str:
    """A text with all that is no letter, mark or blank escaped: control characters, reversals of the direction."""
    return text if text.isprintable() else "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def share(value: float | None) -> str:
    """A share as a percentage."""
    return "none" if value is None else f"{100 * value:.1f} %"


def many(count: int, what: str) -> str:
    """A count with its noun: `1 fact`, `1,490 facts`."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _names(kind: type[Any]) -> list[str]:
    return [one.name for one in fields(kind)] if is_dataclass(kind) else ["value"]


def _values(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name, record) for name in _names(type(record))}


def _joined(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with layer and number of a neuron as its name."""
    if not {"layer", "neuron"} <= values.keys():
        return dict(values)
    layer, neuron = values["layer"], values["neuron"]
    name = "" if layer is None else f"L{layer}.N{neuron}"
    return {
        "neuron" if key == "layer" else key: name if key == "layer" else value
        for key, value in values.items()
        if key != "neuron"
    }


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _holds_records(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and bool(value) and is_dataclass(value[0])


def _holds_more(value: object) -> bool:
    """Whether a value has no place in a line."""
    return isinstance(value, Mapping) or _is_sequence(value)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _folded(name: str, records: Sequence[Any]) -> str:
    title = f"{escape(printable(_words(name)))} ({len(records):,})"
    return f"<details><summary>{title}</summary>{Rows(records)._repr_html_()}</details>"


def _head(name: str, *, number: bool = False) -> str:
    return f'<th style="text-align: {"right" if number else "left"}">{escape(printable(_words(name)))}</th>'


def _cell(value: object, *, number: bool) -> str:
    return f'<td style="text-align: {"right" if number else "left"}">{escape(printable(_shown(value)))}</td>'


def _shown(value: object) -> str:
    """A value in a cell, as text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return _listed([f"{_words(str(name))} {_shown(one)}".strip() for name, one in value.items()])
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _listed([_shown(one) for one in value])
    text = str(value)
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"


def _listed(words: Sequence[str]) -> str:
    more = [f"… {len(words) - _MEMBERS:,} more"] if len(words) > _MEMBERS else []
    return ", ".join([*words[:_MEMBERS], *more])
