"""What `check` asks of JSON in the store: that it parses, and has the shape that its readers need.

Keys that a shape does not name may hold anything: settings and measures grew with kndb, and imported sets come with
whatever their maker said of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, literal_column, select
from sqlalchemy import Table as CoreTable

from ..records.recipes import OtherRecipe, read_recipe
from .row_checks import LISTED, Problem
from .stored_types import StoredType
from .tables import Table

Shape = Callable[[Any], str | None]
"""Says what is wrong with a value, in words that go on after "it"; None if nothing is."""


def check_json(connection: Connection, but: Collection[str] = ()) -> list[Problem]:
    """Reads all JSON of the store: one problem for each of the first rows of a column, and one for the others.

    Args:
        connection: a connection in a transaction.
        but: tables to leave out: those with values of a wrong type.
    """
    problems: list[Problem] = []
    for table in Table.metadata.sorted_tables:
        if table.name in but:
            continue
        for column, shape in _shapes(table):
            problems += _of_column(connection, table, column, shape)
        if table.name == "edit":
            problems += _recipes(connection)
    return problems


def _shapes(table: CoreTable) -> Iterator[tuple[str, Shape]]:
    """The columns of a table that hold JSON, and what they hold."""
    for column in table.columns:
        kind = column.type
        if isinstance(kind, StoredType) and kind.rule.kind in _BY_KIND:
            usual = _BY_KIND[kind.rule.kind]
            shape = _SHAPES.get(table.name, {}).get(column.name, usual)
            yield column.name, _or_null(shape) if column.nullable else shape


def _of_column(connection: Connection, table: CoreTable, column: str, shape: Shape) -> Iterable[Problem]:
    keys = [one.name for one in table.primary_key.columns]
    # Plain columns: those of the table refuse to read what is looked for here.
    columns: list[Any] = [literal_column(f'"{name}"') for name in (*keys, column)]
    query = select(*columns).select_from(table)
    found = 0
    for *key, text in connection.execute(query.where(literal_column(f'"{column}"').is_not(None))):
        flaw = _flaw(text, shape)
        if flaw is None:
            continue
        found += 1
        if found <= LISTED:
            row = str(key[0]) if keys == ["id"] else ", ".join(f"{n} {v}" for n, v in zip(keys, key, strict=True))
            yield Problem(table.name, f"table {table.name}, row {row}, column {column}: it {flaw}")
    if found > LISTED:
        yield Problem(
            table.name, f"table {table.name}, column {column}: {found - LISTED:,} more rows are wrong like this"
        )


def _flaw(text: str, shape: Shape) -> str | None:
    try:
        return shape(json.loads(text))
    except RecursionError:
        return "is nested too deeply"
    except ValueError as error:
        return f"is no JSON ({error})"


def _recipes(connection: Connection) -> Iterable[Problem]:
    rows = connection.exec_driver_sql("SELECT id, kind, recipe FROM edit ORDER BY id")
    for number, kind, text in rows:
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            continue  # said above
        recipe = read_recipe(kind, values) if isinstance(values, dict) else None
        if isinstance(recipe, OtherRecipe):
            yield Problem("edit", f"table edit, row {number}, column recipe: it is no recipe of an edit: {recipe.flaw}")


# --- shapes -----------------------------------------------------------------------------------------


def _kind(said: str, *types: type) -> Shape:
    """One of Python's types; `bool` is no number."""
    return lambda value: None if type(value) in types else f"must be {said}"


def _or_null(shape: Shape) -> Shape:
    return lambda value: None if value is None else shape(value)


def _items(shape: Shape) -> Shape:
    def of_list(value: Any) -> str | None:
        if not isinstance(value, list):
            return "must be a list"
        return next((f"has an item that {flaw}" for one in value if (flaw := shape(one))), None)

    return of_list


def _array(*shapes: Shape) -> Shape:
    """A list of so many items, each of its shape."""

    def of_array(value: Any) -> str | None:
        if not isinstance(value, list) or len(value) != len(shapes):
            return f"must be a list of {len(shapes)}"
        return next(
            (f"has an item that {flaw}" for one, shape in zip(value, shapes, strict=True) if (flaw := shape(one))), None
        )

    return of_array


def _values(shape: Shape, key: Shape | None = None) -> Shape:
    """An object with values, and keys, of a shape."""

    def of_object(value: Any) -> str | None:
        if not isinstance(value, dict):
            return "must be an object"
        for name, one in value.items():
            flaw = (key(name) if key is not None else None) or shape(one)
            if flaw:
                return f"has {name!r:.40}, which {flaw}"
        return None

    return of_object


def _with(required: Mapping[str, Shape] = {}, **optional: Shape) -> Shape:
    """An object with these keys; it may have others."""

    def of_object(value: Any) -> str | None:
        if not isinstance(value, dict):
            return "must be an object"
        for name, shape in {**required, **optional}.items():
            if name not in value:
                if name in required:
                    return f"has no {name!r}"
            elif flaw := shape(value[name]):
                return f"has {name!r}, which {flaw}"
        return None

    return of_object


def _either(*shapes: Shape) -> Shape:
    def of_one(value: Any) -> str | None:
        flaws = [shape(value) for shape in shapes]
        return None if None in flaws else " or ".join(map(str, flaws))

    return of_one


def _layer(name: str) -> str | None:
    return None if name.isascii() and name.isdigit() else "must be a layer's number"


def _fact_number(name: str) -> str | None:
    return None if name.isascii() and name.isdigit() else "must be a fact's number"


def _key(value: Any) -> str | None:
    return None if type(value) is int and value > 0 else "must be a number of a row"


def _finite(value: Any) -> str | None:
    return None if type(value) in (int, float) and math.isfinite(value) else "must be a finite number"


_TEXT, _FLAG = _kind("text", str), _kind("true or false", bool)
_WHOLE, _NUMBER = _kind("a whole number", int), _kind("a number", int, float)
_OBJECT, _LIST = _kind("an object", dict), _kind("a list", list)


def _interval(value: Any) -> str | None:
    return (
        "must be three numbers" if not isinstance(value, list) or len(value) != 3 else _items(_or_null(_NUMBER))(value)
    )


_ENDS = _items(_or_null(_NUMBER))
_MEASURES = _values(_values(_or_null(_NUMBER)))
_FLIP = _with(group=_TEXT, fact=_WHOLE, relation=_TEXT, old_answer=_or_null(_TEXT), new_answer=_or_null(_TEXT))
_EVALUATION = _with(
    {"edited": _MEASURES},
    control=_MEASURES,
    intervals=_values(_values(_values(_ENDS))),
    flips=_items(_FLIP),
    generated=_with(texts=_items(_OBJECT)),
)
_CELL = _with({"method": _TEXT})
_BENCH = _with({"seed": _WHOLE, "facts": _WHOLE, "refinement": _WHOLE, "method": _TEXT, "counts": _items(_WHOLE)})
_COMPARED = _with(
    {
        "seed": _WHOLE,
        "facts": _WHOLE,
        "refinement": _or_null(_WHOLE),
        "methods": _items(_CELL),
        "sizes": _items(_WHOLE),
        "seeds": _items(_WHOLE),
    }
)
_SWEEP = _with({"seed": _WHOLE, "facts": _WHOLE, "refinement": _WHOLE, "cells": _items(_CELL)})
_OF_TRIAL = _values(_either(_or_null(_NUMBER), _interval))
_RESULT = _with(
    edited=_OF_TRIAL,
    control=_OF_TRIAL,
    unplanned=_either(_TEXT, _LIST),
    neurons=_or_null(_NUMBER),
    facts=_WHOLE,
    planned=_WHOLE,
    seconds=_NUMBER,
    memory=_NUMBER,
    flips=_items(_FLIP),
)


def _trial(value: Any) -> str | None:
    kinds = {"cells": _SWEEP, "methods": _COMPARED}
    found = [kind for key, kind in kinds.items() if isinstance(value, dict) and key in value]
    return (found or [_BENCH])[0](value)


_BY_KIND: Mapping[str, Shape] = {"object": _OBJECT, "list": _LIST}
_NEEDS = _with(edits=_items(_array(_TEXT, _TEXT, _TEXT)), answers=_items(_array(_TEXT, _items(_TEXT))))

_CHECKED = _with(
    {"condition": _TEXT, "confident": _FLAG, "value": _NUMBER, "holds": _FLAG},
    low=_or_null(_NUMBER),
    high=_or_null(_NUMBER),
)
_CONDITIONS = _with(
    {
        "checked": _items(_CHECKED),
        "skipped": _items(_with({"condition": _TEXT, "confident": _FLAG})),
        "edits": _WHOLE,
        "settings": _OBJECT,
    },
    version=_or_null(_TEXT),
    evaluation=_or_null(_WHOLE),
)

_SHAPES: Mapping[str, Mapping[str, Shape]] = {
    "evaluation_prompt": {"answers": _items(_TEXT), "needs": _NEEDS},
    "run": {"settings": _with(floor=_or_null(_NUMBER), tolerance=_or_null(_NUMBER))},
    "prompt_result": {"layers_above": _values(_finite, _layer)},
    "edit": {"fact_numbers": _values(_or_null(_key), _fact_number), "conditions": _CONDITIONS},
    "history": {"conditions": _CONDITIONS},
    "version": {"edits": _items(_key)},
    "evaluation": {"measures": _EVALUATION},
    "edit_trial": {"settings": _trial},
    "edit_trial_result": {"measures": _RESULT},
    "work_unit": {"items": _items(_WHOLE)},
}
