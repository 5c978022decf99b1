"""The words in which the store's own SQL says what SQLite and PostgreSQL say differently.

Statements are written once, in the SQL that both take, with these words for the rest. Each backend puts its own SQL in
their place (`Words`) just before a statement reaches the driver:

    kndb_numbers(:list)           the numbers of a list, passed as one JSON text: a table of one column, `value`
    kndb_texts(:list)             the texts of a list, likewise
    kndb_rows(:list, a, b)        the rows of a list of lists of numbers: a table with columns of these names
    kndb_listed(column)           the values of a group as one text, with commas between
    kndb_place(text, part)        where a text begins in another one, from 1; 0 if nowhere
    kndb_number_at(column, name)  the number of a name in a column of JSON objects; NULL if there is none

    CROSS JOIN other ON …         a join in this order, which SQLite heeds; PostgreSQL knows the tables' sizes itself
    table INDEXED BY index        likewise: SQLite is to use this index

A `?` is a parameter of a statement that goes to the driver as it is; a `%` is a plain character.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

_WORD = re.compile(r"\bkndb_(numbers|texts|rows|listed|place|number_at)\(([^()]*(?:\([^()]*\))?[^()]*)\)")
_HINT = re.compile(r"\bCROSS JOIN\b|\s+INDEXED BY \w+")


def with_words(statement: str, words: Mapping[str, Callable[..., str]]) -> str:
    """A statement with a backend's SQL in place of the words.

    Args:
        statement: the statement.
        words: for each word without its `kndb_`, what makes SQL of its arguments.
    """
    if "kndb_" not in statement:
        return statement
    return _WORD.sub(lambda found: words[found[1]](*(part.strip() for part in found[2].split(","))), statement)


def without_hints(statement: str) -> str:
    """A statement without what it tells SQLite's planner."""
    return _HINT.sub(lambda found: "JOIN" if found[0] == "CROSS JOIN" else "", statement)


def remembered(render: Callable[[str], str]) -> Callable[[str], str]:
    """A function that renders statements, and keeps what it rendered: the store has a few hundred of them."""
    return lru_cache(maxsize=2048)(render)
