"""`kndb edit optimize`, and previews of all three ways to plan an edit, as a user meets them."""

import csv
import io
import os
import re

import pytest


@pytest.fixture
def france(use_ready, kndb_json) -> int:
    """The number of the fact that the capital of France is Paris."""
    use_ready()
    return kndb_json("query", "facts", "--relation", "P36", "--subject", "France")[0]["id"]


def test_an_optimised_edit_is_planned_shown_and_listed(kndb, kndb_json, france):
    outcome = kndb("edit", "optimize", "--model", "tiny", "--fact", france, "--to", "Tokyo", "--steps", 20)
    assert "Planned, not applied. Apply it with: kndb edit apply 1" in outcome.err
    assert "20 steps, stopped before" in outcome.err or "target reached" in outcome.err
    shown = kndb_json("edit", "show", 1)
    assert (shown["kind"], shown["recipe"]["steps"], shown["recipe"]["to"]) == ("optimize", 20, "Tokyo")
    assert kndb_json("edit", "list")[0]["what"] == "France · P36 · Paris → Tokyo"
    kndb("edit", "apply", 1)
    kndb("edit", "revert", 1)


def test_previews_store_nothing(kndb, kndb_json, france, state):
    before = state()
    of_fact = ("--model", "tiny", "--fact", france, "--to", "Tokyo", "--preview")
    for words in (
        ("edit", "optimize", *of_fact, "--steps", 2, "--neighbours", 1, "--others", 0),
        ("edit", "update", *of_fact, "--max-share", 1),
        ("edit", "erase", "--model", "tiny", "--relation", "P36", "--preview"),
    ):
        found = kndb_json(*words)
        assert list(found) == ["answers", "collateral"]
        assert found["answers"][0]["before"] == "Paris"
        assert found["collateral"]
        printed = kndb(*words, "--part", "collateral", "--format", "csv")
        assert [int(row["fact"]) for row in csv.DictReader(io.StringIO(printed.out))] == [
            row["fact"] for row in found["collateral"]
        ]
        assert "A preview; nothing was stored." in printed.err
    assert state() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--part", "answers"), "--part answers needs --preview"),
        (("--preview", "--format", "csv"), "--format csv prints one part; name it with --part: answers, collateral"),
        (("--preview", "--part", "slots"), "--part must be one of answers, collateral (got slots)"),
        (("--steps", "0"), "--steps must be at least 1 (got 0)"),
        (("--bound", "nan"), "--bound must be a number above 0 (got nan)"),
        (("--neighbours", "-1"), "--neighbours must be at least 0 (got -1)"),
        (("--max-share", "0"), "--max-share must be a number above 0, at most 1 (got 0.0)"),
    ],
)
def test_what_is_refused(kndb, france, state, words, message):
    before = state()
    outcome = kndb("edit", "optimize", "--model", "tiny", "--fact", france, "--to", "Tokyo", *words, code=2)
    assert message in outcome.err
    assert state() == before


def test_a_file_of_new_answers(use_ready, kndb, kndb_json, tmp_path):
    use_ready()
    answers = tmp_path / "answers.csv"
    answers.write_text("relation,subject,to\nP36,France,Oslo\nP36,Italy,Lima\nP36,Spain,Rome\n", encoding="utf-8")
    many = ("--model", "tiny", "--max-share", 1, "--facts", answers)
    shown = kndb_json("edit", "update", *many, "--preview")
    assert [(row["subject"], row["to"]) for row in shown] == [("France", "Oslo"), ("Italy", "Lima"), ("Spain", "Rome")]
    assert kndb_json("edit", "list") == []
    planned = kndb("edit", "update", *many)
    assert (
        "Planned 3 edits, each on the ones before it; not applied. Apply them with: kndb edit apply 1-3" in planned.err
    )
    steps = kndb_json("edit", "apply", "1-3")
    assert [(step["edit"], step["action"]) for step in steps] == [(1, "apply"), (2, "apply"), (3, "apply")]
    back = kndb_json("edit", "revert", "1-3")
    assert [step["edit"] for step in back] == [3, 2, 1]
    assert back[-1]["version_after"] == steps[0]["version_before"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("update",), "--fact and --to are both required"),
        (("optimize", "--fact", 1), "--fact and --to are both required"),
        (("update", "--fact", 1, "--to", "Rome", "--facts", "a.csv"), "--facts goes without --fact and --to"),
        (("update", "--fact", 1, "--to", "Rome", "--skip-unusable"), "--skip-unusable needs --facts"),
        (("optimize", "--fact", 1, "--to", "Rome", "--most-bytes", 9), "--most-bytes needs --facts"),
        (("update", "--facts", "a.csv", "--most-bytes", 0), "--most-bytes must be at least 1 (got 0)"),
        (("update", "--facts", "a.csv", "--preview", "--part", "answers"), "a file (--facts) has no parts"),
    ],
)
def test_one_fact_or_a_file(use_ready, kndb, arguments, message):
    use_ready()
    name, *rest = arguments
    assert message in kndb("edit", name, "--model", "tiny", *rest, code=2).err


def test_a_large_file_or_a_pipe_of_new_answers(use_ready, kndb, tmp_path):
    use_ready()
    words = ("edit", "update", "--model", "tiny", "--max-share", 1, "--preview", "--facts")
    path = tmp_path / "answers.csv"
    path.write_text("relation,subject,to\nP36,France,Oslo\n", encoding="utf-8")
    refused = kndb(*words, path, "--most-bytes", 20, code=3)
    assert refused.err.strip().endswith("or allow more with --most-bytes 80 (about ten times as much memory is needed)")
    assert "A preview of 1 edits" in kndb(*words, path, "--most-bytes", 80).err
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    said = kndb(*words, pipe, code=3).err
    assert "this is a pipe, which can be read only once; save it to a file" in said
    assert "--input-format" not in said


def test_a_cascade_is_of_one_edit(use_ready, kndb):
    use_ready()
    assert "--cascade takes one edit" in kndb("edit", "revert", 1, 2, "--cascade", code=2).err
    assert "'x' is neither an edit's number nor a range" in kndb("edit", "apply", "x", code=2).err


def test_a_table_over_evaluated_edits(kndb, kndb_json, france):
    assert kndb_json("edit", "evaluations") == []
    assert "Nothing was evaluated yet" in kndb("edit", "evaluations").err
    kndb("edit", "update", "--model", "tiny", "--fact", france, "--to", "Tokyo", "--max-share", 1)
    measured = kndb("edit", "eval", 1, "--sample", 4, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(measured.out)))
    assert list(rows[0]) == ["group", "measure", "edit", "low", "high", "random_neurons", "random_low", "random_high"]
    of_edit, of_control = kndb_json("edit", "evaluations")
    assert (of_edit["weights"], of_control["weights"]) == ("edit", "random neurons")
    assert of_edit["what"] == "France · P36 · Paris → Tokyo"
    success = next(row for row in rows if (row["group"], row["measure"]) == ("own", "success_rate"))
    assert [of_edit[f"success{part}"] for part in ("", "_low", "_high")] == [
        float(success[name]) for name in ("edit", "low", "high")
    ]
    (one, _) = kndb_json("edit", "evaluations", 1, "--measure", "success")
    assert (one["value"], one["low"], one["high"]) == tuple(float(success[name]) for name in ("edit", "low", "high"))
    assert "--measure must be one of success" in kndb("edit", "evaluations", "--measure", "x", code=2).err


def test_only_the_highest_neurons(kndb_json, france):
    found = kndb_json("query", "neurons", france)
    scores = {f"L{row['layer']}.N{row['neuron']}": row["mean_score"] for row in found}
    for command in ("update", "optimize"):
        words = ("--model", "tiny", "--fact", france, "--to", "Tokyo", "--max-share", 1, "--neurons", 2)
        recipe = kndb_json("edit", command, *words)["recipe"]
        assert sorted(recipe["neurons"]) == sorted(sorted(scores, key=scores.get, reverse=True)[:2])
        assert set(recipe["neurons"]) | set(recipe["neurons_left_out"]) == set(scores)


def test_an_edit_goes_to_another_store(kndb, kndb_json, france, monkeypatch, tmp_path):
    kndb("edit", "update", "--model", "tiny", "--fact", france, "--to", "Tokyo", "--max-share", 1)
    source = kndb_json("model", "list")[0]["source"]
    file = tmp_path / "tokyo.kndb"
    pushed = kndb_json("edit", "push", 1, "--out", file)
    assert (pushed["edits"], pushed["foundations"]) == ([1], [])
    assert "exists already" in kndb("edit", "push", 1, "--out", file, code=2).err
    monkeypatch.setenv("KNDB_DB", str(tmp_path / "other.db"))
    kndb("model", "add", source, "--name", "mine")
    assert "1 edit in" in kndb("edit", "pull", file, "--preview").err
    assert kndb_json("edit", "list") == []
    assert (
        "Took in 1 edit, 1 of them new; not applied. Apply them with: kndb edit apply 1"
        in kndb("edit", "pull", file).err
    )
    kndb("edit", "apply", 1)
    kndb("edit", "revert", 1)
    file.write_bytes(file.read_bytes()[:-1])
    assert "is not a sound file of edits" in kndb("edit", "pull", file, code=3).err


def test_a_plan_says_what_it_does_and_warns(kndb, kndb_json, france):
    """A factor that is far too small wins nowhere; one that is far too large changes other answers."""
    of_fact = ("--model", "tiny", "--fact", france, "--to", "Tokyo")
    planned = kndb("edit", "update", *of_fact, "--lambda-new", 0.001)
    assert "new answer wins  on 0 of 5 prompts" in planned.out
    assert "refinement       1 (run 1, integrated-gradients, v" in planned.out
    assert "Warning: the new answer wins on none of the fact's 5 prompts" in planned.err
    advice = f"kndb edit optimize --model tiny --fact {france} --to Tokyo --refinement 1"
    assert advice in planned.err
    assert advice in kndb("edit", "show", 1).err
    assert kndb_json("edit", "list")[0]["warning"] == "wins nowhere"
    # The advice works as it is.
    assert kndb_json(*advice.split()[1:], "--steps", 40)["recipe"]["report"]["prompts"] == 5
    strong = kndb("edit", "update", *of_fact, "--lambda-new", 300, "--max-share", 1)
    assert "times what it was" in strong.err
    default = kndb("edit", "update", *of_fact)
    assert re.search(r"rule +gradient, λ₂ [\d.e-]+, fitted to the fact's prompts\n", default.out)
    assert "Warning" not in default.err or "times what it was" in default.err
    least = kndb("edit", "update", *of_fact, "--rule", "output")
    assert "so the least shared ones are changed" in least.out


def test_rule_paper_says_what_is_wrong(kndb, france):
    planned = kndb("edit", "update", "--model", "tiny", "--fact", france, "--to", "Tokyo", "--rule", "paper")
    assert "rule             paper, λ₁ 1, λ₂ 8" in planned.out
    recipe = kndb("edit", "show", 1, "--format", "json").json["recipe"]
    wrong = bool(recipe["negative_neurons"]) or recipe["cosine_to_output"] < 0.9
    assert ("Rule paper on this model" in planned.err) is wrong
