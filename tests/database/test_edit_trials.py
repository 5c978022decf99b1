"""Benches and sweeps on small models: against plain transformers, one result after the other, and put back."""

import json
import math
from dataclasses import replace

import pytest
from plain_answers import distribution
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from kndb.analysis.intervals import mean_interval, share_interval
from kndb.errors import EditError, NotFoundError, UsageError
from kndb.records.edit_settings import EvaluationSettings, OptimizeSettings, TrialSettings, UpdateSettings

AUTO = {"bert": AutoModelForMaskedLM, "gpt2": AutoModelForCausalLM}
WEAK = UpdateSettings(rule="output", lambda_old=0.5, lambda_new=1.5, max_share=1.0)
SIZES = TrialSettings(facts=5, intra=4, inter=6)


@pytest.fixture
def database(refined):
    """A database of each family in turn, in which model `tiny` is refined."""
    return refined


def results(database, trial):
    with database.store.reading() as connection:
        query = "SELECT part, position, fact_id, measures FROM edit_trial_result WHERE trial_id = ? ORDER BY 1, 2"
        return [tuple(row) for row in connection.exec_driver_sql(query, (trial,))]


def stored(database):
    tables = ("edit", "edit_neuron", "applied_edit", "history", "version", "model")
    with database.store.reading() as connection:
        return [tuple(row) for table in tables for row in connection.exec_driver_sql(f"SELECT * FROM {table}")]


def answers(model, tokenizer, family, texts):
    """The most probable token at the blank of each prompt, by transformers alone."""
    return [int(distribution(model, tokenizer, family, text).argmax()) for text in texts]


def test_what_a_bench_measures_is_what_the_edits_do(database, family, sql, small_models):
    before = stored(database)
    trial = database.trials.bench("tiny", WEAK, replace(SIZES, relations=["P36"], seed=4), counts=(1, 3))
    assert stored(database) == before
    assert (trial.kind, trial.status, trial.settings["method"]) == ("bench", "complete", "update")
    with database.store.reading() as connection:
        query = "SELECT part, position, fact_id, measures FROM edit_trial_result ORDER BY part DESC, position"
        rows = connection.exec_driver_sql(query).all()
    assert [(part, place) for part, place, _, _ in rows] == [
        *(("single", place) for place in range(5)),
        ("cumulative", 1),
        ("cumulative", 3),
    ]
    tokenizer = AutoTokenizer.from_pretrained(small_models[family])
    unedited = AUTO[family].from_pretrained(small_models[family]).eval()
    order = [fact for part, _, fact, _ in rows if part == "single"]
    table = database.trials.table(trial.id)
    (pile,) = (row for row in table if (row.part, row.edits, row.weights) == ("cumulative", 3, "edit"))
    # Once more with stored edits: planned on each other, applied, asked by transformers.
    told = {fact: json.loads(measures)["to"] for part, _, fact, measures in rows if part == "single"}
    edits = []
    for place, fact in enumerate(order[:3]):
        settings = UpdateSettings(rule="output", lambda_old=0.5, lambda_new=1.5, max_share=1.0)
        edits.append(database.edits.plan_update("tiny", fact, told[fact], settings))
        database.edits.apply(edits[-1].id)
        model = database.load_model("tiny").eval()
        if place in (0, 2):
            (row,) = (row for row in table if (row.edits, row.weights) == (place + 1, "edit") and row.part != "single")
            wins = []
            for edit, number in zip(edits, order, strict=False):
                query = (
                    "SELECT prompt.text FROM prompt JOIN template ON template.id = template_id "
                    "WHERE fact_id = ? AND NOT held_out"
                )
                texts = [text for (text,) in sql(database, query, number)]
                wins += [token == edit.recipe.new_token for token in answers(model, tokenizer, family, texts)]
            assert row.measures["success"][0] == pytest.approx(sum(wins) / len(wins))
            other = [text for (text,) in sql(
                database,
                "SELECT text FROM prompt JOIN fact ON fact.id = fact_id JOIN relation ON relation.id = "
                "fact.relation_id WHERE key = 'P37'",
            )]  # fmt: skip
            same = [
                one == other_token
                for one, other_token in zip(
                    answers(unedited, tokenizer, family, other), answers(model, tokenizer, family, other), strict=True
                )
            ]
            # Six of the eight facts are drawn: bounds.
            assert abs(row.measures["inter_locality"][0] - sum(same) / len(same)) <= 2 / 8 + 1e-9
    assert (pile.facts, pile.planned) == (3, 3)
    assert pile.neurons == pytest.approx(sum(edit.neurons for edit in edits) / 3)
    # And alone: as the evaluation of a stored edit says.
    database.edits.revert_all([edit.id for edit in edits])
    measured = database.edits.evaluate(edits[0].id, EvaluationSettings(sample=6, seed=4)).measures["edited"]
    first = json.loads(next(measures for part, place, _, measures in rows if (part, place) == ("single", 0)))
    assert first["edited"]["success"] == measured["own"]["success_rate"]
    assert first["edited"]["paraphrase"] == measured["own_held_out"]["success_rate"]
    assert first["neurons"] == edits[0].neurons


def test_a_bench_that_was_stopped_goes_on(database, monkeypatch):
    def run(stop=None):
        left = [stop]

        def progress(done, total):
            if left[0] is not None and done == left[0]:
                raise KeyboardInterrupt

        return database.trials.bench("tiny", WEAK, replace(SIZES, seed=1), counts=(2, 4), progress=progress)

    for stop in (2, 4, 8):
        with pytest.raises(KeyboardInterrupt):
            run(stop)
        (trial,) = database.trials.all("tiny")
        assert trial.status == "running"
    done = run()
    stopped = results(database, done.id)
    with database.store.writing() as connection:
        connection.exec_driver_sql("DELETE FROM edit_trial_result")
        connection.exec_driver_sql("DELETE FROM edit_trial")
    assert results(database, run().id) == stopped
    assert run().id == database.trials.all()[0].id
    calls = []
    monkeypatch.setattr("kndb.database.edits.trial_measures.TrialRun.single", lambda *_: calls.append(1))
    run()
    assert calls == []


def test_the_same_facts_and_answers_for_every_method(database):
    first = database.trials.bench("tiny", WEAK, replace(SIZES, seed=2), counts=())
    other = database.trials.bench("tiny", OptimizeSettings(steps=2), replace(SIZES, seed=2), counts=())

    drawn = [
        [(place, fact, json.loads(measures)["to"]) for _, place, fact, measures in results(database, trial.id)]
        for trial in (first, other)
    ]
    assert drawn[0] == drawn[1]
    fewer = database.trials.bench("tiny", WEAK, TrialSettings(3, 4, 6, seed=2), counts=())
    assert [row[:3] for row in results(database, fewer.id)] == [row[:3] for row in results(database, first.id)][:3]
    assert len({trial.id for trial in (first, other, fewer)}) == 3


def test_tables_are_means_over_facts(database):

    trial = database.trials.bench("tiny", UpdateSettings(max_share=0.4), TrialSettings(8, 3, 3, seed=3), counts=())
    rows = [json.loads(measures) for *_, measures in results(database, trial.id)]
    planned = [row for row in rows if "edited" in row]
    (summary, _) = database.trials.table(trial.id)
    assert (summary.facts, summary.planned) == (len(rows), len(planned))
    success = [row["edited"]["success"] for row in planned] + [0.0] * (len(rows) - len(planned))
    assert summary.measures["success"] == pytest.approx((sum(success) / len(success), *share_interval(success)))
    change = [row["edited"]["inter_change"] for row in planned]
    assert summary.measures["inter_change"][0] == pytest.approx(math.fsum(change) / len(change))
    if len(change) > 1:
        assert summary.measures["inter_change"][1:] == pytest.approx(mean_interval(change, seed=3))
    reasons = database.trials.unplanned(trial.id)
    assert len(reasons) == len(rows) - len(planned)
    assert all("is held by more than 0.4" in reason for _, reason in reasons)


def test_a_cell_of_a_sweep_is_a_bench_with_its_settings(database):
    methods = [
        UpdateSettings(lambda_new=factor, max_share=1.0, neurons=size) for factor in (1.0, 8.0) for size in (1, None)
    ]
    sweep = database.trials.sweep("tiny", methods, replace(SIZES, seed=5))
    table = [row for row in database.trials.table(sweep.id) if row.weights == "edit"]
    assert [(row.settings["lambda_new"], row.settings["neurons"]) for row in table] == [
        (1.0, 1),
        (1.0, None),
        (8.0, 1),
        (8.0, None),
    ]
    assert all(row.neurons == 1 for row in table if row.settings["neurons"] == 1)
    for method, row in zip(methods, table, strict=True):
        bench = database.trials.bench("tiny", method, replace(SIZES, seed=5), counts=())
        (single, _) = database.trials.table(bench.id)
        assert single.measures == row.measures


def test_what_is_refused(database):
    with pytest.raises(UsageError, match=r"intra must be at least 1 \(got 0\)"):
        TrialSettings(intra=0)
    with pytest.raises(UsageError, match=r"seed must be a number from 0 to 2\^63 - 1 \(got -1\)"):
        TrialSettings(seed=-1)
    with pytest.raises(UsageError, match=r"counts must be at least 1 \(got 0, 3\)"):
        database.trials.bench("tiny", counts=(0, 3))
    with pytest.raises(UsageError, match="no settings to try"):
        database.trials.sweep("tiny", [])
    with pytest.raises(NotFoundError):
        database.trials.bench("tiny", settings=TrialSettings(relations=["P99"]))
    with pytest.raises(NotFoundError, match="no trial 7"):
        database.trials.table(7)
    assert database.trials.all() == []


def test_facts_without_neurons_can_not_be_benched(database):
    with database.store.writing() as connection:
        connection.exec_driver_sql("DELETE FROM knowledge_neuron")
    with pytest.raises(EditError, match="has a knowledge neuron in refinement 1; attribute"):
        database.trials.bench("tiny", settings=TrialSettings(relations=["P36"]))
