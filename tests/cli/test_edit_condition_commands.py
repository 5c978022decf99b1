"""`--require` on the commands that plan and apply edits, as a user meets it."""

from __future__ import annotations

import csv
import io

import pytest

PLAN = ("edit", "update", "--model", "tiny", "--rule", "output", "--max-share", 1)


@pytest.fixture
def france(use_ready, kndb_json) -> int:
    """The number of the fact that the capital of France is Paris."""
    use_ready()
    return kndb_json("query", "facts", "--relation", "P36", "--subject", "France")[0]["id"]


def test_an_edit_is_planned_and_applied_on_conditions(kndb, kndb_json, france, state):
    plan = (*PLAN, "--fact", france, "--to", "Tokyo", "--require")
    before = state()
    refused = kndb(*plan, "success>1", "--require", "held_out_success >= 50%", code=8)
    assert "Error: the edit was not stored, as 1 of 2 conditions does not hold: success 100 % (" in refused.err
    assert "> 100 % fails; held_out_success 100 % (" in refused.err
    assert state() == before
    planned = kndb(*plan, "success>=95%", "--require", "flips.others <= 1")
    assert "Planned, not applied. Apply it with: kndb edit apply 1" in planned.err
    assert "Conditions: success 100 % (" in planned.err
    assert ">= 95 % holds; flips.others " in planned.err
    shown = kndb_json("edit", "show", 1)["conditions"]
    assert [one["condition"] for one in shown["checked"]] == ["success>=0.95", "flips.others<=1.0"]
    assert ">= 95 % holds; flips.others" in kndb("edit", "show", 1).out
    before = state()
    failed = kndb("edit", "apply", 1, "--require", "score>=99%", "--require", "success>=.99", "--confident", code=8)
    assert "Error: edit 1 was not applied, as 2 of 4 conditions do not hold: score 100 % (" in failed.err
    assert "To leave out the conditions that they were planned with: kndb edit apply 1 --no-require" in failed.err
    assert state() == before
    applied = kndb("edit", "apply", 1)
    assert "Conditions: success 100 % (" in applied.err
    kndb("edit", "revert", 1)
    assert "Not checked: success >= 95 %; flips.others <= 100 %." in kndb("edit", "apply", 1, "--no-require").err
    kndb("edit", "revert", 1)
    log = kndb("edit", "log")
    assert "conditions" in log.out.splitlines()[0]
    assert [line.split("  ")[-1] for line in log.out.splitlines() if "2 held" in line or "2 not checked" in line] == [
        "2 held",
        "2 not checked",
    ]
    rows = kndb_json("edit", "log")
    assert [row["conditions"] is None for row in rows] == [False, True, False, True]
    assert [one["holds"] for one in rows[0]["conditions"]["checked"]] == [True, True]
    assert [one["condition"] for one in rows[2]["conditions"]["skipped"]] == ["success>=0.95", "flips.others<=1.0"]
    words = [row["conditions"] for row in csv.DictReader(io.StringIO(kndb("edit", "log", "--format", "csv").out))]
    assert words[2] == "success >= 95 % not checked; flips.others <= 100 % not checked"


def test_other_ways_to_plan(kndb, kndb_json, france, state, tmp_path):
    before = state()
    answers = tmp_path / "answers.csv"
    answers.write_text("relation,subject,to\nP36,France,Oslo\nP36,Italy,Lima\n", encoding="utf-8")
    of_fact = ("--model", "tiny", "--fact", france, "--to", "Tokyo", "--steps", 2, "--neighbours", 1, "--others", 0)
    several = ("--model", "tiny", "--facts", answers)
    together = ("edit", "optimize", *several, "--together", "--steps", 2, "--steps-file", tmp_path / "steps")
    for words, condition in (
        (("edit", "optimize", *of_fact), "success>1"),
        (("edit", "erase", "--model", "tiny", "--relation", "P36", "--top", 1), "remembered<0"),
        ((*PLAN, *several[2:]), "success>1"),
        (together, "success>1"),
    ):
        shown = kndb(*words, "--require", condition, "--preview", code=8)
        assert "fails" in shown.err
        assert shown.out, "the preview is printed all the same"
        if words is not together:  # Its steps are taken once.
            kndb(*words, "--require", condition, code=8)
    assert state() == before
    assert (tmp_path / "steps").exists(), "the steps are kept for another try"
    planned = kndb(*together, "--require", "success>=0")
    assert "Conditions: success " in planned.err
    assert not (tmp_path / "steps").exists()
    planned = kndb(*PLAN, *several[2:], "--require", "success>=0")
    assert "Conditions, after the last of 2 edits: success " in planned.err
    applied = kndb("edit", "apply", "2-3")
    assert "Conditions, after the last of 2 edits: success " in applied.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--require", "sucess>=1"), "did you mean success? It can be about success: prompts of the edited facts"),
        (("--require", "success>=95"), "write 95% or 0.95 for 95 percent"),
        (("--require", "success"), "a condition must be a measure, a comparison and a number of at least 0"),
        (("--confident",), "--confident needs --require"),
    ],
)
def test_what_is_refused(kndb, france, state, words, message):
    before = state()
    assert message in kndb("edit", "apply", 1, *words, code=2).err
    assert message in kndb(*PLAN, "--fact", france, "--to", "Tokyo", *words, code=2).err
    assert state() == before


def test_a_pulled_edit_says_what_it_must_meet(kndb, kndb_json, france, monkeypatch, tmp_path):
    kndb(*PLAN, "--fact", france, "--to", "Tokyo", "--require", "success>=95%")
    source = kndb_json("model", "list")[0]["source"]
    kndb("edit", "push", 1, "--out", tmp_path / "edit.kndb")
    monkeypatch.setenv("KNDB_DB", str(tmp_path / "other.db"))
    kndb("model", "add", source, "--name", "mine")
    assert "; must meet success >= 95 %" in kndb("edit", "pull", tmp_path / "edit.kndb").out
    (pulled,) = kndb_json("edit", "pull", tmp_path / "edit.kndb")
    assert pulled["conditions"]["checked"][0]["condition"] == "success>=0.95"
    assert "sender says: conditions" in kndb("edit", "show", 1).out
    assert "its conditions can't be measured: edit 1 came from another store" in kndb("edit", "apply", 1, code=8).err
    assert "Not checked: success >= 95 %." in kndb("edit", "apply", 1, "--no-require").err
