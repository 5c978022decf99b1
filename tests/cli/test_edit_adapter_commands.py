"""`kndb edit export`, `kndb edit import` and `kndb edit eval --export` on the command line."""

import json
import shutil
import sys

import pytest


@pytest.fixture
def rich(rich_store, place):
    """A copy of the rich database as the current folder's `kndb.db`; edit 1 is an update, applied, and 2 an erase."""
    shutil.copy(rich_store / "kndb.db", place)
    shutil.copytree(rich_store / "kndb.objects", place / "kndb.objects")
    return place


def test_an_edit_goes_out_and_comes_in(kndb, rich):
    printed = kndb("edit", "export", 1, "--format", "peft", "--out", "adapter")
    assert "Wrote adapter: " in printed.err
    assert "value slots have the very bytes of the edit" in printed.err
    assert "never bit-exact" in printed.err
    assert "log-probabilities then differ from the edited model's by at most" in printed.err
    assert "layer" in printed.out
    found = kndb("edit", "export", 1, "--format", "peft", "--format", "json", "--out", "again").json
    assert found["edits"] == [1]
    assert found["modules"][0]["slots"] > 0
    readme = (rich / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "library_name: peft" in readme
    assert str(rich) not in readme
    assert "Paris → Rome" in readme
    kndb("edit", "revert", 1)
    printed = kndb("edit", "import", "adapter", "--model", "tiny", "--format", "peft")
    number = int(printed.out.split("edit", 1)[1].split()[0])
    assert "its sender says: France" in printed.out
    assert kndb("edit", "list", "--format", "json").json[-1]["kind"] == "capture"
    kndb("edit", "apply", number)
    kndb("edit", "eval", number, "--fact", 1, "--to", "Rome", "--sample", 2, "--export", "easyedit", "results.json")
    assert len(json.loads((rich / "results.json").read_text(encoding="utf-8"))) == 1
    assert kndb("edit", "import", "adapter", "--model", "tiny", "--format", "csv").out.startswith("parameter,")


def test_one_that_builds_on_others_says_so(kndb, rich):
    kndb("edit", "update", "--model", "tiny", "--fact", 3, "--to", "Rome", "--max-share", 1)
    number = kndb("edit", "list", "--format", "json").json[-1]["id"]
    printed = kndb("edit", "export", number, "--out", "adapter")
    assert f"kndb edit export 1 {number} --out adapter" in printed.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("export", 1, "--format", "gguf"), "--format must be peft, table, json, csv (got 'gguf')"),
        (("export", 1, "--format", "json", "--format", "csv"), "twice how to print the answer: json and csv"),
        (("export", 1, "--rank", 0), "--rank must be at least 1 (got 0)"),
    ],
)
def test_options_that_make_no_sense(kndb, rich, words, text):
    assert text in kndb("edit", *words, "--out", "adapter", code=2).err
    assert not (rich / "adapter").exists()


def test_an_evaluation_is_not_begun_where_it_can_not_be_logged(kndb, rich, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    before = len(kndb("edit", "evaluations", "--all", "--format", "json").json)
    assert "pip install 'kndb[mlflow]'" in kndb("edit", "eval", 1, "--mlflow", "editing", code=2).err
    assert len(kndb("edit", "evaluations", "--all", "--format", "json").json) == before


def test_results_are_exported_in_a_known_format_to_a_new_file(kndb, rich):
    assert "--export must be easyedit" in kndb("edit", "eval", 1, "--export", "csv", "x", code=2).err
    (rich / "there").touch()
    assert "exists already" in kndb("edit", "eval", 1, "--export", "easyedit", "there", code=2).err
