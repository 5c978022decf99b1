"""`kndb test`, `kndb edit bisect` and `kndb blame`: what they print, and how they end."""

from __future__ import annotations

import csv
import io
import json
import shutil
from xml.etree import ElementTree

import pytest

from kndb.database import open_database
from kndb.records.edit_settings import UpdateSettings

USAGE, INPUT, NOT_FOUND, MODEL, OUTPUT, FAILED = 2, 3, 5, 6, 10, 11
ROWS = [
    {"name": "France", "prompt": "The capital city of France is called [Y].", "answer": "Paris"},
    {"name": "Italy", "prompt": "The capital city of Italy is called [MASK].", "answer": ["Roma", "Rome"]},
    {"name": "no Oslo", "prompt": "France is governed from [Y].", "not": "Oslo"},
]


@pytest.fixture(scope="module")
def edited_folder(ready, tmp_path_factory):
    """A folder of edits 1 (France's capital is Oslo) and 2 (Peru's is Rome), applied, and files of tests."""
    folder = tmp_path_factory.mktemp("edited") / "place"
    shutil.copytree(ready["bert"], folder)
    (folder / "tests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    (folder / "bad.jsonl").write_text('{"fact": 1}\n{"fact": 2, "anser": "x"}\n', encoding="utf-8")
    with open_database(folder / "kndb.db") as database, pytest.MonkeyPatch.context() as patch:
        for author, subject, answer in (("ada", "France", "Oslo"), ("bob", "Peru", "Rome")):
            patch.setenv("KNDB_AUTHOR", author)
            fact = database.facts.find(["P36"], subject=subject)[0].id
            database.edits.apply(database.edits.plan_update("tiny", fact, answer, UpdateSettings(max_share=1)).id)
    return folder


@pytest.fixture
def edited(edited_folder, place):
    """A copy of it is the current folder; the first edit breaks two of the three tests."""
    shutil.copytree(edited_folder, place, dirs_exist_ok=True)


def test_failures_are_printed_with_what_was_answered(edited, kndb, kndb_json, place):
    at_base = kndb("test", "tests.jsonl", "--model", "tiny", "--version", "base")
    assert at_base.out == ""
    assert "tiny, base (v" in at_base.err
    assert "3 of 3 tests passed." in at_base.err
    found = kndb("test", "tests.jsonl", "--model", "tiny", "--junit", "out.xml", code=FAILED)
    assert "answers 'Oslo' (" in found.out
    assert "Italy" not in found.out
    assert "Error: knowledge tests of tiny did not pass: 2 at current (v" in found.err
    assert "Italy" in kndb("test", "tests.jsonl", "--model", "tiny", "--all", code=FAILED).out
    root = ElementTree.parse(place / "out.xml").getroot()
    assert root.attrib == {"tests": "3", "failures": "2", "errors": "0", "skipped": "0"}
    rows = json.loads(kndb("test", "tests.jsonl", "--model", "tiny", "--format", "json", code=FAILED).out)
    assert [(row["name"], row["status"]) for row in rows] == [
        ("France", "failed"),
        ("Italy", "passed"),
        ("no Oslo", "failed"),
    ]
    assert rows[0]["answered"] != "Paris"
    assert rows[2]["answered"] == "Oslo"
    assert 0 < rows[0]["probability"] < rows[0]["answered_probability"] < 1
    both = kndb("test", "tests.jsonl", "--model", "tiny", "--version", "base", "--version", "current", code=FAILED)
    assert "3 of 3 tests passed" in both.err
    assert "1 of 3 tests passed, 2 failed" in both.err
    only = kndb("test", "tests.jsonl", "--model", "tiny", "--only", "Italy", "--format", "csv")
    assert [row["name"] for row in csv.DictReader(io.StringIO(only.out))] == ["Italy"]


def test_what_can_not_be_asked_fails_too(use_ready, kndb, place):
    use_ready()
    (place / "tests.csv").write_text("prompt;answer;fact\nIt is [Y].;[MASK];\n;;77\n", encoding="utf-8")
    found = kndb("test", "tests.csv", "--model", "tiny", code=FAILED)
    assert "0 of 2 tests passed, 2 could not be asked." in found.err
    assert "the store has no such fact: fact 77" in found.out
    assert [row["name"] for row in kndb_list(kndb, "tests.csv")] == ["line 2", "line 3"]


def kndb_list(kndb, name):
    return json.loads(kndb("test", name, "--list", "--format", "json").out)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["test", "--model", "tiny"], USAGE, "FILE is missing"),
        (["test", "tests.jsonl"], USAGE, "--model is missing"),
        (["test", "tests.jsonl", "--model", "tiny", "--seed", 1], USAGE, "go with --write"),
        (["test", "tests.jsonl", "--model", "tiny", "--write", "out.jsonl"], USAGE, "takes no FILE"),
        (["test", "--write", "out.jsonl"], USAGE, "--model is missing"),
        (
            ["test", "--write", "out.jsonl", "--model", "tiny", "--version", "base", "--version", "base"],
            USAGE,
            "2 given",
        ),
        (["test", "--write", "out.jsonl", "--model", "tiny", "--version", "base"], USAGE, "has no edit"),
        (["test", "tests.jsonl", "--model", "tiny", "--only", "Frence"], USAGE, "did you mean 'France'?"),
        (["test", "none.jsonl", "--model", "tiny"], INPUT, "there is no such file"),
        (["test", "bad.jsonl", "--model", "tiny"], INPUT, "bad.jsonl:2: 'anser' is no field of a test; did you mean"),
        (["test", "tests.jsonl", "--model", "tiny", "--most-bytes", 5], INPUT, "--most-bytes"),
        (["test", "tests.jsonl", "--model", "tiny", "--version", "nowhere"], NOT_FOUND, "no version 'nowhere'"),
        (["test", "tests.jsonl", "--model", "nobody"], NOT_FOUND, "nobody"),
        (["test", "tests.jsonl", "--model", "tiny", "--version", "base", "--junit", "no/out.xml"], OUTPUT, "out.xml"),
        (["test", "--write", "tests.jsonl", "--model", "tiny"], OUTPUT, "is there already"),
        (["edit", "bisect", "--test", "tests.jsonl", "--model", "tiny", "--part", "steps"], USAGE, "add --all"),
        (["edit", "bisect", "--test", "tests.jsonl", "--model", "tiny", "--all", "--format", "csv"], USAGE, "--part"),
        (["edit", "bisect", "--test", "tests.jsonl", "--model", "tiny", "--to", "base"], USAGE, "same weights"),
        (["edit", "bisect", "--test", "tests.jsonl", "--model", "tiny", "--only", "Italy"], FAILED, "no test broke"),
        (["blame", "--model", "tiny"], USAGE, "there is no slot to look at"),
        (["blame", "L0.N64", "--model", "tiny"], USAGE, "has no neuron L0.N64"),
        (["blame", "--edit", 9, "--model", "tiny"], NOT_FOUND, "no edit 9"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_what_is_asked_wrongly_is_said(edited, kndb, words, code, said):
    assert said in kndb(*words, code=code).err


def test_bisect_names_the_step(edited, kndb, kndb_json, state):
    before = state()
    found = kndb_json("edit", "bisect", "--test", "tests.jsonl", "--model", "tiny")
    assert (found["edit"], found["does"], found["planned_by"], found["who"]) == (1, "apply", "ada", "ada")
    assert [one["name"] for one in found["broken"]] == ["France", "no Oslo"]
    assert (found["steps"], found["broke_later"], found["left_out"]) == (2, [], [])
    table = kndb("edit", "bisect", "--test", "tests.jsonl", "--model", "tiny")
    assert "apply edit 1 (France · P36 · Paris → Oslo) broke 2 tests." in table.err
    out = kndb("edit", "bisect", "--test", "tests.jsonl", "--model", "tiny", "--format", "csv").out
    assert [row["test_name"] for row in csv.DictReader(io.StringIO(out))] == ["France", "no Oslo"]
    matrix = kndb_json("edit", "bisect", "--test", "tests.jsonl", "--model", "tiny", "--all")
    first, second = (str(step["step"]) for step in matrix["steps"])
    assert matrix["tests"][0] == {"name": "France", "start": "pass", first: "FAIL", second: "FAIL"}
    assert matrix["tests"][1] == {"name": "Italy", "start": "pass", first: "pass", second: "pass"}
    assert state() == before


def test_a_suite_of_the_edits_passes_and_notices_a_revert(edited, kndb, place):
    written = kndb("test", "--write", "suite.jsonl", "--model", "tiny")
    assert "of edited facts" in written.err
    kndb("test", "suite.jsonl", "--model", "tiny")
    kndb("edit", "revert", 2)
    assert "not 'Rome'" in kndb("test", "suite.jsonl", "--model", "tiny", code=FAILED).out
    kndb("test", "--write", "suite.jsonl", "--model", "tiny", "--force", "--neighbours", 0)
    assert "Peru" not in (place / "suite.jsonl").read_text(encoding="utf-8")


def test_blame_says_who_wrote_and_that_nobody_did(edited, kndb, kndb_json):
    rows = kndb_json("blame", "--edit", 1, "--model", "tiny")
    assert {row["applied_by"] for row in rows if row["edit"] == 1} == {"ada"}
    assert "in effect" in {row["status"] for row in rows}
    touched = {row["slot"] for row in rows}
    free = next(f"L0.N{number}" for number in range(64) if f"L0.N{number}" not in touched)
    nothing = kndb("blame", free, "--model", "tiny")
    if "in effect" not in nothing.out:
        assert "No edit wrote any of them" in nothing.err
