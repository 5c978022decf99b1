"""`kndb edit revert --cascade` and `--rebase`, `diff`, `verify` and `log`, `kndb snapshot show` and `delete`."""

from __future__ import annotations

import csv
import io

import pytest

from kndb.database import open_database

USAGE, STORE, NOT_FOUND, EDIT = 2, 4, 5, 8
UPDATE = ("edit", "update", "--model", "tiny", "--max-share", 1)


@pytest.fixture
def two_edits(use_ready, kndb, kndb_json, monkeypatch):
    """Edits 1 and 2 of one fact, applied one on the other, under the snapshot `two`."""
    use_ready()
    monkeypatch.setenv("KNDB_AUTHOR", "ada")
    fact = kndb_json("query", "facts", "--relation", "P36", "--subject", "France")[0]["id"]
    for answer in ("Oslo", "Rome"):
        edit = kndb_json(*UPDATE, "--fact", fact, "--to", answer)["edit"]
        kndb("edit", "apply", edit)
    kndb("snapshot", "create", "two", "--model", "tiny")
    return fact


def test_a_cascade_takes_the_later_edit_out_first(two_edits, kndb, kndb_json):
    refused = kndb("edit", "revert", 1, code=EDIT)
    assert "kndb edit revert --cascade 1" in refused.err
    assert "kndb edit revert --rebase 1" in refused.err
    steps = kndb_json("edit", "revert", 1, "--cascade")
    assert [(step["edit"], step["action"]) for step in steps] == [(2, "revert"), (1, "revert")]
    assert steps[0]["version_after"] == steps[1]["version_before"]
    assert kndb_json("edit", "diff", "base", "current", "--model", "tiny")["slots"] == []
    assert "edit 1 is not applied" in kndb("edit", "revert", 1, "--cascade", code=EDIT).err


def test_a_rebase_says_what_became_of_the_later_edit(two_edits, kndb, kndb_json):
    steps = kndb_json("edit", "revert", 1, "--rebase")
    assert [(step["edit"], step["action"]) for step in steps] == [(2, "revert"), (1, "revert"), (3, "apply")]
    assert [step["rebased_from"] for step in steps] == [None, None, 2]
    anew = kndb_json("edit", "show", 3)
    planned = {name: value for name, value in kndb_json("edit", "show", 2)["recipe"].items() if name != "report"}
    assert anew["recipe"] == {**planned, "rebased_from": 2}  # what was measured of the plan is not said of another
    assert steps[2]["slots"] == steps[2]["different"] == anew["neurons"]
    assert 0 < steps[2]["largest_change"] < 1.5
    table = kndb("edit", "revert", 3, "--rebase")
    assert "computed 0 later edits again" in table.err
    assert kndb_json("edit", "log")[-1]["to"] == kndb_json("edit", "log")[0]["from"]


def test_revert_takes_one_way_only(two_edits, kndb, state):
    before = state()
    assert "--cascade and --rebase" in kndb("edit", "revert", 1, "--cascade", "--rebase", code=USAGE).err
    kndb("edit", "revert", 99, "--cascade", code=NOT_FOUND)
    kndb("edit", "revert", 99, "--rebase", code=NOT_FOUND)
    assert state() == before


def test_a_rebase_of_an_edit_of_another_kind_changes_nothing(two_edits, kndb, state):
    with open_database("kndb.db") as database, database.store.writing() as connection:
        connection.exec_driver_sql("UPDATE edit SET kind = 'other' WHERE id = 2")
    before = state()
    refused = kndb("edit", "revert", 1, "--rebase", code=EDIT)
    kinds = "alphaedit, emmet, erase, finetune, memit, optimize, rome, together, update"
    assert f"edit 2 can't be replayed: kind 'other' is not one of {kinds}" in refused.err
    assert state() == before


def test_the_log_says_who_when_what(two_edits, kndb, kndb_json):
    kndb("snapshot", "restore", "base", "--model", "tiny")
    rows = kndb_json("edit", "log")
    assert [(row["who"], row["action"], row["direction"], row["edit"]) for row in rows] == [
        ("ada", "apply", None, 1),
        ("ada", "apply", None, 2),
        ("ada", "restore", "revert", 2),
        ("ada", "restore", "revert", 1),
    ]
    assert rows[0]["what"].startswith("France · P36 · ")
    assert rows[0]["what"].endswith(" → Oslo")
    assert [row["from"] for row in rows[1:]] == [row["to"] for row in rows[:-1]]
    assert rows[0]["when"] <= rows[-1]["when"]


def test_diff_prints_its_parts(two_edits, kndb, kndb_json):
    found = kndb_json("edit", "diff", "base", "two", "--model", "tiny")
    assert set(found) == {"slots", "tensors", "relations", "facts", "edits"}
    assert [(row["only_in"], row["id"]) for row in found["edits"]] == [("b", 1), ("b", 2)]
    shown = {row["neuron"]: row for row in kndb_json("edit", "show", 2)["slots"]}
    for row in found["slots"]:
        assert row["norm_b"] == pytest.approx(shown[f"L{row['layer']}.N{row['neuron']}"]["length_after"])
        assert two_edits in [fact["fact"] for fact in found["facts"]]
        assert row["facts"] >= 1
        assert "P36" in row["relations"]
    rows = list(csv.DictReader(io.StringIO(kndb("edit", "diff", "base", "two", "--model", "tiny", "--part", "slots",
                                                "--format", "csv").out)))  # fmt: skip
    assert [int(row["neuron"]) for row in rows] == [row["neuron"] for row in found["slots"]]
    table = kndb("edit", "diff", "two", "base", "--model", "tiny")
    assert [line for line in table.out.splitlines() if line.isalpha() and line.istitle()] == [
        "Slots",
        "Tensors",
        "Relations",
        "Facts",
        "Edits",
    ]
    same = kndb("edit", "diff", "two", "current", "--model", "tiny")
    assert "the same weights" in same.err
    assert "no version 'nope'" in kndb("edit", "diff", "nope", "two", "--model", "tiny", code=NOT_FOUND).err
    kndb("edit", "diff", "base", "two", "--model", "tiny", "--part", "nope", code=USAGE)


def test_verify_prints_every_row_and_fails(two_edits, kndb, kndb_json, place):
    rows = kndb_json("edit", "verify", "--all", "--weights")
    assert all(row["ok"] for row in rows)
    assert len(rows) == 8
    assert kndb_json("edit", "verify", 2, "--model", "tiny")[0]["what"] == "edit 2: object"
    kndb("edit", "verify", 1, "--all", code=USAGE)
    kndb("edit", "verify", 99, code=NOT_FOUND)
    path = place / "kndb.objects" / kndb_json("edit", "show", 2)["object_path"]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    failed = kndb("edit", "verify", code=EDIT)
    assert "1 of 5 checks failed: edit 2: object" in failed.err
    assert failed.out.count("edit 1") == 3
    kndb("edit", "verify", 1)
    path.write_bytes(content)
    with open_database("kndb.db") as database, database.store.writing() as connection:
        connection.exec_driver_sql("DELETE FROM history WHERE id = 1")
    failed = kndb("edit", "verify", code=STORE)
    assert "checks failed: model tiny: log" in failed.err


def test_snapshot_show_and_delete(two_edits, kndb, kndb_json):
    shown = kndb_json("snapshot", "show", "two", "--model", "tiny")
    assert set(shown) == {"snapshot", "edits", "slots"}
    assert shown["snapshot"][0]["current"] is True
    assert [edit["id"] for edit in shown["edits"]] == [1, 2]
    differing = kndb_json("edit", "diff", "base", "two", "--model", "tiny")["slots"]
    assert [(row["neuron"], row["norm_base"], row["norm"]) for row in shown["slots"]] == [
        (row["neuron"], row["norm_a"], row["norm_b"]) for row in differing
    ]
    kndb("snapshot", "create", "start", "--model", "tiny", "--version", "base")
    assert "without edits" in kndb("snapshot", "show", "start", "--model", "tiny").err
    version = shown["snapshot"][0]["version"]
    assert version in kndb("snapshot", "delete", "two", "--model", "tiny").err
    for command in ("show", "delete"):
        assert "no snapshot 'two'" in kndb("snapshot", command, "two", "--model", "tiny", code=NOT_FOUND).err
    kndb("snapshot", "restore", "start", "--model", "tiny")
    kndb("snapshot", "restore", version, "--model", "tiny")


def test_edits_of_one_command_that_change_the_same_slots(use_ready, kndb):
    """Neither is applied, and what is advised works: one of them, then the other planned again."""
    use_ready()
    for to in ("Rome", "Oslo"):
        kndb("edit", "update", "--model", "tiny", "--fact", 1, "--to", to)
    said = kndb("edit", "apply", "1", "2", code=8).err
    assert "edit 2 can't be applied together with edit 1" in said
    assert "Apply edit 1 first, then plan edit 2 again" in said
    assert "revert" not in said
    kndb("edit", "apply", "1")
