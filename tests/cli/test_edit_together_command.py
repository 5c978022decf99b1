"""`kndb edit optimize --together`, and what else a user does with its edit."""

from __future__ import annotations

import csv
import io

import pytest

ROWS = "relation,subject,to\nP36,France,Tokyo\nP36,Italy,Rome Oslo\nP37,Peru,French\n"
SHORT = ("--steps", 40, "--check", 20, "--learning-rate", 0.1, "--keep", 0.5, "--target", 0)


@pytest.fixture
def many(use_ready, tmp_path):
    """The words that plan one edit for a file of three facts."""
    use_ready()
    path = tmp_path / "answers.csv"
    path.write_text(ROWS, encoding="utf-8")
    return ("edit", "optimize", "--model", "tiny", "--facts", path, "--together")


def test_one_edit_for_a_file(kndb, kndb_json, many, state, tmp_path):
    empty = state()
    shown = kndb_json(*many, *SHORT, "--preview")
    assert [(row["subject"], row["old_answer"], row["to"]) for row in shown] == [
        ("France", "Paris", "Tokyo"),
        ("Italy", "Rome", "Rome Oslo"),
        ("Peru", "Spanish", "French"),
    ]
    assert state() == empty
    planned = kndb(*many, *SHORT, "--steps-file", tmp_path / "steps")
    assert not (tmp_path / "steps").exists()
    assert "40 steps, --success and --drift not both reached: new answers win on" in planned.err
    assert "Planned, not applied. Apply it with: kndb edit apply 1" in planned.err
    assert "what             3 facts · P36, P37" in planned.out
    assert "new answers win  on" in planned.out
    (listed,) = kndb_json("edit", "list")
    assert (listed["kind"], listed["what"], listed["applied"]) == ("together", "3 facts · P36, P37", False)
    told = kndb("edit", "show", 1)
    for line in ("P36       France   Paris    Paris       Tokyo", "P37       Peru     Spanish  Spanish     French"):
        assert line in told.out
    assert "value slots; list them with --format csv." in told.err
    slots = list(csv.DictReader(io.StringIO(kndb("edit", "show", 1, "--format", "csv").out)))
    assert len(slots) == listed["neurons"]
    kndb("edit", "apply", 1)
    assert kndb_json("edit", "diff", "base", "current", "--model", "tiny")["slots"]
    kndb("edit", "verify", 1)
    kndb("edit", "revert", 1)
    evaluation = kndb("edit", "eval", 1, "--sample", 4)
    assert "No control: the plan may change all value slots of its layers" in evaluation.err
    assert "facts_kept" in evaluation.out
    assert [row["weights"] for row in kndb_json("edit", "evaluations")] == ["edit"]
    assert [row["action"] for row in kndb_json("edit", "log")] == ["apply", "revert"]
    hasty = kndb(*many, "--steps", 1)
    assert "Warning: the new answers win on" in hasty.err
    assert "Try --steps 2, or --learning-rate" in hasty.err
    kndb("edit", "delete", 2)
    assert [row["id"] for row in kndb_json("edit", "list")] == [1]


def test_it_goes_to_a_store_without_the_facts(kndb, kndb_json, many, monkeypatch, tmp_path):
    kndb(*many, "--steps", 2)
    source = kndb_json("model", "list")[0]["source"]
    kndb("edit", "push", 1, "--out", tmp_path / "edit.kndb")
    monkeypatch.setenv("KNDB_DB", str(tmp_path / "other.db"))
    kndb("model", "add", source, "--name", "mine")
    kndb("edit", "pull", tmp_path / "edit.kndb")
    shown = kndb("edit", "show", 1).out
    assert "sender says: what" in shown
    assert [line.split() for line in shown.splitlines() if "Tokyo" in line] == [
        ["P36", "France", "Paris", "Paris", "Tokyo"]
    ]
    kndb("edit", "apply", 1)
    assert "came from another store" in kndb("edit", "eval", 1, code=8).err


def test_scopes_and_layers(kndb, kndb_json, many):
    kndb(*many, "--steps", 1, "--scope", "neurons")
    kndb(*many, "--steps", 1, "--layers", "0-1", "--neighbours", 2, "--others", 0, "--prompts", 1)
    first, second = (kndb_json("edit", "show", number)["recipe"] for number in (1, 2))
    assert (first["settings"]["scope"], first["layers"], bool(first["neurons"])) == ("neurons", [], True)
    assert (second["layers"], second["neurons"], "refinement" in second) == ([0, 1], [], False)
    assert len(second["kept_facts"].split(",")) <= 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--max-share", 0.5), "--max-share is for edits of one fact; leave it out, or leave out --together"),
        (("--neurons", 2), "--neurons is for edits of one fact"),
        (("--scope", "all"), "--scope must be one of neurons, layers (got all)"),
        (("--layers", "3-1"), "--layers must be numbers and ranges, such as 24-29 or 0,2 (got '3-1')"),
        (("--layers", "0-99999999"), "--layers must be numbers and ranges"),
        (("--layers", "2"), "--layers must be from 0 to 1 for model tiny (got 2)"),
        (("--layers", "1", "--scope", "neurons"), "--layers is of --scope layers"),
        (("--layers", "1", "--refinement", "1"), "--layers says what changes; leave out --refinement and --method"),
        (("--at-once", 0), "--at-once must be at least 1 (got 0)"),
        (("--ridge", 0), "--ridge must be a number above 0 (got 0.0)"),
        (("--prompts", 0), "--prompts must be at least 1 (got 0)"),
        (("--preview", "--list-flips"), "--list-flips needs --preview, of one fact or relation"),
    ],
)
def test_what_is_refused(kndb, many, state, words, message):
    before = state()
    assert message in kndb(*many, *words, code=2).err
    assert state() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--together",), "--together needs --facts: it plans one edit for all facts of a file"),
        (("--scope", "neurons"), "--scope needs --together, with --facts"),
        (("--steps-file", "steps"), "--steps-file needs --together, with --facts"),
    ],
)
def test_options_of_many_facts_need_them(kndb, use_ready, words, message):
    use_ready()
    outcome = kndb("edit", "optimize", "--model", "tiny", "--fact", 1, "--to", "Tokyo", *words, code=2)
    assert message in outcome.err
