"""Lists of new answers: which fact is to get which answer, as JSON lines or a table.

Each row has `to`, the new answer, and either `fact`, a fact's number, or `relation` and `subject`. Other columns are
passed over. A row may have all of them: then they have to name the same fact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from . import csv_tables, jsonl_tables
from .columns import Column, Kind, Row
from .lines import csv_records

COLUMNS = (
    Column("fact", Kind.WHOLE),
    Column("relation", Kind.TEXT),
    Column("subject", Kind.TEXT),
    Column("to", Kind.TEXT),
)
_COLUMNS_NEEDED = "`to`, and `fact` or `relation` and `subject`"


@dataclass(frozen=True)
class NamedTarget:
    """One row of such a list.

    Attributes:
        line: where it begins, from 1.
        fact: the fact's number, or None if it is named by the next two only.
        relation: its relation's key.
        subject: its subject.
        to: the new answer.
    """

    line: int
    fact: int | None
    relation: str | None
    subject: str | None
    to: str


def read(path: Path, delimiter: str | None) -> list[NamedTarget]:
    """Reads a list of new answers.

    Args:
        path: a file in UTF-8, gzipped or not.
        delimiter: what separates the cells of its table; None if it is JSON lines.

    Raises:
        InputError: if the file can't be read, is empty, or a row does not name a fact and an answer.
    """
    if delimiter is None:
        rows = jsonl_tables.read(path, COLUMNS)
    else:
        rows = csv_tables.read(path, _columns_of(path, delimiter), delimiter)
    targets = [_target(path, line, row) for line, row in rows]
    if not targets:
        raise InputError(f"{path}: there is no row in it; each must have {_COLUMNS_NEEDED}")
    return targets


def _columns_of(path: Path, delimiter: str) -> Sequence[Column]:
    """Those of the columns that a table's header names."""
    header: Sequence[str] = next(iter(csv_records(path, delimiter)), (1, []))[1]
    return [column for column in COLUMNS if column.name in header]


def _target(path: Path, line: int, row: Row) -> NamedTarget:
    fact, relation, subject, to = (row.get(column.name) for column in COLUMNS)
    if to is None or not str(to).strip() or (fact is None and (relation is None or subject is None)):
        named = [column.name for column in COLUMNS if row.get(column.name) is not None]
        raise InputError(
            f"{path}:{line}: the row must have {_COLUMNS_NEEDED} (got {', '.join(named) or 'none of these'})"
        )
    return NamedTarget(line, fact, relation, subject, str(to).strip())
