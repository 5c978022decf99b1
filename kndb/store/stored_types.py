"""Values as they come out of the database: those that its columns can't have are named, not passed on.

Where a statement reads a column of `tables`, its values come through here. SQLite keeps what it is given, whatever a
column's type; what kndb wrote is always right, so anything else is damage.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable
from typing import Any

from sqlalchemy import JSON, Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from ..advice import call
from ..errors import StoreDamagedError
from .column_rules import ColumnRule


class JsonText(JSON):
    """JSON that is kept as the text kndb writes, also where the database system has a type of its own for it."""

    cache_ok = True

    def dialect_impl(self, dialect: Dialect) -> JsonText:  # noqa: ARG002 - it is the same for each
        """The type itself."""
        return self

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], str | None]:  # noqa: ARG002
        """Gives what makes text of a value: one form for equal values."""

        def write(value: Any) -> str | None:
            if value is None and self.none_as_null:
                return None
            return json.dumps(value, ensure_ascii=False, sort_keys=True)

        return write

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002
        """Gives what reads the text."""
        return lambda value: None if value is None else json.loads(value)


class StoredType(TypeDecorator[Any]):
    """A column's type, which refuses to read what the column can't have."""

    impl = TypeEngine
    cache_ok = True

    def __init__(self, plain: TypeEngine[Any], place: str, rule: ColumnRule, nullable: bool = False) -> None:
        """Names a column's type.

        Args:
            plain: SQLAlchemy's type.
            place: table and column, `run.settings`.
            rule: what it may hold.
            nullable: whether JSON may be null.
        """
        self.plain, self.place, self.rule, self.nullable = plain, place, rule, nullable
        self.impl = self.impl_instance = plain  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.plain)

    def copy(self, **_: Any) -> StoredType:
        """The same type again."""
        return StoredType(self.plain, self.place, self.rule, self.nullable)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """Gives the function that each value read goes through."""
        convert = self.plain.dialect_impl(dialect).result_processor(dialect, coltype)
        fits = self.rule.can_be_read

        def read(value: Any) -> Any:
            if value is None:
                return None
            if not fits(value):
                raise self._damaged(value)
            if convert is None:
                return value
            try:
                found = convert(value)
            except (ValueError, RecursionError):
                raise self._damaged(value) from None
            if self.rule.kind in ("object", "list") and not self._is_of_its_kind(found):
                raise self._damaged(value)
            return found

        return read

    def _is_of_its_kind(self, found: object) -> bool:
        if found is None:
            return self.nullable
        return isinstance(found, dict if self.rule.kind == "object" else list)

    def _damaged(self, value: object) -> StoreDamagedError:
        return StoreDamagedError(
            f"the database is damaged: a row of {self.place} holds {shown(value)}, which must be {self.rule.must_be}; "
            f"see: {call('maintenance.check')}, and restore a backup"
        )


def shown(value: object) -> str:
    """A value of the database, in a few words."""
    if value is None:
        return "NULL"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"a blob of {len(value)} byte{'' if len(value) == 1 else 's'}"
    return f"{value:,}" if type(value) is int else reprlib.repr(value)
