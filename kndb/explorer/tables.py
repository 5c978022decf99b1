"""Sorting, filtering and paging of tables, on the server, as the address asks for it.

A table named `prompts` takes `prompts.sort=-probability`, `prompts.q=TEXT` and `prompts.page=2`. Values that can't be
sorted with others (None) come last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .blocks import Column, Row, Slice, Table, Wanted

SORT, FILTER, PAGE = "sort", "q", "page"
MOST_PAGES = 10**9
"""So that no address makes numbers that a database can't take."""


@dataclass(frozen=True)
class ShownTable:
    """A table as a page shows it.

    Attributes:
        table: the table.
        rows: of this page.
        total: rows that the filter leaves.
        wanted: what was asked for.
        page: from 1; `pages`: how many there are, at least 1.
    """

    table: Table
    rows: Sequence[Row]
    total: int
    wanted: Wanted
    page: int
    pages: int

    @property
    def filtered(self) -> bool:
        """Whether a filter is in force."""
        return bool(self.wanted.filter)

    def parameters(self, **changes: Any) -> dict[str, Any]:
        """The table's parameters of the address, with changes; a change of sort or filter goes back to page 1."""
        sort = None if self.wanted.sort is None else f"{'-' if self.wanted.descending else ''}{self.wanted.sort}"
        now: dict[str, Any] = {SORT: sort, FILTER: self.wanted.filter, PAGE: self.page if self.page > 1 else None}
        if {SORT, FILTER} & changes.keys():
            now[PAGE] = None
        return {f"{self.table.name}.{name}": value for name, value in {**now, **changes}.items()}


def wanted_of(table: Table, query: Mapping[str, str]) -> tuple[Wanted, int]:
    """What an address asks of a table, and the page's number; what makes no sense there is left out."""
    sort = query.get(f"{table.name}.{SORT}", "")
    name = sort.removeprefix("-")
    known = {column.name for column in table.columns if column.sorts}
    page = query.get(f"{table.name}.{PAGE}", "")
    number = min(int(page), MOST_PAGES) if page.isascii() and page.isdigit() and len(page) < 12 else 1
    wanted = Wanted(
        sort=name if name in known else None,
        descending=sort.startswith("-"),
        filter=query.get(f"{table.name}.{FILTER}", "").strip() if table.filters else "",
    )
    return wanted, max(1, number)


def shown(table: Table, query: Mapping[str, str], *, whole: bool = False) -> ShownTable:
    """The page of a table that an address asks for; `whole` gives all its rows, sorted and filtered likewise."""
    wanted, page = wanted_of(table, query)
    count = None if whole else table.size
    wanted = replace(wanted, start=0 if whole else (page - 1) * table.size, count=count)
    found = cut(table, wanted)
    pages = 1 if whole else max(1, -(-found.total // table.size))
    if page > pages and not whole:
        wanted = replace(wanted, start=(pages - 1) * table.size)
        found, page = cut(table, wanted), pages
    return ShownTable(table, found.rows, found.total, wanted, 1 if whole else page, pages)


def cut(table: Table, wanted: Wanted) -> Slice:
    """The rows of a table that are wanted, and how many its filter leaves."""
    if callable(table.source):
        return table.source(wanted)
    rows = table.source
    if wanted.filter:
        part = wanted.filter.casefold()
        rows = [row for row in rows if any(part in _text(row.get(one.name)) for one in table.columns)]
    if wanted.sort is not None:
        rows = sorted_rows(rows, wanted.sort, descending=wanted.descending)
    stop = None if wanted.count is None else wanted.start + wanted.count
    return Slice(rows[wanted.start : stop], len(rows))


def sorted_rows(rows: Sequence[Row], name: str, *, descending: bool) -> list[Row]:
    """Rows by a column; equal ones stay in their order, and those without a value come last."""
    there = [row for row in rows if row.get(name) is not None]
    numbers = all(isinstance(row[name], (int, float)) for row in there)
    key = (lambda row: row[name]) if numbers else (lambda row: in_order(_text(row[name])))
    there = sorted(there, key=key, reverse=descending)
    return [*there, *(row for row in rows if row.get(name) is None)]


def in_order(text: str) -> list[tuple[int, int, str]]:
    """What sorts texts by the numbers in them, too: `P36` before `P103`, `L2.N9` before `L10.N1`."""
    parts = re.split(r"([0-9]{1,18})", text)
    return [(0, int(one), "") if place % 2 else (1, 0, one) for place, one in enumerate(parts) if one]


def columns_shown(shown_table: ShownTable) -> list[tuple[Column, str]]:
    """The columns that a page has, each with `ascending`, `descending` or nothing."""
    wanted, rows = shown_table.wanted, shown_table.rows
    way = "descending" if wanted.descending else "ascending"
    return [
        (column, way if column.name == wanted.sort else "")
        for column in shown_table.table.columns
        if _has(rows, column)
    ]


def _has(rows: Sequence[Row], column: Column) -> bool:
    return not column.optional or any(row.get(column.name) not in (None, "", (), []) for row in rows)


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(map(_text, value))
    if isinstance(value, Mapping):
        return " ".join(map(_text, value))
    return "" if value is None else str(value).casefold()
