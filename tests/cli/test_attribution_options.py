"""What `attribute`, `refine` and `methods` take and print beyond the usual path."""

import json
import sqlite3
from contextlib import closing

ATTRIBUTE = ("attribute", "--model", "tiny", "--relation", "P36")


def stored_settings(run):
    with closing(sqlite3.connect("kndb.db")) as driver:
        method, settings = driver.execute("SELECT method, settings FROM run WHERE id = ?", (run,)).fetchone()
    return {"method": method, **json.loads(settings)}


def test_every_option_of_attribute_reaches_the_run(use_ready, kndb_json):
    use_ready()
    options = ("--target", "Oslo", "--quadrature", "gauss-legendre", "--steps", 4, "--floor", 0.25, "--negative")
    options += ("--known-only", "--held-out", "--dtype", "float64", "--batch-size", 5, "--version", "base")
    report = kndb_json(*ATTRIBUTE, *options)
    assert report["run"] == 2
    assert stored_settings(2) == {
        "method": "integrated-gradients",
        "quadrature": "gauss-legendre",
        "steps": 4,
        "tolerance": None,
        "target": "Oslo",
        "floor": 0.25,
        "negative": True,
        "known_only": True,
        "held_out": True,
        "dtype": "float64",
    }
    again = kndb_json(*ATTRIBUTE, *options, "--run", 2)
    assert (again["run"], again["attributed"], again["already_done"]) == (2, 0, report["attributed"])
    assert report["seconds_writing"] <= report["seconds"]


def test_a_random_run_has_its_seed(use_ready, kndb_json):
    use_ready()
    for number, seed in enumerate((7, 8), 2):
        report = kndb_json(*ATTRIBUTE, "--method", "random", "--seed", seed)
        assert (report["run"], report["completeness_error_mean"]) == (number, None)
        assert stored_settings(number)["seed"] == seed


def test_refine_takes_each_methods_usual_threshold(use_ready, kndb, kndb_json):
    use_ready()
    for run, (method, threshold) in enumerate([("activation", 0.5), ("gradient-x-activation", 0.2)], 2):
        kndb(*ATTRIBUTE, "--method", method)
        assert kndb_json("refine", "--run", run)[0]["refinement"] == run
        with closing(sqlite3.connect("kndb.db")) as driver:
            query = "SELECT json_extract(settings, '$.threshold') FROM refinement WHERE run_id = ?"
            assert driver.execute(query, (run,)).fetchall() == [(threshold,)]


def test_refine_the_lowest_scores(use_ready, kndb, kndb_json):
    use_ready()
    kndb(*ATTRIBUTE, "--negative")
    (row,) = kndb_json("refine", "--run", 2, "--negative")
    assert row["facts_with_neurons"] > 0
    with closing(sqlite3.connect("kndb.db")) as driver:
        query = "SELECT max(mean_score) FROM knowledge_neuron WHERE refinement_id = ?"
        assert driver.execute(query, (row["refinement"],)).fetchone()[0] < 0


def test_a_run_goes_on_with_the_version_that_it_saw(use_ready, kndb, kndb_json):
    use_ready()
    kndb("edit", "erase", "--model", "tiny", "--relation", "P36", "--top", 3)
    changed = kndb_json("edit", "apply", 1)["version_after"]
    refusal = kndb(*ATTRIBUTE, "--run", 1, code=7).err
    assert changed in refusal
    assert "--version" in refusal
    assert "--run" in refusal
    report = kndb_json(*ATTRIBUTE, "--run", 1, "--version", "base", "--no-negative")
    assert (report["run"], report["attributed"], report["already_done"]) == (1, 0, 40)
    assert kndb_json(*ATTRIBUTE)["run"] == 2


def test_methods_are_listed_with_cost_and_source(kndb_json):
    rows = {row["method"]: row for row in kndb_json("methods")}
    assert next(iter(rows)) == "integrated-gradients"
    assert {name: row["threshold"] for name, row in rows.items()} == {
        "integrated-gradients": 0.2,
        "activation": 0.5,
        "gradient-x-activation": 0.2,
        "log-probability-increase": 0.2,
        "random": 0.2,
    }
    assert all(row["cost_per_prompt"] and row["source"] for row in rows.values())
