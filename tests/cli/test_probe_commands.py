"""`kndb probe`: what is printed, and what is said beside it."""

import csv
import io
import json

import pytest


@pytest.fixture
def texts(place):
    path = place / "texts.jsonl"
    rows = [
        {"fact": "P36-France", "kind": "head-and-tail", "text": "The capital city of France is called Paris."},
        {"fact": "P36-France", "kind": "head-and-tail", "text": "France rests."},
        {"fact": "P36-France", "kind": "neither", "text": "To live in Peru, learn Spanish."},
        {"fact": "P36-Chad", "kind": "neither", "text": "To live in Peru, learn Spanish."},
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_scaling_is_printed_noted_and_shown_again(use_ready, kndb, kndb_json):
    use_ready()
    made = kndb("probe", "suppress", "--model", "tiny", "--others", 2, "--relation", "P36", "--format", "json")
    assert "Probe 1 (suppress) of refinement 1" in made.err
    assert "kndb attribute --model tiny --method activation" in made.err
    assert "kndb refine --run" in made.err
    assert [row["relation"] for row in made.json] == ["P36"] * 4 + ["all"] * 4
    assert made.json[0]["change"] < 0 < made.json[0]["facts"]
    assert kndb_json("probe", "list")[0]["kind"] == "suppress"
    shown = kndb_json("probe", "show", 1)
    assert shown["summary"] == made.json
    assert shown["probe"][0]["settings"]["others"] == 2
    fact = kndb_json("query", "facts", "--relation", "P36")[0]["id"]
    rows = kndb_json("probe", "show", 1, "--fact", fact, "--part", "fact")["fact"]
    assert {(row["neurons_from"], row["prompts_of"]) for row in rows} <= {
        (arm, of) for arm in ("knowledge", "random") for of in ("own", "other")
    }
    assert all(row["change"] == pytest.approx(row["probability_after"] / row["probability_before"] - 1) for row in rows)
    every = kndb_json("probe", "show", 1, "--by-fact", "--part", "facts")["facts"]
    assert [row for row in every if row["fact_id"] == fact] == rows
    assert len({row["fact_id"] for row in every}) == made.json[0]["facts"]
    table = kndb("probe", "show", 1, "--format", "csv", "--part", "summary").out
    assert [row["relation"] for row in csv.DictReader(io.StringIO(table))] == ["P36"] * 4 + ["all"] * 4
    kndb("probe", "amplify", "--model", "tiny", "--others", 0, "--facts", 1, "--batch-size", 3)
    kndb("probe", "amplify", "--model", "tiny", "--baseline", 1, code=2)
    assert len(kndb_json("probe", "list", "--model", "tiny")) == 2


def test_activations_are_printed_noted_and_shown_again(use_ready, kndb, kndb_json, texts):
    use_ready()
    made = kndb("probe", "activation", "--model", "tiny", "--texts", texts, "--keep", 1, "--format", "json")
    assert [(row["relation"], row["kind"], row["texts"]) for row in made.json] == [
        ("P36", "head-and-tail", 1),
        ("P36", "neither", 1),
        ("all", "head-and-tail", 1),
        ("all", "neither", 1),
    ]
    assert "Texts skipped: 1 (the text does not name the fact's object" in made.err
    assert "Facts left out: 1 (the store does not have them)" in made.err
    fact = kndb_json("query", "facts", "--subject", "France", "--relation", "P36")[0]["id"]
    shown = kndb_json("probe", "show", 1, "--fact", fact)
    assert [row["rank"] for row in shown["texts"]] == [1, -1]
    assert {row["kind"] for row in shown["fact"]} == {"head-and-tail", "neither"}
    every = kndb_json("probe", "show", 1, "--by-fact", "--relation", "P36")
    assert (every["facts"], every["texts"]) == (shown["fact"], shown["texts"])
    other = kndb_json("query", "facts", "--subject", "Peru", "--relation", "P36")[0]["id"]
    assert f"Fact {other} is not in probe 1" in kndb("probe", "show", 1, "--fact", other).err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["show", 5], 5, "no probe 5: there are none yet"),
        (["list", "--model", "none"], 5, "none"),
        (["suppress", "--model", "tiny", "--factor", 3], 2, "--factor must be from 0, below 1"),
        (
            ["suppress", "--model", "tiny", "--batch-size", "x"],
            2,
            "--batch-size must be auto or a number from 1 (got 'x')",
        ),
        (["amplify", "--model", "tiny", "--refinement", 8], 5, "no refinement 8"),
        (["activation", "--model", "tiny", "--texts", "none.jsonl"], 3, "none.jsonl: there is no such file"),
    ],
)
def test_mistakes_are_answered(use_ready, kndb, state, words, code, message):
    use_ready()
    before = state()
    assert message in kndb("probe", *words, code=code).err
    assert state() == before
