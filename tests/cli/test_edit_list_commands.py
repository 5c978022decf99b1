"""A list of edits as a user meets it: ingested, planned with the command that ingest names, and measured."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shlex

import pytest

CASES = [
    {
        "case_id": 0,
        "requested_rewrite": {
            "prompt": "The capital of {} is",
            "relation_id": "P36",
            "subject": "France",
            "target_true": {"str": "Paris"},
            "target_new": {"str": "Tokyo"},
        },
        "paraphrase_prompts": ["Of France the capital is"],
        "neighborhood_prompts": ["The capital of Italy is", "The capital of Japan is"],
        "attribute_prompts": ["The capital of Japan is"],
        "generation_prompts": ["France is"],
    }
]
ZSRE = [{"subject": "Etna", "src": "Which country is Etna in?", "answers": ["Italy"], "alt": "Peru", "loc": "a"}]


@pytest.fixture
def write(tmp_path):
    def writer(name, value):
        path = tmp_path / name
        path.write_text(json.dumps(value), encoding="utf-8")
        return path

    return writer


def advised(text: str) -> list[str]:
    """The command at the end of a remark."""
    return shlex.split(text.strip().splitlines()[-1].partition("plan edits with: kndb ")[2])


def test_the_command_that_ingest_names_plans_the_edits(use_ready, kndb, kndb_json, write):
    use_ready()
    path = write("a list.json", CASES)
    ingested = kndb("ingest", path)
    assert "New answers of 1 fact were not applied. Once the facts are attributed, plan edits with:" in ingested.err
    words = advised(ingested.err)
    assert words[:4] == ["edit", "optimize", "--model", "tiny"]
    assert words[words.index("--facts") + 1] == str(path)
    planned = kndb(*words, "--steps", 2)
    assert "Planned 1 edit; not applied. Apply it with: kndb edit apply 1" in planned.err
    measured = kndb_json("edit", "eval", 1, "--sample", 2)["measures"]
    assert measured["edited"]["neighbourhood"]["prompts"] == 2
    assert measured["edited"]["attribute"]["prompts"] == 1
    table = kndb("edit", "eval", 1, "--sample", 2, "--list-flips")
    assert "neighbourhood_score_after" in table.out
    assert "of evaluation prompts, over prompts" in table.err
    flips = list(csv.DictReader(io.StringIO(kndb("edit", "eval", 1, "--list-flips", "--format", "csv").out)))
    assert all(set(row) >= {"fact", "old_answer", "new_answer", "prompt"} for row in flips)
    rows = kndb_json("edit", "evaluations", "--measure", "neighbour_prompts")
    assert rows[0]["value"] == measured["edited"]["neighbourhood"]["neighbourhood_score_after"]
    fact = kndb_json("query", "facts", "--subject", "France", "--relation", "P36")[0]
    shown = kndb("query", "fact", fact["id"])
    listed = "1 for paraphrase, 2 for neighbourhood, 1 for attribute, 1 for generation"
    assert f"Its evaluation prompts, which only `kndb edit eval` asks: {listed}." in shown.err


def test_ingest_counts_facts_and_speaks_of_all_its_files(use_ready, kndb, write):
    """Two cases of one fact are one; the command passes over what ingest did, and is that of the first file."""
    use_ready()
    first = write("first.json", [*CASES, CASES[0] | {"case_id": 1}, {"case_id": 2}])
    said = kndb("ingest", first, write("second.json", CASES), write("third.json", ZSRE), "--skip-invalid").err
    assert "New answers of 2 facts were not applied." in said
    assert "Once the facts are attributed, plan edits, and likewise for 2 more files, with: kndb edit optimize" in said
    said = kndb("ingest", first, "--skip-invalid").err
    assert "New answers of 1 fact were not applied." in said
    assert advised(said)[-1] == "--skip-unusable"
    assert "Planned 1 edit" in kndb(*advised(said), "--steps", 1).err


def test_lists_that_ingest_passes_over_are_named(use_ready, kndb, write, tmp_path):
    use_ready()
    (tmp_path / "own").mkdir()
    (tmp_path / "own/facts.csv").write_text("relation,subject,object\nP36,France,Paris\n", encoding="utf-8")
    write("own/x.json", [{"relation": "P36", "subject": "Peru", "object": "Lima"}])
    said = kndb("ingest", tmp_path / "own").err
    assert f"Passed over in {tmp_path / 'own'}: x.json; to read it, name it." in said


def test_of_zsre_ingest_names_both_fields(use_ready, kndb, write):
    use_ready()
    path = write("zsre.json", ZSRE)
    said = kndb("ingest", path).err
    assert "; alt and answers hold different ones, of which --new-answers names one." in said
    assert advised(said)[-2:] == ["--new-answers", "alt"]
    refused = kndb("edit", "optimize", "--model", "tiny", "--facts", path, code=2)
    assert "--new-answers alt (the false answer, as EasyEdit takes it) or --new-answers answers" in refused.err
    passed = kndb(*advised(said), code=8)
    assert "has no knowledge neurons" in passed.err


def test_what_was_not_ingested_is_named_with_the_command(use_ready, kndb, write):
    use_ready()
    path = write("zsre.json", ZSRE)
    refused = kndb("edit", "update", "--model", "tiny", "--facts", path, "--new-answers", "alt", code=5)
    assert f"Add them with: kndb ingest {path}" in refused.err


def test_new_answers_are_no_facts(use_ready, kndb, tmp_path):
    use_ready()
    for name, text in (
        ("to.jsonl", '{"relation": "P36", "subject": "France", "to": "Rome"}\n'),
        ("to.csv", "fact,to\n1,Rome\n"),
        ("numbers.jsonl", '{"fact": 1, "to": "Rome"}\n'),
    ):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        refused = kndb("ingest", path, code=3)
        assert "this is a list of new answers for facts that are in a database, and no list of facts" in refused.err
        assert f"plan edits with: kndb edit optimize --model NAME --facts {path}" in refused.err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("to.tsv", "relation\tsubject\tto\nP36\tFrance\tRome\n"),
        ("to.txt", "relation;subject;to\nP36;France;Rome\n"),
        ("to.txt", '{"relation": "P36", "subject": "France", "to": "Rome"}\n'),
        ("to.ndjson", '{"relation": "P36", "subject": "France", "to": "Rome"}\n'),
        ("to.jsonl.gz", '{"relation": "P36", "subject": "France", "to": "Rome"}\n'),
        ("to.csv.gz", "relation,subject,to\nP36,France,Rome\n"),
    ],
)
def test_new_answers_are_told_by_their_content(use_ready, kndb, tmp_path, name, text):
    """So that what ingest advises of such a file works, whatever the file is called."""
    use_ready()
    path = tmp_path / name
    data = text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    refused = kndb("ingest", path, code=3)
    assert f"plan edits with: kndb edit optimize --model NAME --facts {path}" in refused.err
    planned = kndb("edit", "update", "--model", "tiny", "--facts", path, "--max-share", 1)
    assert "Planned 1 edit; not applied." in planned.err


def test_a_field_needs_a_file(use_ready, kndb):
    use_ready()
    words = ("edit", "update", "--model", "tiny", "--fact", 1, "--to", "Rome", "--new-answers", "alt")
    assert "--new-answers needs --facts" in kndb(*words, code=2).err


def test_prompts_that_cant_be_asked_are_said(use_ready, kndb, kndb_json, tmp_path):
    use_ready()
    fact = {"relation": "P36", "subject": "France", "object": "Paris"}
    fact["evaluation"] = [
        {"kind": "portability", "text": "a [Y]", "answers": ["Rome"], "new_object": "Oslo"},
        {"kind": "portability", "text": "b [Y]", "answers": ["Rome"], "new_object": "Lima"},
        {"kind": "locality", "text": "c [Y]"},
    ]
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(fact) + "\n", encoding="utf-8")
    assert kndb_json("ingest", path)["evaluation_prompts_added"] == 3
    number = kndb_json("query", "facts", "--subject", "France", "--relation", "P36")[0]["id"]
    kndb("edit", "update", "--model", "tiny", "--fact", number, "--to", "Tokyo", "--max-share", 1)
    said = kndb("edit", "eval", 1, "--sample", 1).err
    assert "2 prompts for portability were not asked: the answers hold for another new answer than this edit's." in said
    assert "1 prompt for locality was not asked: the source names no answer." in said
