"""`kndb edit merge`, and what else a user does with its edit."""

from __future__ import annotations

import csv
import io
import re

import pytest

from kndb.records.together import DEEP, FITTED, KeptFacts, TogetherSettings

SHORT = ("--steps", 2, "--check", 1, "--neighbours", 2, "--others", 2, "--prompts", 1)


@pytest.fixture
def two(kndb, use_ready, tmp_path):
    """Plans two edits of the same layer: 1 of France and Peru, 2 of Italy, and 3, which contradicts 1."""
    use_ready()
    for name, rows in (("1", "France,Tokyo\nP36,Peru,Oslo"), ("2", "Italy,Cairo"), ("3", "France,Rome")):
        path = tmp_path / f"{name}.csv"
        path.write_text(f"relation,subject,to\nP36,{rows}\n", encoding="utf-8")
        kndb("edit", "optimize", "--model", "tiny", "--facts", path, "--together", "--layers", 1, *SHORT)


def test_a_merge_from_preview_to_apply(kndb, kndb_json, two, state):
    before = state()
    shown = kndb("edit", "merge", 1, 2, *SHORT, "--preview")
    assert "A preview of one edit in place of 2; nothing was stored." in shown.err
    assert state() == before
    assert [line.split()[:5] for line in shown.out.splitlines()[1:]] == [
        ["1", "1", "France", "Tokyo", "yes"],
        ["1", "6", "Peru", "Oslo", "yes"],
        ["2", "2", "Italy", "Cairo", "yes"],
    ]
    assert "Changes: all value slots of layer 1." in shown.err
    assert all(line.endswith(" %") for line in shown.out.splitlines()[1:]), "success alone and merged is in percent"
    planned = kndb_json("edit", "merge", "1-2", *SHORT)
    assert (planned["edit"], planned["kind"], planned["revert_first"]) == (4, "together", [])
    assert [(row["edit"], row["subject"]) for row in planned["facts"]] == [(1, "France"), (1, "Peru"), (2, "Italy")]
    rows = list(csv.DictReader(io.StringIO(kndb("edit", "merge", 1, 2, *SHORT, "--format", "csv").out)))
    assert [row["to"] for row in rows] == ["Tokyo", "Oslo", "Cairo"]
    assert len(kndb_json("edit", "list")) == 4, "the same merge is the same edit"
    told = kndb("edit", "show", 4).out
    assert "merge of edits 1, 2: 3 facts · P36" in told
    assert "edit 1, object " in told
    assert "2 facts; edit 2, object " in told
    kndb("edit", "apply", 4)
    assert kndb_json("edit", "log")[0]["what"] == "merge of edits 1, 2: 3 facts · P36"
    kndb("edit", "verify", 4)


def test_conflicts_and_what_is_preferred(kndb, kndb_json, two, state):
    before = state()
    refused = kndb("edit", "merge", 1, 2, 3, *SHORT, code=8).err
    assert (
        "edits 1, 3 give one question different answers: fact 1 P36 of France → 'Tokyo' by edit 1, 'Rome' by" in refused
    )
    assert "Say whose answers stand: --prefer 1 or --prefer 3" in refused
    assert state() == before
    kndb("edit", "apply", 1)
    planned = kndb("edit", "merge", 1, 2, 3, *SHORT, "--prefer", 3)
    assert "The answer of edit 3 stands: fact 1 P36 of France → 'Rome', not 'Tokyo' as edit 1 says." in planned.err
    assert "The merge takes the place of edit 1, which is applied. First take it out: kndb edit revert 1" in planned.err
    assert "Planned, not applied. Apply it with: kndb edit apply 4" in planned.err
    assert [fact["to"] for fact in _facts(kndb_json("edit", "show", 4)["recipe"])] == ["Oslo", "Cairo", "Rome"]


def _facts(recipe):
    return [dict(zip(recipe["facts"], row, strict=True)) for row in zip(*recipe["facts"].values(), strict=True)]


def test_it_goes_to_another_store(kndb, kndb_json, two, monkeypatch, tmp_path):
    kndb("edit", "merge", 1, 2, *SHORT)
    source = kndb_json("model", "list")[0]["source"]
    kndb("edit", "push", 4, "--out", tmp_path / "edit.kndb")
    monkeypatch.setenv("KNDB_DB", str(tmp_path / "other.db"))
    kndb("model", "add", source, "--name", "mine")
    kndb("edit", "pull", tmp_path / "edit.kndb")
    shown = kndb("edit", "show", 1).out
    assert "sender says: merge of edits 1, 2" in " ".join(shown.split()) or "sender says: merged from" in shown
    kndb("edit", "apply", 1)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((1,), 2, "a merge is of at least two edits (got 1); list the edits with: kndb edit list"),
        ((1, 9), 5, "no edit 9"),
        ((1, 2, "--at-once", 0), 2, "--at-once must be at least 1 (got 0)"),
        ((1, 2, "--prompts", 0), 2, "--prompts must be at least 1 (got 0)"),
        ((1, 2, "--prefer", 3), 2, "--prefer must be one of the edits that are merged, 1, 2 (got 3)"),
        ((1, 2, "--layers", "7"), 2, "--layers must be from 0 to 1 for model tiny (got 7)"),
        ((1, 2, "--scope", "all"), 2, "--scope must be one of neurons, layers (got all)"),
    ],
)
def test_what_is_refused(kndb, two, state, words, code, message):
    before = state()
    assert message in kndb("edit", "merge", *words, code=code).err
    assert state() == before


def test_a_merge_meets_conditions_or_is_not_stored(kndb, kndb_json, two, state):
    kndb("edit", "apply", 1)
    before = state()
    for more in ((), ("--preview",)):
        refused = kndb("edit", "merge", 1, 2, *SHORT, *more, "--require", "perplexity.others<=0.01", code=8).err
        assert "the edit was not stored, as its condition does not hold: perplexity.others " in refused
    assert state() == before
    planned = kndb("edit", "merge", 1, 2, *SHORT, "--require", "perplexity.others<=1000")
    assert "Conditions: perplexity.others " in planned.err
    assert kndb_json("edit", "show", 4)["conditions"]["checked"][0]["holds"]


SHALLOW_MODEL, DEEP_MODEL = FITTED
IN_WORDS = {
    "learning_rate": "fitted to the model by --first-step",
    "steps": f"{SHALLOW_MODEL.steps}, or as many as give each prompt of the facts {SHALLOW_MODEL.turns} turns; "
    f"in deep models {DEEP_MODEL.steps} and {DEEP_MODEL.turns}",
    **dict.fromkeys(
        ("edited_at_once", "kept_at_once"),
        f"{SHALLOW_MODEL.edited_at_once} and {SHALLOW_MODEL.kept_at_once}; "
        f"in deep models {DEEP_MODEL.edited_at_once} and {DEEP_MODEL.kept_at_once}",
    ),
    **{
        name: f"{getattr(SHALLOW_MODEL, name):g}, and {getattr(DEEP_MODEL, name):g} where a step runs {DEEP} layers or "
        "more"
        for name in ("first_step", "patience", "keep", "keep_last", "ridge")
    },
}
"""Defaults that depend on the facts or the model."""


def test_help_names_the_defaults_of_joint_plans(kndb):
    told = " ".join(kndb("edit", "merge", "--help").out.split())
    for name, value in (vars(TogetherSettings()) | vars(KeptFacts())).items():
        flag = "at-once" if name.endswith("_at_once") else name.replace("_", "-")
        shown = IN_WORDS.get(name, f"{value}".removesuffix(".0"))
        after = re.split(rf" --{flag} (?:<int>|<float>|neurons\|layers) ", told)[1].split("Default: ", 1)[1]
        assert after.removeprefix("as in the merged edits, if they agree, else ").startswith(f"{shown}."), name
