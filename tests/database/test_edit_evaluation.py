"""Stored evaluations against plain transformers, and the table over edits against the JSON of each."""

import json
import math

import pytest
from plain_answers import distribution
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from kndb.errors import NotFoundError
from kndb.records.edit_settings import EvaluationSettings, UpdateSettings

AUTO = {"bert": AutoModelForMaskedLM, "gpt2": AutoModelForCausalLM}


@pytest.fixture
def database(refined):
    """A database of each family in turn, in which model `tiny` is refined."""
    return refined


def plan(database, subject, answer):
    fact = database.facts.find(["P36"], subject=subject)[0]
    return database.edits.plan_update(
        "tiny", fact.id, answer, UpdateSettings(rule="output", max_share=1.0, lambda_old=0.5, lambda_new=1.5)
    )


def test_locality_is_against_the_unedited_checkpoint(database, family, sql, small_models, tmp_path):
    first = plan(database, "France", "Tokyo")
    database.edits.apply(first.id)
    second = plan(database, "Italy", "Oslo")
    measures = database.edits.evaluate(second.id, EvaluationSettings(sample=8)).measures
    database.edits.apply(second.id)
    tokenizer = AutoTokenizer.from_pretrained(small_models[family])
    unedited = AUTO[family].from_pretrained(small_models[family]).eval()
    edited = database.load_model("tiny").eval()
    query = "SELECT text, subject, object FROM prompt JOIN fact ON fact.id = fact_id JOIN relation ON relation.id"
    rows = sql(database, f"{query} = relation_id WHERE key = 'P36' AND subject <> 'Italy'")
    same, total, loss, neighbours = [], 0.0, 0.0, []
    new = second.recipe.new_token
    for text, _, answer in rows:
        before, after = (distribution(model, tokenizer, family, text) for model in (unedited, edited))
        same.append(int(before.argmax()) == int(after.argmax()))
        total += float((before.exp() * (before - after)).sum())
        word = answer if family == "bert" else " " + answer
        (token,) = tokenizer(word, add_special_tokens=False).input_ids
        loss -= float(after[token])
        if token != new:
            neighbours.append(float(after[token]) > float(after[new]))
    found = measures["edited"]["intra"]
    assert found["prompts"] == len(rows)
    assert found["locality"] == pytest.approx(sum(same) / len(rows))
    assert found["locality_divergence"] == pytest.approx(total / len(rows), rel=1e-3, abs=1e-5)
    assert found["perplexity_after"] == pytest.approx(math.exp(loss / len(rows)), rel=1e-3)
    assert found["neighbourhood_score_after"] == pytest.approx(sum(neighbours) / len(neighbours))
    # The first edit stands between the two.
    assert found["unchanged"] != found["locality"]
    alone = database.edits.evaluate(first.id, EvaluationSettings(sample=8)).measures["edited"]["intra"]
    assert alone["unchanged"] == alone["locality"]


def test_a_table_over_edits_is_one_query(database, sql):
    edits = [
        plan(database, "France", "Tokyo"),
        plan(database, "Italy", "Oslo"),
        database.edits.plan_erase("tiny", "P37"),
    ]
    assert database.edits.evaluated() == []
    database.edits.evaluate(edits[0].id, EvaluationSettings(sample=2, seed=9))
    stored = [database.edits.evaluate(edit.id, EvaluationSettings(sample=4)) for edit in edits]
    table = database.edits.evaluated()
    assert [(row.evaluation, row.edit, row.kind) for row in table] == [
        (one.id, edit.id, edit.kind) for one, edit in zip(stored, edits, strict=True)
    ]
    for row, one in zip(table, stored, strict=True):
        for weights, values in (("edited", row.edited), ("control", row.control)):
            measures, ends = one.measures[weights], one.measures["intervals"][weights]
            for name, group, measure in (
                ("success", "own", "success_rate"),
                ("paraphrase", "own_held_out", "success_rate"),
                ("inter_locality", "inter", "locality"),
                ("intra_change", "intra", "perplexity_relative_change"),
            ):
                value = measures.get(group, {}).get(measure)
                assert values[name] == (value, *ends.get(group, {}).get(measure, (None, None)))
    assert len(database.edits.evaluated(every=True)) == 4
    assert [row.edit for row in database.edits.evaluated([edits[1].id], model="tiny")] == [edits[1].id]
    with pytest.raises(NotFoundError):
        database.edits.evaluated([99])
    # As docs/schema.md says, for those who prefer SQL.
    found = sql(
        database,
        "SELECT value, low, high, facts FROM evaluation_measure WHERE evaluation_id = ? AND weights = 'edited' "
        "AND prompts_of = 'inter' AND measure = 'accuracy_after'",
        stored[0].id,
    )
    inter = stored[0].measures["edited"]["inter"]
    ends = stored[0].measures["intervals"]["edited"]["inter"]["accuracy_after"]
    assert found == [(inter["accuracy_after"], *ends, inter["facts"])]
    assert json.loads(json.dumps(stored[0].measures)) == stored[0].measures
