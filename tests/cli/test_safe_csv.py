"""CSV for spreadsheets: no text is a formula, numbers stay numbers, and nothing reads it back unseen."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kndb.database import open_database
from kndb.errors import InputError, UsageError
from kndb.records.csv_cells import safe_text

FORMULAS = ("=1+1", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", '=HYPERLINK("http://x")', "\uff1d1")
PLAIN = ("Paris", "-1.5", "+3e-4", "1e9", "'quoted'", "a=b", "", " =1", "-.5")


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_becomes_a_text(text):
    assert safe_text(text) == f"'{text}"


@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_stay(text):
    assert safe_text(text) == text


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_a_number_stays_one(number):
    assert safe_text(repr(number)) == repr(number)


@given(st.text())
def test_nothing_begins_a_formula(text):
    safe = safe_text(text)
    assert safe in (text, f"'{text}")
    assert safe == "" or safe[0] not in "=+-@\t\r\n" or float(safe) is not None


@pytest.fixture
def hostile(place):
    """A database with facts whose texts are formulas."""
    with open_database(place / "kndb.db") as database, database.store.writing() as connection:
        connection.exec_driver_sql("INSERT INTO relation VALUES (1, '=P1', '@label')")
        rows = [(number, text, f"-o{number}") for number, text in enumerate((*FORMULAS, *PLAIN), 1) if text]
        connection.exec_driver_sql("INSERT INTO fact VALUES (?, 1, ?, ?, NULL, 's')", rows)
        connection.exec_driver_sql("INSERT INTO template VALUES (1, 1, '=[X] is [Y]', 0)")
    return place / "kndb.db"


def cells(text):
    return [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]


def is_formula(cell):
    return cell[:1] in ("=", "+", "-", "@", "\t", "\r") and safe_text(cell) != cell


@pytest.mark.parametrize(
    "words",
    [
        ("query", "facts"),
        ("query", "relations"),
        ("query", "sql", "SELECT '=1' AS \"=a\", subject, -1.5 AS number FROM fact"),
        ("db", "info"),
        ("model", "list"),
    ],
)
def test_every_answer_can_be_asked_for_without_formulas(kndb, hostile, words):
    found = cells(kndb(*words, "--format", "csv", "--safe-csv").out)
    assert not any(map(is_formula, found))
    exact = cells(kndb(*words, "--format", "csv").out)
    assert [safe_text(cell) for cell in exact] == found
    if words[1] == "sql":
        assert "'=a" in found
        assert "-1.5" in found
    if words[1] in ("facts", "relations", "sql"):
        assert any(map(is_formula, exact)), "CSV is exact unless it is asked to be safe"


def test_exports_are_safe_and_not_read_back(kndb, hostile, place):
    kndb("export", "facts", "--to", "exact.csv")
    kndb("export", "facts", "--to", "safe.csv", "--safe-csv")
    exact, safe = ((place / name).read_text(encoding="utf-8") for name in ("exact.csv", "safe.csv"))
    assert any(map(is_formula, cells(exact)))
    assert not any(map(is_formula, cells(safe)))
    assert [safe_text(cell) for cell in cells(exact)] == cells(safe)
    for words in (("ingest", "safe.csv"), ("import", "facts", "safe.csv")):
        assert "--safe-csv" in kndb(*words, "--db", "other.db", code=3).err
    kndb("ingest", "exact.csv", "--db", "other.db")
    with open_database(hostile) as database, open_database(place / "other.db") as other:
        names = [(fact.subject, fact.object) for fact in other.facts.find()]
        stripped = [(fact.subject.strip(), fact.object) for fact in database.facts.find()]
    assert names == stripped


def test_results_for_spreadsheets_are_not_imported(rich_store, tmp_path):
    import shutil

    with open_database(shutil.copytree(rich_store, tmp_path / "store", symlinks=True) / "kndb.db") as database:
        database.exchange.export_neurons(tmp_path / "neurons.csv", safe_csv=True)
        database.exchange.export_scores(tmp_path / "scores.csv", run=1, safe_csv=True)
        with pytest.raises(InputError, match="for spreadsheets"):
            database.exchange.import_neurons([tmp_path / "neurons.csv"])
        with pytest.raises(InputError, match="for spreadsheets"):
            database.exchange.import_scores(tmp_path / "scores.csv")
        with pytest.raises(UsageError, match=r"safe_csv=True is of CSV"):
            database.exchange.export_facts(tmp_path / "facts.jsonl", safe_csv=True)


def test_it_is_refused_where_no_csv_is_written(kndb, hostile):
    assert "--safe-csv is of CSV" in kndb("query", "facts", "--safe-csv", code=2).err
    assert "--safe-csv is of CSV" in kndb("query", "facts", "--safe-csv", "--format", "json", code=2).err
    # In edits, --to is no file.
    update = ("edit", "update", "--model", "lab-bert", "--fact", 1, "--to", "Rome", "--safe-csv")
    assert "--safe-csv is of CSV" in kndb(*update, code=2).err
