"""docs/schema.md names every table and column, and its queries run."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from kndb.store.tables import Table

HERE = Path(__file__).parent
DOCUMENT = (HERE.parents[1] / "docs" / "schema.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", DOCUMENT, re.DOTALL)


def sections() -> dict[str, str]:
    """Each table's part of the document."""
    parts = re.split(r"^#+ (.*)$", DOCUMENT.split("## Examples")[0], flags=re.MULTILINE)
    return {name: text for name, text in zip(parts[1::2], parts[2::2], strict=True) if "| column |" in text}


def test_every_table_and_column_is_documented():
    documented = {
        name: dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", text, re.MULTILINE)) for name, text in sections().items()
    }
    expected = {name: [column.name for column in table.columns] for name, table in Table.metadata.tables.items()}
    assert {name: list(columns) for name, columns in documented.items()} == expected


@pytest.mark.parametrize("name", sorted(Table.metadata.tables))
def test_what_may_be_null_is_said(name):
    lines = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", sections()[name], re.MULTILINE))
    said = {column for column, meaning in lines.items() if "NULL" in meaning}
    assert said == {column.name for column in Table.metadata.tables[name].columns if column.nullable}


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_example_queries_find_something(query, tmp_path):
    newest = max((HERE / "frozen").glob("*.sql"))
    with closing(sqlite3.connect(tmp_path / "kndb.db")) as driver:
        driver.executescript(newest.read_text(encoding="utf-8"))
        assert driver.execute(query).fetchall()


def test_there_are_examples():
    assert len(QUERIES) == 6
