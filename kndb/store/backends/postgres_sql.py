"""The store's SQL as PostgreSQL takes it: the words of `portable`, marks for parameters, and values that are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .portable import remembered, with_words, without_hints


def render(_: Any, __: Any, statement: str, parameters: Any, context: Any, ___: bool) -> tuple[str, Any]:
    """Makes a statement and its parameters PostgreSQL's, just before they reach the driver."""
    if context is not None and context.compiled is not None:
        return _rendered(statement), _held(parameters)
    return (_rendered_with_marks if parameters else _rendered_for_driver)(statement), _held(parameters)


def literal(text: str) -> str:
    """A text as a constant of SQL, whatever `standard_conforming_strings` says.

    Args:
        text: a text of kndb's own, without backslashes.
    """
    return "'" + text.replace("'", "''") + "'"


@remembered
def _rendered(statement: str) -> str:
    return without_hints(with_words(statement, _WORDS))


@remembered
def _rendered_for_driver(statement: str) -> str:
    """The same for a statement that SQLAlchemy has not compiled."""
    return _rendered(statement.replace("%", "%%"))


@remembered
def _rendered_with_marks(statement: str) -> str:
    """The same where its parameters are question marks."""
    return _rendered_for_driver(statement).replace("?", "%s")


def _held(values: Any) -> Any:
    """Parameters with NULL for numbers that are none, as SQLite keeps them."""
    if isinstance(values, dict):
        return {name: None if value != value else value for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return type(values)(
            _held(one) if isinstance(one, (dict, tuple)) else None if one != one else one for one in values
        )
    return values


def _items(values: str, kind: str = "") -> str:
    return f"jsonb_array_elements{kind}(CAST(CAST({values} AS text) AS jsonb)) AS item"


def _item(place: int, name: str) -> str:
    return f"CAST(item ->> {place} AS bigint) AS {name}"


# Arguments of the words are the store's own names and parameters.
_WORDS: dict[str, Callable[..., str]] = {
    "numbers": lambda values: f"(SELECT CAST(item AS bigint) AS value FROM {_items(values, '_text')})",  # noqa: S608
    "texts": lambda values: f"(SELECT item AS value FROM {_items(values, '_text')})",  # noqa: S608
    "rows": lambda values, *names: f"(SELECT {', '.join(map(_item, range(len(names)), names))} FROM {_items(values)})",  # noqa: S608
    "listed": lambda column: f"string_agg(CAST({column} AS text), ',')",
    "place": lambda text, part: f"strpos({text}, {part})",
    "number_at": lambda column, name: f"CAST(CAST({column} AS jsonb) ->> '{name}' AS double precision)",
}
