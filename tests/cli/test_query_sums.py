"""`kndb query shared`, `overlap`, `layers`, `counts`, `compare`, `collateral`: what they print, what they refuse."""

import csv
import io
import re
import shutil

import pytest

from kndb.cli import output
from kndb.cli.output import OutputFormat, print_parts
from kndb.database import open_database
from kndb.errors import UsageError

USAGE, NOT_FOUND = 2, 5
TWO_PARTS = {
    "first": ([{"a": 1, "b": None, "c": 0}], ["a", "b"]),
    "second_part": ([{"d": "x"}, {"d": "y"}], ["d"]),
}


@pytest.fixture(scope="module")
def furnished(ready, tmp_path_factory):
    """A folder with a database of two refinements and an edit; only to be copied."""
    folder = tmp_path_factory.mktemp("furnished")
    shutil.copytree(ready["bert"], folder, dirs_exist_ok=True)
    with open_database(folder / "kndb.db") as database:
        database.attribution.refine(threshold=0.5)
        database.edits.plan_erase("tiny", "P36", top=3)
    return folder


@pytest.fixture
def use_furnished(furnished, place):
    shutil.copytree(furnished, place, dirs_exist_ok=True)


# --- parts ------------------------------------------------------------------------------------------------------


def test_parts_as_tables(capsys):
    print_parts(TWO_PARTS, OutputFormat.TABLE)
    assert capsys.readouterr().out.splitlines() == ["First", "a  b", "1", "", "Second part", "d", "x", "y"]
    print_parts(TWO_PARTS, OutputFormat.TABLE, "second_part")
    assert capsys.readouterr().out.splitlines() == ["d", "x", "y"]


def test_parts_as_json(capsys, monkeypatch):
    printed = []
    monkeypatch.setattr(output, "print_json", printed.append)
    print_parts(TWO_PARTS, OutputFormat.JSON)
    print_parts(TWO_PARTS, OutputFormat.JSON, "first")
    assert printed == [
        {"first": [{"a": 1, "b": None}], "second_part": [{"d": "x"}, {"d": "y"}]},
        {"first": [{"a": 1, "b": None}]},
    ]


def test_parts_as_csv(capsys):
    print_parts(TWO_PARTS, OutputFormat.CSV, "first")
    assert capsys.readouterr().out == "a,b\n1,\n"
    with pytest.raises(UsageError, match="--part: first, second_part"):
        print_parts(TWO_PARTS, OutputFormat.CSV)
    with pytest.raises(UsageError, match="--part must be one of first, second_part"):
        print_parts(TWO_PARTS, OutputFormat.JSON, "third")
    assert capsys.readouterr().out == ""


# --- the commands -----------------------------------------------------------------------------------------------

PARTS = {
    "overlap": (("query", "overlap"), ["summary", "cells"]),
    "compare": (("query", "compare", 1, 2), ["relations", "settings", "facts"]),
    "collateral": (("query", "collateral", 1), ["relations", "facts"]),
}


@pytest.mark.parametrize(("words", "names"), PARTS.values(), ids=PARTS.keys())
def test_parts_are_the_same_in_every_form(kndb, kndb_json, use_furnished, words, names):
    everything = kndb_json(*words)
    if words[1] != "compare":
        assert everything.pop("refinement")["method"] == "integrated-gradients"
    assert list(everything) == names
    for name, rows in everything.items():
        assert rows
        assert kndb_json(*words, "--part", name) == {name: rows}
        header, *lines = csv.reader(io.StringIO(kndb(*words, "--part", name, "--format", "csv").out))
        assert header == list(rows[0])
        assert len(lines) == len(rows)
        assert len(kndb(*words, "--part", name).out.splitlines()) == len(rows) + 1
    titles = [line for line in kndb(*words).out.splitlines() if line in {name.capitalize() for name in names}]
    assert titles == [name.capitalize() for name in names]
    for extra in (["--format", "csv"], ["--part", "none"]):
        assert ", ".join(names) in kndb(*words, *extra, code=USAGE).err


@pytest.mark.parametrize("words", [("query", "counts"), ("query", "layers")], ids=lambda words: words[1])
def test_all_relations_are_named_all_in_tables_alone(kndb, kndb_json, use_furnished, words):
    rows = kndb_json(*words)
    assert rows[-1]["relation"] is None
    assert kndb(*words).out.splitlines()[-1].startswith("all ")
    assert kndb(*words, "--format", "csv").out.splitlines()[-1].startswith(",")


def test_layers_by_relation(kndb_json, use_furnished):
    rows = kndb_json("query", "layers", "--by-relation")
    assert [(row["relation"], row["layer"]) for row in rows] == [("P36", 0), ("P36", 1), ("P37", 0), ("P37", 1)]
    together = kndb_json("query", "layers")
    assert [row["pairs"] for row in together] == [rows[n]["pairs"] + rows[n + 2]["pairs"] for n in (0, 1)]


def test_shared_between_and_across(kndb_json, use_furnished):
    between = kndb_json("query", "shared", "--between", "P36", "P37")
    assert between == kndb_json("query", "shared", "--across", 2)
    assert between == kndb_json("query", "shared", "--relation", "P37", "--relation", "P36", "--across", 2)
    every = kndb_json("query", "shared", "--across", 1)
    assert between == [row for row in every if len(row["relations"]) == 2]
    assert between


TITLE = r"Refinement {} of run 1 \(integrated-gradients, tiny v[0-9a-f]{{11}}\)\.\n"


def test_remarks(kndb, place, use_furnished):
    assert re.fullmatch(TITLE.format(2), kndb("query", "counts").err)
    assert re.fullmatch(TITLE.format(1), kndb("query", "counts", "--refinement", 1).err)
    (place / "more.jsonl").write_text('{"relation": "P50", "subject": "Faust", "object": "Goethe"}', encoding="utf-8")
    kndb("ingest", "more.jsonl")
    outcome = kndb("query", "counts", "--relation", "P50", "--relation", "P36")
    assert "It has no attributed facts of P50; get them with: kndb attribute --model tiny --relation P50" in outcome.err
    assert "no fact" in kndb("query", "compare", 1, 2, "--relation", "P50").err.lower()
    touched = kndb("query", "collateral", 1, "--format", "json")
    facts, relations = (len(touched.json[name]) for name in ("facts", "relations"))
    assert re.match(TITLE.format(2) + f"3 value slots, held by {facts} fact", touched.err)
    assert f"of {relations} relation" in touched.err


def test_limit(kndb_json, use_furnished):
    for words in (("query", "collateral", 1), ("query", "compare", 1, 2)):
        limited, everything = kndb_json(*words, "--limit", 2), kndb_json(*words)
        assert limited["facts"] == everything["facts"][:2]
        assert len(everything["facts"]) > 2
        assert limited["relations"] == everything["relations"]


REFUSED = [
    (USAGE, ["--relation, --across and --between is required"], "shared"),
    (USAGE, ["--between goes without --relation"], "shared --between P36 P37 --relation P36"),
    (USAGE, ["--between goes without --across"], "shared --between P36 P37 --across 2"),
    (USAGE, ["two different relations"], "shared --between P36 P36"),
    (USAGE, ["--across 3 needs at least 3 relations .2 given"], "shared --relation P36 --relation P37 --across 3"),
    (USAGE, ["--across must be at least 1", "got 0"], "shared --across 0"),
    (NOT_FOUND, ["'P99'"], "shared --between P36 P99"),
    (NOT_FOUND, ["'P99'"], "overlap --relation P99"),
    (NOT_FOUND, ["'P99'"], "layers --relation P99"),
    (NOT_FOUND, ["'P99'"], "counts --relation P99"),
    (NOT_FOUND, ["'P99'"], "compare 1 2 --relation P99"),
    (NOT_FOUND, ["refinement 9; there are 1 and 2"], "compare 1 9"),
    (NOT_FOUND, ["refinement 9; there are 1 and 2"], "overlap --refinement 9"),
    (NOT_FOUND, ["edit.* 9", "kndb edit list"], "collateral 9"),
    (NOT_FOUND, ["edit.* 9"], "collateral 9 --refinement 1"),
    (USAGE, ["name one edit by its number", "got 1 L0.N1"], "collateral 1 L0.N1"),
    (USAGE, ["'first' is not a neuron"], "collateral first"),
    (USAGE, ["L2.N0", "L1.N63"], "collateral L0.N1 L2.N0"),
    (USAGE, ["--limit must be at least 1", "got 0"], "collateral 1 --limit 0"),
    (USAGE, ["--limit must be at least 1", "got 0"], "compare 1 2 --limit 0"),
]


@pytest.mark.parametrize(("code", "parts", "words"), REFUSED, ids=[row[2] for row in REFUSED])
def test_refused(kndb, use_furnished, code, parts, words):
    outcome = kndb("query", *words.split(), code=code)
    assert outcome.out == ""
    for part in parts:
        assert re.search(part, outcome.err), outcome.err
