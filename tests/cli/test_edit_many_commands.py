"""`kndb edit rome`, `memit`, `alphaedit`, `emmet` and `finetune`, and what else a user does with their edits."""

from __future__ import annotations

import csv
import io

import pytest

ROWS = "relation,subject,to\nP36,France,Tokyo\nP36,Italy,Rome Oslo\nP37,Peru,French\n"
QUICK = ("--layers", 1, "--token", "answer", "--target-steps", 3)
BY = {
    "memit": (*QUICK, "--preserve", 0.1, "--keys", "each", "--rounds", 1),
    "alphaedit": (*QUICK, "--threshold", 100, "--damping", 0.1),
    "emmet": (*QUICK, "--slack", 0.1, "--ridge", 0.1),
    "finetune": ("--layers", 1, "--steps", 2, "--at-once", 4, "--probability", 0.5, "--bound", 5),
    "rome": ("--layers", 0, "--target-steps", 3, "--essence", 0, "--target-decay", 0),
}


@pytest.fixture
def facts(use_ready, tmp_path):
    """The words that name the model and a file of three facts."""
    use_ready()
    path = tmp_path / "answers.csv"
    path.write_text(ROWS, encoding="utf-8")
    return ("--model", "tiny", "--facts", path)


@pytest.mark.parametrize("method", ["memit", "alphaedit", "emmet", "finetune"])
def test_one_edit_for_a_file(kndb, kndb_json, facts, state, method):
    empty = state()
    words = ("edit", method, *facts, *BY[method])
    shown = kndb(*words, "--preview", "--format", "csv")
    assert "A preview of one edit of 3 facts; nothing was stored." in shown.err
    assert [(row["subject"], row["old_answer"], row["to"]) for row in csv.DictReader(io.StringIO(shown.out))] == [
        ("France", "Paris", "Tokyo"),
        ("Italy", "Rome", "Rome Oslo"),
        ("Peru", "Spanish", "French"),
    ]
    assert state() == empty
    planned = kndb(*words)
    assert "Planned, not applied. Apply it with: kndb edit apply 1" in planned.err
    assert ("texts (facts that are not edited)." in planned.err) is (method != "finetune")
    assert "what             3 facts: P36 2, P37 1" in planned.out
    place = "" if method == "finetune" else ", at the place of the answer"
    assert f"changes          layer 1{place}" in planned.out
    assert "new answers win  on" in planned.out
    (listed,) = kndb_json("edit", "list")
    assert (listed["kind"], listed["what"], listed["applied"]) == (method, "3 facts: P36 2, P37 1", False)
    told = kndb("edit", "show", 1)
    for line in ("P36       France   Paris    Paris       Tokyo", "P37       Peru     Spanish  Spanish     French"):
        assert line in told.out
    assert "value slots; list them with --format csv." in told.err
    slots = list(csv.DictReader(io.StringIO(kndb("edit", "show", 1, "--format", "csv").out)))
    assert len(slots) == listed["neurons"]


def test_what_a_user_does_with_the_edit(kndb, kndb_json, facts, tmp_path):
    kndb("edit", "memit", *facts, *BY["memit"], "--targets-file", tmp_path / "targets")
    assert not (tmp_path / "targets").exists()
    kndb("edit", "apply", 1)
    assert kndb_json("edit", "diff", "base", "current", "--model", "tiny")["slots"]
    kndb("edit", "verify", 1)
    kndb("edit", "revert", 1)
    evaluation = kndb("edit", "eval", 1, "--sample", 4)
    assert "No control: the plan may change all value slots of its layers" in evaluation.err
    assert [row["weights"] for row in kndb_json("edit", "evaluations")] == ["edit"]
    assert [row["action"] for row in kndb_json("edit", "log")] == ["apply", "revert"]
    kndb("snapshot", "create", "none", "--model", "tiny")
    kndb("edit", "apply", 1)
    kndb("report", "--model", "tiny", "--out", tmp_path / "report")
    recipe = kndb_json("edit", "show", 1)["recipe"]
    assert (recipe["settings"]["method"], recipe["settings"]["layers"]) == ("memit", [1])
    kndb("edit", "memit", *facts, *BY["memit"], "--seed", 1)
    kndb("edit", "delete", 2)
    assert [row["id"] for row in kndb_json("edit", "list")] == [1]


def test_one_fact(kndb, kndb_json, facts):
    (france,) = kndb_json("query", "facts", "--subject", "France", "--relation", "P36")
    one = ("--model", "tiny", "--fact", france["id"], "--to", "Tokyo")
    kndb("edit", "rome", *one, *BY["rome"])
    kndb("edit", "memit", *one, *BY["memit"])
    assert [row["what"] for row in kndb_json("edit", "list")] == ["France · P36 · Paris → Tokyo"] * 2
    assert "--fact and --to are both required" in kndb("edit", "rome", "--model", "tiny", code=2).err


@pytest.mark.parametrize("method", ["rome", "alphaedit", "optimize"])
def test_batches(kndb, kndb_json, facts, state, method):
    """ROME plans each fact of a file alone."""
    own = ("--together", "--layers", 1, "--steps", 1) if method == "optimize" else BY[method]
    words = ("edit", method, *facts, *own, *(() if method == "rome" else ("--batch-size", 2)))
    empty, count = state(), 3 if method == "rome" else 2
    previewed = kndb(*words, "--preview")
    assert f"A preview of {count} edits together, of 3 facts; nothing was stored." in previewed.err
    assert state() == empty
    planned = kndb(*words)
    assert f"Planned {count} edits, each on the ones before it; not applied." in planned.err
    assert f"Apply them with: kndb edit apply 1-{count}" in planned.err
    rows = kndb_json("edit", "list")
    assert len(rows) == count
    assert len({row["base_version"] for row in rows}) == count
    kndb("edit", "apply", f"1-{count}")
    kndb("edit", "revert", f"1-{count}")


def test_layers_are_tried(kndb, kndb_json, facts):
    words = ("edit", "emmet", *facts, "--layers", "auto", "--validation", 1, "--target-steps", 2, "--slack", 0.1)
    planned = kndb(*words, "--batch-size", 2)
    tried = [line for line in planned.err.splitlines() if line.startswith("Tried layer")]
    assert len(tried) == 4
    assert all("new answers win on" in line and "other answers stay on" in line for line in tried)
    first, second = (kndb_json("edit", "show", number)["recipe"] for number in (1, 2))
    assert first["tried"] == second["tried"]
    best = first["tried"][0]
    assert (first["settings"]["layers"], first["settings"]["token"]) == (best["layers"], best["token"])


@pytest.mark.parametrize(
    ("method", "words", "message"),
    [
        ("memit", ("--validation", 0.5), "--validation needs --layers auto"),
        (
            "memit",
            ("--layers", "auto", "--validation", 2),
            "--validation must be a number above 0, at most 1 (got 2.0)",
        ),
        ("memit", ("--layers", "x"), "--layers must be numbers and ranges, such as 24-29 or 0,2 (got 'x')"),
        ("memit", ("--token", "last"), "--token must be subject or answer (got last)"),
        ("memit", ("--preserve", 0), "--preserve must be a number above 0 (got 0.0)"),
        ("memit", ("--batch-size", 0), "--batch-size must be at least 1 (got 0)"),
        ("memit", ("--target-steps", 0), "--target-steps must be at least 1 (got 0)"),
        ("memit", ("--target-at-once", 0), "--target-at-once must be at least 1 (got 0)"),
        ("emmet", ("--slack", -1), "--slack must be a number of at least 0 (got -1.0)"),
        ("alphaedit", ("--damping", 0), "--damping must be a number above 0 (got 0.0)"),
        ("finetune", ("--layers", "0-1"), "--layers must be one layer (got 0, 1)"),
        ("rome", ("--layers", "0-1"), "--layers must be one layer (got 0, 1)"),
        ("finetune", ("--at-once", 0), "--at-once must be at least 1 (got 0)"),
        ("memit", ("--fact", 1), "--facts goes without --fact and --to"),
    ],
)
def test_what_is_refused(kndb, facts, state, method, words, message):
    before = state()
    assert message in kndb("edit", method, *facts, *words, code=2).err
    assert state() == before


def test_batches_need_a_file(kndb, use_ready):
    use_ready()
    words = ("edit", "memit", "--model", "tiny", "--fact", 1, "--to", "Tokyo", "--batch-size", 2)
    assert "--batch-size needs --facts: it is for the facts of a file" in kndb(*words, code=2).err
    alone = ("edit", "optimize", "--model", "tiny", "--fact", 1, "--to", "Tokyo", "--batch-size", 2)
    assert "--batch-size needs --together, with --facts" in kndb(*alone, code=2).err


def test_a_method_that_cannot_says_what_can(kndb, facts):
    err = kndb("edit", "alphaedit", *facts, "--layers", 1, "--token", "answer", "--threshold", 1e-12, code=8).err
    assert "set a higher --threshold, or use memit" in err
