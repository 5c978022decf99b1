"""Which refinement answers, from the command line: what takes over nothing, and how each answer says which."""

import csv
import json
import sqlite3
from contextlib import closing

import pytest

USAGE, NOT_FOUND = 2, 5
IG = "refinement 1 of run 1 (integrated-gradients, tiny v"


@pytest.fixture
def crowded(use_ready, kndb, kndb_json, place):
    """Refinement 1 is the real one; 2 an import of P36, 3 the activation baseline of P36, 4 of one fact alone."""
    use_ready()
    numbers = [row["id"] for row in kndb_json("query", "facts", "--relation", "P36")]
    with (place / "theirs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("fact", "layer", "neuron"), *((number, 1, number % 3) for number in numbers)])
    kndb("import", "neurons", "theirs.csv", "--model-name", "tiny", "--facts-by", "number")
    kndb("attribute", "--model", "tiny", "--relation", "P36", "--method", "activation")
    kndb("refine", "--run", 3)
    kndb("attribute", "--model", "tiny", "--fact", numbers[0], "--floor", 0.15)
    kndb("refine", "--run", 4)
    return numbers


def test_imports_baselines_and_small_runs_take_nothing_over(crowded, kndb, kndb_json, place):
    first, second = crowded[:2]
    for words in (
        ["shared", "--relation", "P36"],
        ["counts"],
        ["layers"],
        ["overlap"],
        ["fact", second],
        ["collateral", "L1.N1"],
    ):
        assert IG in kndb("query", *words).err.lower(), words
    assert kndb("query", "neurons", first).err.startswith("Refinement 4 of run 4 (integrated-gradients")
    plan = kndb("edit", "update", "--model", "tiny", "--fact", second, "--to", "Oslo", "--preview")
    assert "answers because" not in plan.err
    planned = kndb_json("edit", "update", "--model", "tiny", "--fact", second, "--to", "Oslo")
    assert planned["recipe"]["refinement"] == 1
    assert planned["recipe"]["report"]["refinement"]["method"] == "integrated-gradients"
    erased = kndb_json("edit", "erase", "--model", "tiny", "--relation", "capital", "--top", 1)
    assert (erased["recipe"]["refinement"], erased["recipe"]["relation"]) == (1, "P36")
    assert IG in kndb("export", "neurons", "--to", "out.csv", "--relation", "P36").err.lower()
    described = json.loads((place / "out.csv.meta.json").read_text())
    assert described["run"]["method"] == "integrated-gradients"
    probed = kndb("probe", "suppress", "--model", "tiny", "--relation", "P36", "--facts", 1, "--others", 1)
    assert IG in probed.err.lower()
    settings = kndb_json("probe", "list")[0]["settings"]
    assert [settings[f"refinement_{name}"] for name in ("run", "method")] == [1, "integrated-gradients"]


def test_a_method_or_a_number_names_another(crowded, kndb, kndb_json):
    for words in (["--method", "activation"], ["--refinement", 3], ["--refinement", 3, "--method", "activation"]):
        answer = kndb("query", "shared", "--relation", "P36", *words)
        assert answer.err.startswith("Refinement 3 of run 3 (activation, tiny v")
        assert "Warning" not in answer.err
    planned = kndb_json(
        "edit", "update", "--model", "tiny", "--fact", crowded[1], "--to", "Oslo", "--method", "activation"
    )
    assert planned["recipe"]["report"]["refinement"]["number"] == 3
    refused = kndb("query", "counts", "--refinement", 1, "--method", "activation", code=USAGE).err
    assert "--refinement 1 is by integrated-gradients, not activation" in refused
    refused = kndb("query", "counts", "--method", "activations", code=NOT_FOUND).err
    assert "did you mean activation? There are refinements by activation, imported, integrated-gradients" in refused
    assert "give one of them" in kndb("export", "neurons", "--to", "x.csv", "--run", 1, "--method", "x", code=USAGE).err


def test_json_of_parts_names_it(crowded, kndb_json):
    found = kndb_json("query", "overlap", "--method", "activation")["refinement"]
    assert (found["id"], found["run"], found["method"], found["model"]) == (3, 3, "activation", "tiny")
    for words in (["fact", crowded[0]], ["neuron", "L1.N1", "--no-tokens"], ["collateral", "L1.N1"]):
        assert kndb_json("query", *words)["refinement"]["method"] == "integrated-gradients"
    assert "refinement" not in kndb_json("query", "overlap", "--part", "summary")


def test_a_new_one_that_does_not_answer_says_so(use_ready, kndb):
    use_ready()
    made = kndb("refine", "--negative", code=7).err  # The run kept no scores below zero.
    assert "--negative" in made
    kndb("attribute", "--model", "tiny", "--method", "activation", "--relation", "P36")
    made = kndb("refine", "--run", 2).err
    assert f"Questions about these relations go to {IG}" in made
    assert "unless they name this one with --refinement 2" in made
    assert "Questions" not in kndb("refine", "--run", 1).err


def test_the_list_says_which_is_the_default_within_80_columns(crowded, kndb, kndb_json):
    rows = kndb_json("query", "refinements")
    assert [row["default"] for row in rows] == [True, False, False, False]
    assert [row["imported"] for row in rows] == [False, True, False, False]
    assert [(row["facts"], row["relations"]) for row in rows] == [(16, 2), (8, 1), (8, 1), (1, 1)]
    table = kndb("query", "refinements").out.splitlines()
    assert table[0] == "tiny"
    assert table[1].split() == ["id", "method", "run", "version", "facts", "relations", "neurons", "state"]
    assert table[2].split()[-1] == "default"
    assert max(map(len, table)) <= 80
    assert "settings" in kndb("query", "refinements", "--wide").out.splitlines()[0]


def test_an_incomplete_one_is_marked(use_ready, kndb, kndb_json, place):
    use_ready()
    with closing(sqlite3.connect(place / "kndb.db")) as connection:
        connection.execute("UPDATE run SET status = 'running'")
        connection.commit()
    assert "Warning: refinement 1" in kndb("query", "counts").err
    assert "incomplete" in kndb("query", "refinements").out
    kndb("refine", "--allow-incomplete")
    assert [row["settings"].get("incomplete") for row in kndb_json("query", "refinements")] == [None, True]


def test_an_empty_store_says_what_fills_it(kndb):
    kndb("db", "init")
    for words in ("facts", "relations"):
        empty = kndb("query", words)
        assert empty.err == "The store has no facts yet; add some with: kndb ingest PATH\n"
    assert "There is no run yet; make one with: kndb attribute --model NAME" in kndb("query", "runs").err
    assert "There is no refinement yet; make one with: kndb attribute" in kndb("query", "refinements").err


def test_what_is_empty_says_why(crowded, kndb, place):
    (place / "more.jsonl").write_text(
        '{"relation": "P50", "relation_label": "author", "subject": "Faust", "object": "Goethe", "template": "[X][Y]"}',
        encoding="utf-8",
    )
    kndb("ingest", "more.jsonl")
    empty = kndb("query", "shared", "--relation", "author")
    assert "It has no attributed facts of P50; get them with: kndb attribute --model tiny --relation P50" in empty.err
    empty = kndb("query", "shared", "--relation", "P36", "--min-share", 1, "--across", 1)
    assert "No neuron is held by 100 % of the facts; lower" in empty.err or empty.out.count("\n") > 1
    number = 17
    empty = kndb("query", "facts", "--relation", "capital", "--subject", "Atlantis")
    assert "There is no fact of capital and with 'Atlantis' in its subject" in empty.err
    empty = kndb("query", "neurons", number)
    assert f"get it with: kndb attribute --model tiny --fact {number}, then: kndb refine" in empty.err


@pytest.mark.parametrize("command", ["fact", "neurons"])
def test_a_subject_in_a_numbers_place(use_ready, kndb, command):
    use_ready()
    refused = kndb("query", command, "Côte d'Ivoire", code=USAGE).err
    assert """kndb query facts --subject 'Côte d'"'"'Ivoire'""" in " ".join(refused.split())


def test_relations_by_label_in_any_case_and_several_at_once(use_ready, kndb, kndb_json):
    use_ready()
    wanted = kndb_json("query", "shared", "--relation", "P36")
    for name in ("p36", "capital", "Capital"):
        assert kndb_json("query", "shared", "--relation", name) == wanted
    refused = kndb("query", "shared", "--relation", "P36,P37", code=NOT_FOUND).err
    assert "several are given as --relation P36 --relation P37" in refused
