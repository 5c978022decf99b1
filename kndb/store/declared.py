"""Tables declared in the form of SQLAlchemy's typed models, without its object-relational mapper.

The store never works with mapped objects: its statements are of SQLAlchemy's core. Loading the mapper and mapping 30
classes would take a fifth of the time that a command like `kndb edit apply` takes in all. So a class here gives its
table's columns by name, and stands for the table in a statement; type checkers are shown SQLAlchemy's own declarations,
whose form this one keeps (see `tables`).
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, Integer, MetaData, String
from sqlalchemy import Table as CoreTable

from .column_rules import rule_of
from .stored_types import JsonText, StoredType

_TYPES: dict[str, Any] = {
    # So that PostgreSQL compares a column with any number that SQLite does.
    "int": lambda: Integer().with_variant(BigInteger(), "postgresql"),
    "str": String,
    "bool": Boolean,
    "float": Double,  # SQLAlchemy 2.0 would say FLOAT, 2.1 DOUBLE
    "dict[str, Any]": JsonText,
    "list[int]": JsonText,
    "list[str]": JsonText,
}
_ANNOTATION = re.compile(r"Mapped\[(?P<type>.+?)(?P<nullable> \| None)?\]")


class DeclaredTable(type):
    """A class for each table: its annotations `name: Mapped[type]` become columns, `type | None` a nullable one."""

    metadata: MetaData

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        """Makes the table of a class that names one."""
        super().__init__(name, bases, namespace)
        title = namespace.get("__tablename__")
        if title is None:
            return
        columns = [_column(title, key, said, namespace.get(key)) for key, said in namespace["__annotations__"].items()]
        parts = list(namespace.get("__table_args__", ()))
        options = parts.pop() if parts and isinstance(parts[-1], dict) else {}
        cls.__table__ = CoreTable(title, cls.metadata, *columns, *parts, **options)
        for column in columns:
            setattr(cls, column.name, column)

    def __clause_element__(cls) -> CoreTable:
        """What SQLAlchemy takes in the class's place in a statement."""
        return cls.__table__


class mapped_column:  # noqa: N801 - SQLAlchemy's name
    """The positional and the named arguments of a column, beyond its name and type."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        self.parts, self.options = parts, options


def _column(table: str, name: str, said: str, more: mapped_column | None) -> Column[Any]:
    found = _ANNOTATION.fullmatch(said)
    if found is None or found["type"] not in _TYPES:
        raise TypeError(f"column {name}: {said!r} is no Mapped[…] of {', '.join(_TYPES)}")
    parts, options = (more.parts, more.options) if more is not None else ((), {})
    nullable = found["nullable"] is not None
    plain = _TYPES[found["type"]]()
    if parts and isinstance(parts[0], JSON):
        plain, parts = JsonText(none_as_null=parts[0].none_as_null), parts[1:]
    kind = StoredType(plain, f"{table}.{name}", rule_of(table, name, found["type"]), nullable)
    return Column(name, kind, *parts, nullable=nullable, **options)
