"""The benchmark: its baseline is a Riemann sum, its arithmetic is what a count by hand gives, its numbers fit."""

from __future__ import annotations

import json
import sqlite3

import pytest
import torch
from attribution_cases import make_case
from tiny_models import brute_force, relative_error

from kndb.attribution.quadrature import Quadrature
from kndb.attribution.settings import AttributionSettings
from kndb.bench.attribution import measure, random_prompts
from kndb.bench.baseline import baseline_scores
from kndb.bench.shapes import FAMILIES, random_network
from kndb.cli.main import exit_code
from kndb.database import bench
from kndb.errors import UsageError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_products(monkeypatch):
    """A matrix product that takes no time; nothing here looks at rates."""
    monkeypatch.setattr("kndb.bench.attribution.PRODUCT_SIZE", {"cpu": 64})


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_the_baseline_is_the_left_riemann_sum(family):
    case = make_case(family, 51, [6])
    (prompt,) = case.prompts
    rule = [k / 20 for k in range(20)], [0.05] * 20
    expected = brute_force(case.exact, prompt.ids, prompt.position, prompt.answer, rule)
    assert relative_error(baseline_scores(case.network, prompt), expected) < 1e-5
    engine = case.attribute("riemann-left", 20).scores[0]
    assert relative_error(engine, expected) < 1e-5
    assert not any(parameter.requires_grad for parameter in case.model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_tiny_model(family):
    network = random_network(family, "tiny", seed=0, device=CPU, dtype=torch.float32)
    assert len(network.layers) == 4
    assert network.neurons == 512
    prompts = random_prompts(network, 2, 5, seed=0)
    settings = AttributionSettings(Quadrature.choose("radau", 3))
    found = measure(network, prompts, settings, baseline_prompts=0)
    assert found.prompts == 2
    assert found.evaluations_per_layer == 2
    assert found.baseline_seconds_per_prompt is None
    assert found.times_baseline is None
    again = random_network(family, "tiny", seed=0, device=CPU, dtype=torch.float32)
    for first, second in zip(network.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(first, second)


def test_arithmetic_of_a_causal_model_is_counted():
    """GPT-2 of 4 layers, width 128, 512 neurons, vocabulary 1000, 8 tokens, counted by hand."""
    network = random_network("gpt2", "tiny", seed=0, device=CPU, dtype=torch.float32)
    prompts = random_prompts(network, 4, 8, seed=0)
    found = measure(network, prompts, AttributionSettings(Quadrature.choose("radau", 3)), baseline_prompts=1)
    width, neurons, vocabulary, layers, tokens = 128, 512, 1000, 4, 8
    projections = 2 * 3 * width * width
    block = projections + 2 * width * width + 2 * 2 * width * neurons  # one token through one layer
    head = 2 * width * vocabulary
    # The base pass: the prefix (in the last layer, its keys and values alone), and the answer's token both ways.
    base = (tokens - 1) * ((layers - 1) * block + projections) + 2 * (layers * block + head)
    # For each layer below another: α = 0 forward, two nodes forward and backward, through all layers above.
    passes = 1 + 2 * 2
    above = sum(layers - 1 - layer for layer in range(layers)) * block * passes + layers * head * passes
    scores = layers * 2 * width * neurons
    by_hand = (base + above + scores) / 1e9
    # Attention itself is left out above; for 8 tokens it is small beside the projections.
    assert by_hand * 0.97 < found.gflop_per_prompt < by_hand * 1.05
    whole = tokens * layers * block + tokens * head
    forward = layers * (20 + 1) * whole
    assert found.baseline_gflop_per_prompt > forward / 1e9  # and some of the way back


def test_results_go_to_a_store(monkeypatch, tmp_path):
    written = tmp_path / "copy.db"
    prepare = bench._prepare

    def keeping(store, network, prompts):
        run = prepare(store, network, prompts)
        keeping.path = store.path
        return run

    save = bench._save

    def saving(store, run_id, batch):
        save(store, run_id, batch)
        with sqlite3.connect(store.path) as source, sqlite3.connect(written) as target:
            source.backup(target)

    monkeypatch.setattr(bench, "_prepare", keeping)
    monkeypatch.setattr(bench, "_save", saving)
    found = bench.bench_attribution(
        family="gpt2", size="tiny", prompts=30, tokens=5, batch_size=7, baseline_prompts=0, to_store=True
    )
    assert not keeping.path.exists()
    with sqlite3.connect(written) as connection:
        results = connection.execute("SELECT COUNT(*) FROM prompt_result").fetchone()[0]
        scores = connection.execute("SELECT COUNT(*) FROM score").fetchone()[0]
    assert results == found.prompts == 30
    assert scores == pytest.approx(found.scores_per_prompt * 30)
    assert found.seconds_writing is not None
    assert found.completeness_max >= found.completeness_p95 >= 0


def test_the_command_saves_what_it_prints(tmp_path, capsys):
    path = tmp_path / "measured.json"
    arguments = ["--family", "bert", "--size", "tiny", "--prompts", "3", "--tokens", "4", "--dtype", "bfloat16"]
    assert exit_code(["bench", "attribution", *arguments, "--save", str(path), "--format", "json"]) == 0
    printed, saved = json.loads(capsys.readouterr().out), json.loads(path.read_text(encoding="utf-8"))
    assert saved["settings"]["dtype"] == "bfloat16"
    assert saved["measures"]["prompts"] == 3
    assert saved["machine"]["torch"] == torch.__version__
    (record,) = printed if isinstance(printed, list) else [printed]
    assert record["times_baseline"] == pytest.approx(saved["measures"]["times_baseline"], rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "parrot"}, "family must be one of bert, .*'parrot'"),
        ({"family": "bert", "size": "7b"}, "size of bert must be one of tiny, base .got '7b'"),
        ({"prompts": 0}, "prompts must be at least 1 .got 0"),
        ({"dtype": "tf32", "device": "cpu"}, "dtype='tf32' needs a CUDA device .this is cpu"),
        ({"dtype": "float8"}, "dtype must be one of float32, .*'float8'"),
    ],
)
def test_what_makes_no_sense(arguments, message):
    with pytest.raises(UsageError, match=message):
        bench.bench_attribution(**arguments)
