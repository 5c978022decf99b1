"""The benchmark of localisation against counts by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from made_once import made_once

from kndb.bench.localisation import PlantedNeurons, score_sets
from kndb.cli.main import exit_code
from kndb.database.localisation import bench_localisation
from kndb.errors import ModelError, UsageError
from kndb.lab.card import write_checkpoint
from kndb.lab.corpus import build_corpus
from kndb.lab.planting import read_plan
from kndb.lab.train import TrainingSettings, planted_settings, train
from kndb.records.models import Neuron


def neurons(*indices: int, layer: int = 1) -> frozenset[Neuron]:
    return frozenset(Neuron(layer, index) for index in indices)


def test_counts_by_hand():
    relation = neurons(0, 1)
    planted = {
        "a": PlantedNeurons(neurons(10, 11), relation, neurons(0, 1, 10, 11, 12, 13)),
        "b": PlantedNeurons(neurons(12, 13), relation, neurons(0, 1, 10, 11, 12, 13)),
        "c": PlantedNeurons(neurons(20, 21), neurons(2, 3), neurons(2, 3, 20, 21, 22)),
    }
    refined = {
        "a": neurons(0, 10, 12, 20) | neurons(10, layer=2),  # relation, own, block, foreign, free
        "b": neurons(12, 13, 0),  # own, own, relation
        "c": frozenset(),
    }
    found = score_sets("by hand", refined, planted, 100)
    assert (found.facts, found.neurons_per_fact, found.planted_per_fact) == (3, 8 / 3, 4)
    assert (found.own, found.relation, found.block, found.foreign, found.free) == (3 / 8, 2 / 8, 1 / 8, 1 / 8, 1 / 8)
    assert (found.precision, found.recall) == (5 / 8, 5 / 12)
    # Any set of k of 100 neurons holds 4 · k/100 planted ones on average, be k 5, 3 or 0.
    assert found.precision_by_chance == pytest.approx(4 / 100)
    assert found.recall_by_chance == pytest.approx((5 + 3 + 0) / 3 / 100)


def test_empty_sets_have_no_precision():
    planted = {1: PlantedNeurons(neurons(1), neurons(0), neurons(0, 1))}
    found = score_sets("none", {1: frozenset()}, planted, 10)
    assert (found.precision, found.own, found.recall, found.neurons_per_fact) == (None, None, 0.0, 0.0)


def test_facts_that_can_not_be_scored():
    with pytest.raises(UsageError, match="no fact was attributed"):
        score_sets("none", {}, {}, 10)
    with pytest.raises(UsageError, match="fact 7 was not planted"):
        score_sets("none", {7: neurons(1)}, {}, 10)


@pytest.fixture(scope="module")
def planted_model(small_facts, tmp_path_factory):
    """The folder of a tiny model planted with 16 facts; only to be read. It is trained once per machine."""
    from kndb.facts import read

    plain = TrainingSettings("bert", layers=2, width=32, neurons=64, heads=2, vocabulary=400, batch_size=40)
    settings = replace(planted_settings(plain), epochs=60, learning_rate=5e-3)

    def make(folder):
        corpus = build_corpus(read(small_facts))
        write_checkpoint(train(corpus, settings), corpus, folder / "tiny", own=False)

    decided_by = (small_facts.read_text(encoding="utf-8"), settings)
    modules = ("kndb.facts", "kndb.lab.card", "kndb.lab.corpus", "kndb.lab.train")
    return made_once("planted-model", decided_by, modules, make, tmp_path_factory.mktemp("planted")) / "tiny"


def test_the_command_s_scores_are_those_of_the_stored_sets(planted_model, small_facts, tmp_path, monkeypatch, capsys):
    """The whole path against the commands that a user would run, counted with plain sets."""
    monkeypatch.setenv("KNDB_DB", str(tmp_path / "kndb.db"))
    methods = ("activation", "gradient-x-activation")
    options = [option for method in methods for option in ("--method", method)]
    run = ["bench", "localisation", "--model", str(planted_model), "--facts", str(small_facts), *options]
    assert exit_code([*run, "--plot", str(tmp_path / "found.svg"), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in found] == list(methods)
    assert (tmp_path / "found.svg").read_bytes().startswith(b"<?xml")

    plan = read_plan(planted_model)
    for command in (["ingest", str(small_facts)], ["model", "add", str(planted_model), "--name", "tiny"]):
        assert exit_code(command) == 0
    for row in found:
        assert exit_code(["attribute", "--model", "tiny", "--method", row["method"]]) == 0
        assert exit_code(["refine", "--model", "tiny"]) == 0
        capsys.readouterr()
        out = tmp_path / f"{row['method']}.jsonl"
        assert exit_code(["export", "neurons", "--to", str(out)]) == 0
        pairs = right = 0
        for line in out.read_text(encoding="utf-8").splitlines():
            held = json.loads(line)
            if "layer" not in held:
                continue
            pairs += 1
            key = held["relation"], held["subject"], held["object"]
            right += Neuron(held["layer"], held["neuron"]) in {*plan.facts[key], *plan.relations[key[0]]}
        assert pairs > 0
        assert row["facts"] == len(plan.facts) == 16
        assert row["neurons_per_fact"] == pytest.approx(pairs / 16)
        assert row["precision"] == pytest.approx(right / pairs)
        assert row["recall"] == pytest.approx(right / (16 * 7))
        assert sum(row[share] for share in ("own", "relation", "block", "foreign", "free")) == pytest.approx(1)


def test_what_is_refused(planted_model, small_models, small_facts, tmp_path):
    with pytest.raises(UsageError, match=r"method must be one of .*got 'guess'"):
        bench_localisation(str(planted_model), methods=["guess"])
    with pytest.raises(ModelError, match="nothing is known to be planted"):
        bench_localisation(str(small_models["bert"]), facts=[small_facts])
    with pytest.raises(UsageError, match=r"was not planted in this model.*with facts"):
        bench_localisation(str(planted_model))
