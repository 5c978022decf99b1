"""Tables in three formats: what is written is read back, exactly."""

import json
import sys

import pytest

from kndb.errors import InputError, UsageError
from kndb.exchange import tables
from kndb.exchange.columns import FACTS, SCORES

SUFFIXES = tuple(tables.FORMATS)
HARD = ["plain", 'a "quote", a comma', "line\nbreak", "\rlone\r", "tab\t", "ünï\u2028", " spaces ", "[1]", "null", "1"]


def full(columns, **values):
    return {column.name: values.get(column.name) for column in columns}


def rows():
    floats = [0.1, 1 / 3, 5e-324, -1.7976931348623157e308, 2.0, 1e22]
    for number, text in enumerate(HARD):
        yield full(
            SCORES,
            relation="P1",
            subject=None if number % 2 else text,
            object=text,
            prompt=f"{text} [Y]",
            probability=floats[number % len(floats)],
            correct=[True, False, None][number % 3],
            tokens=number,
            scores=[[layer, number, value] for layer, value in enumerate(floats)],
        )
    yield full(SCORES, relation="P1", object="o", prompt="p", scores=[])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read_back(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    expected = list(rows())
    assert tables.write(path, suffix, SCORES, rows()) == len(expected)
    found = list(tables.read(path, SCORES))
    assert [row for _, row in found] == expected
    assert [place for place, _ in found] == sorted({place for place, _ in found})
    assert all(type(row["tokens"]) in (int, type(None)) for _, row in found)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_lists_of_texts_and_empty_tables(tmp_path, suffix):
    row = full(FACTS, relation="P1", object="o", sentences=HARD)
    tables.write(tmp_path / f"t{suffix}", suffix, FACTS, [row])
    assert [found for _, found in tables.read(tmp_path / f"t{suffix}", FACTS)] == [row]
    assert tables.write(tmp_path / f"e{suffix}", suffix, FACTS, []) == 0
    assert list(tables.read(tmp_path / f"e{suffix}", FACTS)) == []


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("t.csv", "relation\nP1\n", "column '[a-z_]+' is missing"),
        ("t.csv", "", "it is empty"),
        ("t.jsonl", "{", "t.jsonl:1: not valid JSON"),
        ("t.jsonl", "[]\n", r"must be one JSON object \(got \[\]\)"),
        ("t.jsonl", json.dumps({"tokens": "x"}), "'tokens' must be a whole number"),
        ("t.jsonl", json.dumps({"scores": [[0, 1]]}), "'scores'"),
        ("t.jsonl", json.dumps({"correct": 1}), "'correct' must be true or false"),
        ("t.parquet", "nonsense", "Parquet"),
        ("t.txt", "", r"\.csv, \.jsonl or \.parquet"),
    ],
)
def test_what_is_no_such_table(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=reason):
        list(tables.read(path, SCORES))


def test_csv_cells_of_another_kind(tmp_path):
    path = tmp_path / "t.csv"
    tables.write(path, ".csv", SCORES, [full(SCORES, relation="P1", tokens=3)])
    path.write_text(path.read_text(encoding="utf-8").replace(",3,", ",x,"), encoding="utf-8")
    with pytest.raises(InputError, match=r"t\.csv:2: 'tokens' must be a whole number \(got 'x'\)"):
        list(tables.read(path, SCORES))


def test_a_parquet_file_of_other_columns(tmp_path):
    path = tmp_path / "t.parquet"
    tables.write(path, ".parquet", FACTS, [full(FACTS, relation="P1")])
    with pytest.raises(InputError, match="the column 'prompt' is missing"):
        list(tables.read(path, SCORES))


def test_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'kndb\[parquet\]'"):
        tables.write(tmp_path / "t.parquet", ".parquet", FACTS, [])


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"t\.txt: .* end in \.csv, \.jsonl or \.parquet"):
        tables.require_suffix(tmp_path / "t.txt")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("tokens", 10**30),
        ("tokens", -1),
        ("probability", float("nan")),
        ("max_score", 10**400),
        ("predicted", "half a pair: \ud800"),
        ("scores", [[0, 1, float("inf")]]),
        ("scores", [[0, 1, None]]),
        ("layers_above", [[0, 1, 2]]),
    ],
)
def test_what_no_store_can_hold_is_refused(tmp_path, column, value):
    row = full(SCORES, relation="P1", object="o", prompt="p", scores=[])
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps({**row, column: value}) + "\n")
    with pytest.raises(InputError, match=rf"t\.jsonl:2: '{column}' must be "):
        list(tables.read(path, SCORES))
