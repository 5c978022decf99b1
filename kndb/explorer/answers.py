"""Pages as data: JSON of all that a page holds, CSV of one of its tables, with all rows that its filter leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import NotFoundError
from ..records.csv_cells import csv_line, safe_text
from .blocks import Bars, Later, Link, Page, Table, Text, Timeline, Values
from .tables import shown


def as_json(
    page: Page, query: Mapping[str, str], context: Mapping[str, Any] | None, words: Callable[[str], str]
) -> str:
    """A page's JSON: title, context, command, values, tables with all their rows, figures' data.

    What takes a model is there if the address asks for it; else `later` has the address that does.

    Args:
        page: the page.
        query: the parameters of its address: tables are sorted and filtered as these say.
        context: what it speaks of.
        words: says the marks of `kndb.advice`.
    """
    command = words(page.command) if page.command else None
    found: dict[str, Any] = {"title": page.title, "lead": words(page.lead), "context": context, "command": command}
    blocks = page.every
    texts = [words(block.text) for block in blocks if isinstance(block, Text)]
    values = {
        name: value.text if isinstance(value, Link) else value
        for block in blocks
        if isinstance(block, Values)
        for name, value, _ in block.values
    }
    found |= {"texts": texts, "values": values}
    found["tables"] = {table.name: _rows(table, query) for table in page.tables}
    later = {block.name: block.link.href for block in blocks if isinstance(block, Later)}
    found |= {"later": later} if later else {}
    for block in blocks:
        if isinstance(block, Bars):
            found[block.name] = {
                name: [{"label": bar.label, "share": bar.share} for bar in bars] for name, bars in block.columns
            }
        elif isinstance(block, Timeline):
            found["timeline"] = [{"title": step.title, "detail": step.detail} for step in block.steps]
    return json.dumps({**found, **page.figures}, ensure_ascii=False, default=str, allow_nan=False, indent=1) + "\n"


def as_csv(page: Page, query: Mapping[str, str]) -> tuple[str, str]:
    """The name and the CSV of a page's table: the one that `table` names, else its first.

    Texts that a spreadsheet would take for formulas begin with an apostrophe.

    Raises:
        NotFoundError: if the page has no such table.
    """
    tables = {table.name: table for table in page.tables}
    name = query.get("table") or next(iter(tables), "")
    if name not in tables:
        known = f"it has: {', '.join(tables)}" if tables else "it has none"
        raise NotFoundError(f"the page has no table {name!r}; {known}" if name else "the page has no table")
    table = tables[name]
    columns = [column.name for column in table.columns]
    lines = [csv_line([safe_text(column) for column in columns])]
    lines += [csv_line([_cell(row[column]) for column in columns]) for row in _rows(table, query)]
    return name, "".join(lines)


def _rows(table: Table, query: Mapping[str, str]) -> list[dict[str, Any]]:
    found = shown(table, query, whole=True)
    return [{column.name: _plain(row.get(column.name)) for column in table.columns} for row in found.rows]


def _plain(value: Any) -> Any:
    """A value for JSON: numbers that are none are null."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value.hex() if isinstance(value, bytes) else value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple, Mapping)):
        return safe_text(json.dumps(value, ensure_ascii=False, default=str))
    return safe_text(str(value))
