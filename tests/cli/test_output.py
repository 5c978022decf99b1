"""Data goes to stdout, in the form asked for; remarks go to stderr; readers and users may leave at any time."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys

import pytest

from kndb.cli import main, output
from kndb.database import open_database
from kndb.database.facts import FactCommands

QUESTION = "The capital city of France is called [MASK]."
LISTS = {
    "model list": ("model", "list"),
    "query shared": ("query", "shared", "--relation", "P36", "--relation", "P37"),
    "query facts": ("query", "facts"),
    "query neurons": ("query", "neurons", 1),
    "query relations": ("query", "relations"),
    "query runs": ("query", "runs"),
    "query refinements": ("query", "refinements"),
    "edit list": ("edit", "list"),
    "edit log": ("edit", "log"),
    "snapshot list": ("snapshot", "list"),
    "ask": ("ask", "--model", "tiny", QUESTION),
    "refine": ("refine",),
    "methods": ("methods",),
}
RECORDS = {
    "model show": ("model", "show", "tiny"),
    "db info": ("db", "info"),
    "db check": ("db", "check"),
    "db init": ("db", "init"),
    "db upgrade": ("db", "upgrade"),
    "edit show": ("edit", "show", 1),
    "attribute": ("attribute", "--model", "tiny"),
}


@pytest.fixture(scope="module")
def furnished(ready, tmp_path_factory):
    """A folder with a database that has something to show for each command; only to be copied."""
    folder = tmp_path_factory.mktemp("furnished")
    shutil.copytree(ready["bert"], folder, dirs_exist_ok=True)
    with open_database(folder / "kndb.db") as database:
        database.edits.plan_erase("tiny", "P36", top=3)
        database.edits.apply(1)
        database.snapshots.create("without-capitals", "tiny")
        database.edits.revert(1)
    return folder


@pytest.fixture
def use_furnished(furnished, place):
    shutil.copytree(furnished, place, dirs_exist_ok=True)


def table(text):
    rows = list(csv.reader(io.StringIO(text)))
    assert {len(row) for row in rows} == {len(rows[0])}
    return rows


@pytest.mark.parametrize("words", LISTS.values(), ids=LISTS.keys())
def test_a_list_is_the_same_in_every_form(kndb, use_furnished, words):
    parsed = kndb(*words, "--format", "json").json
    assert parsed
    header, *rows = table(kndb(*words, "--format", "csv").out)
    assert len(rows) == len(parsed)
    for record, row in zip(parsed, rows, strict=True):
        assert list(record) == header
        for name, cell in zip(header, row, strict=True):
            same(record[name], cell, volatile=name in ("id", "refinement", "created_at"))
    lines = kndb(*words).out.splitlines()
    titles = len({row["model"] for row in parsed}) if words == ("query", "refinements") else 0
    assert len(lines) == len(parsed) + 1 + titles  # piped, no row is broken


def same(value, cell, *, volatile):
    if volatile:
        assert cell
    elif value is None:
        assert cell == ""
    elif isinstance(value, bool):
        assert cell == ("yes" if value else "no")
    elif isinstance(value, (int, float)):
        assert float(cell) == value
    elif isinstance(value, str):
        assert cell == value
    else:
        assert json.loads(cell) == value


@pytest.mark.parametrize("words", RECORDS.values(), ids=RECORDS.keys())
def test_a_record_is_an_object_and_a_row(kndb, use_furnished, words):
    parsed = kndb(*words, "--format", "json").json
    assert isinstance(parsed, dict)
    rows = table(kndb(*words, "--format", "csv").out)
    if words[:2] == ("edit", "show"):
        assert rows[0] == ["neuron", "length_before", "length_after"]
        assert len(rows) == 1 + parsed["neurons"] == 1 + len(parsed["slots"])
    else:
        assert rows[0] == list(parsed)
        assert len(rows) == 2
    assert len(kndb(*words).out.splitlines()) >= len(parsed) - 1


def test_evaluation_in_every_form(kndb, use_furnished):
    parsed = kndb("edit", "eval", 1, "--sample", 2, "--format", "json").json
    header, *rows = table(kndb("edit", "eval", 1, "--sample", 2, "--format", "csv").out)
    assert header == ["group", "measure", "edit", "low", "high", "random_neurons", "random_low", "random_high"]
    measures = parsed["measures"]
    for group, measure, edit, *ends, control, random_low, random_high in rows:
        assert float(edit) == measures["edited"][group][measure]
        assert float(control) == measures["control"][group][measure]
        for weights, found in (("edited", ends), ("control", [random_low, random_high])):
            expected = measures["intervals"][weights][group].get(measure, ["", ""])
            assert [float(end) if end else "" for end in found] == expected
    groups = {"summary", "own", "own_held_out", "inter"}
    assert {row[0] for row in rows} == parsed["measures"]["edited"].keys() == groups


def test_remarks_are_on_stderr(kndb, use_furnished):
    shared = kndb("query", "shared", "--relation", "P36", "--format", "csv")
    assert shared.err.startswith("Refinement 1 of run 1 (integrated-gradients, tiny v")
    assert shared.err.count("\n") == 1
    assert shared.out.startswith("name,layer,neuron,facts,share,relations\n")
    restored = kndb("snapshot", "restore", "without-capitals", "--model", "tiny", "--format", "json")
    assert restored.err.startswith("Model tiny is at v")
    assert len(restored.json) == 1
    assert kndb("query", "facts", "--format", "json").err == ""


def test_neither_emoji_nor_markup_is_read_into_text(capsys):
    output.note("facts.jsonl:100: found [bold] and :smile:")
    output.print_rows([{"name": ":100: [red]"}], ["name"], output.OutputFormat.TABLE)
    output.print_text("x:100: [/b]")
    out, err = capsys.readouterr()
    assert err == "facts.jsonl:100: found [bold] and :smile:\n"
    assert out.split("\n")[1:] == [":100: [red]", "x:100: [/b]", ""]


def test_cells():
    assert output._cell(None) == output._cell(float("nan")) == ""
    assert output._cell(0.123456) == "0.1235"
    assert output._cell(0.1 + 0.2, exact=True) == "0.30000000000000004"
    assert output._cell({"P36": 2, "P37": 1}) == "P36 2, P37 1"
    assert json.loads(output._cell({"a": float("inf")}, exact=True)) == {"a": None}
    assert output._cell([1, None]) == "1, "


def test_numbers_that_are_none_become_null(capsys):
    output.print_json({"mean": float("nan"), "rows": [float("inf"), 1.5], "é": "ü"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"mean": None, "rows": [None, 1.5], "é": "ü"}
    assert "é" in out


def test_interrupt(kndb, place, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    kndb("db", "init")
    monkeypatch.setattr(FactCommands, "relations", interrupted)
    outcome = kndb("query", "relations", code=main.INTERRUPTED)
    assert outcome.out == ""
    assert "Interrupted" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize("form", ["json", "csv", "table"])
@pytest.mark.parametrize("read", [0, 10])
def test_a_reader_who_leaves(kndb, place, form, read):
    lines = (json.dumps({"relation": "P1", "subject": f"subject {n}", "object": "o"}) for n in range(3000))
    (place / "many.jsonl").write_text("\n".join(lines), encoding="utf-8")
    kndb("ingest", "many.jsonl")
    command = [sys.executable, "-m", "kndb.cli.main", "query", "facts", "--format", form]
    # Unbuffered, Python itself drops the rest of a write that a pipe takes only partly, and says nothing.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, cwd=place, env=environment) as process:
        os.read(process.stdout.fileno(), read)
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=300) == main.BROKEN_PIPE
    assert err == b""


def test_version_and_help(kndb):
    from kndb import __version__

    assert kndb("--version").out == f"kndb {__version__}\n"
    assert "kndb docs commands" in kndb("--help").out
    assert "Usage" in kndb("query", code=2).out + kndb("query", code=2).err


def test_the_database_is_named_by_option_environment_or_folder(kndb, place, monkeypatch):
    assert kndb("db", "info", "--db", place / "a.db", code=4).out == ""
    for words in (("--db", place / "a.db"), ("--db", f"sqlite:///{place}/b.db"), ("--db", "sqlite:///c.db")):
        kndb("db", "init", *words)
    monkeypatch.setenv("KNDB_DB", str(place / "d.db"))
    kndb("db", "init")
    monkeypatch.delenv("KNDB_DB")
    kndb("db", "init")
    assert {path.name for path in place.glob("*.db")} == {"a.db", "b.db", "c.db", "d.db", "kndb.db"}


def test_backup_is_a_database_of_its_own(kndb, kndb_json, use_furnished, place):
    kndb("db", "backup", "copy.db")
    assert kndb_json("edit", "list", "--db", "copy.db") == kndb_json("edit", "list")
    assert kndb_json("db", "check", "--db", "copy.db")["sound"] is True
    kndb("db", "backup", "copy.db", code=4)
    kndb("db", "backup", "copy.db", "--overwrite")


def test_repair_removes_left_over_files(kndb, kndb_json, use_furnished, place):
    orphan = place / "kndb.objects" / "ab" / "left-over.tmp"
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(b"x")
    found = kndb("db", "check", "--format", "json")
    assert (found.json["sound"], found.json["orphans"]) == (True, [str(orphan)])
    assert "kndb db check --repair" in found.err
    assert orphan.exists()
    assert kndb_json("db", "check", "--repair")["repaired"] == [str(orphan)]
    assert not orphan.exists()
    assert kndb_json("db", "check")["orphans"] == []
