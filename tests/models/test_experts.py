"""Mixtures of experts: how neurons are numbered, what is computed, what files call it, what routing does to P(α)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from causal_families import causal_model
from masked_families import byte_level
from safetensors.torch import load_file, save_file
from tiny_models import VOCABULARY, activations, doubled, probability

from kndb.attribution.base_pass import continue_from
from kndb.attribution.batches import automatic_size, to_tensors
from kndb.attribution.integrated_gradients import integrated_gradients
from kndb.attribution.quadrature import Quadrature
from kndb.errors import ModelError
from kndb.models import acceptance
from kndb.models.acceptance import describe
from kndb.models.expert_files import as_loaded, stored_names, stored_parts
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt
from kndb.models.registry import adapter_for

CPU = torch.device("cpu")


def make_network(name: str, **settings: Any) -> Network:
    model = causal_model(name, **settings).requires_grad_(False)
    return Network(model, adapter_for(model.config))


def rows(count: int) -> torch.Tensor:
    return torch.randn(count, 24, generator=torch.Generator().manual_seed(1))


# --- neurons -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "each", "chosen"), [("mixtral", 40, 2), ("qwen3_moe", 20, 3), ("gpt_oss", 40, 2)])
def test_a_row_has_the_neurons_of_its_experts_and_no_others(name, each, chosen):
    network = make_network(name)
    block, source = network.layers[1].block, rows(6)
    found = block.neurons(source).unflatten(-1, (-1, each))
    router = network.model.model.layers[1].mlp
    _, weights, numbers = (router.router if name == "gpt_oss" else router.gate)(source)
    for row in range(len(source)):
        active = (found[row] != 0).any(-1).nonzero().flatten().tolist()
        assert active == sorted(numbers[row].tolist())
        assert len(active) == chosen
    assert network.active_neurons == chosen * each
    assert network.neurons == found.shape[1] * each
    assert weights.shape == (6, chosen)


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe-one", "gpt_oss"])
def test_what_is_written_is_the_sum_of_neurons_times_their_slots(name):
    network = make_network(name)
    layer, source = network.layers[0], rows(5).unsqueeze(0)
    neurons, beside = layer.block.neurons(source), layer.block.beside(source)
    expected = neurons @ layer.slots + (0 if beside is None else beside)
    torch.testing.assert_close(layer.block.run(source), expected)
    torch.testing.assert_close(layer.written(neurons, beside), expected)
    whole = network.model.model.layers[0].mlp(source)
    torch.testing.assert_close(whole[0] if isinstance(whole, tuple) else whole, expected)
    torch.testing.assert_close(layer.block.on_slots(source[0]), source[0] @ layer.slots.T)
    assert (beside is None) == (name != "gpt_oss")


def test_memory_is_reckoned_by_the_experts_that_a_token_is_given_to():
    prompt = EncodedPrompt(0, (1, 2, 3), 2, 4)
    few, many = (automatic_size(make_network("mixtral", num_experts_per_tok=count), prompt) for count in (1, 4))
    assert few >= many


# --- what files call them ------------------------------------------------------------------------------------


def test_experts_are_found_under_the_names_that_files_have():
    together = "model.layers.3.mlp.experts.down_proj"
    mixtral = {"model.layers.3.block_sparse_moe.experts.0.w2.weight"}
    assert stored_parts(together, mixtral) == ("model.layers.3.block_sparse_moe.experts.{}.w2.weight",)
    body = {f"layers.3.mlp.experts.0.{part}_proj.weight" for part in ("gate", "up", "down")}
    gates = "model.layers.3.mlp.experts.gate_up_proj"
    assert stored_parts(together, body) == ("layers.3.mlp.experts.{}.down_proj.weight",)
    assert stored_parts(gates, body) == tuple(
        f"layers.3.mlp.experts.{{}}.{part}_proj.weight" for part in ("gate", "up")
    )
    assert stored_parts(together, {together}) is None
    assert stored_parts("model.layers.3.mlp.down_proj.weight", mixtral) is None
    assert "model.layers.3.block_sparse_moe.gate.weight" in stored_names("model.layers.3.mlp.gate.weight")


def entry(*shape: int) -> dict[str, Any]:
    return {"dtype": "BF16", "shape": list(shape)}


def test_entries_of_single_experts_become_one():
    name = "model.layers.0.mlp.experts.{}"
    files = {name.format(f"{e}.{part}_proj.weight"): entry(7, 5) for e in range(3) for part in ("gate", "up")}
    files |= {name.format(f"{e}.down_proj.weight"): entry(5, 7) for e in range(3)} | {"other": entry(4)}
    loaded = {name.format("gate_up_proj"): 3, name.format("down_proj"): 3}
    assert as_loaded(files, loaded) == {
        "other": entry(4),
        name.format("gate_up_proj"): entry(3, 14, 5),
        name.format("down_proj"): entry(3, 5, 7),
    }
    uneven = files | {name.format("1.up_proj.weight"): entry(6, 5)}
    with pytest.raises(ModelError, match=r"experts.1.up_proj.weight has the shape \[6, 5\].*0.gate_proj.weight has"):
        as_loaded(uneven, loaded)


def test_a_checkpoint_is_described_without_putting_experts_together(tmp_path, monkeypatch):
    causal_model("mixtral", vocab_size=400).save_pretrained(tmp_path)
    byte_level().save_pretrained(tmp_path)
    made: list[tuple[int, ...]] = []
    monkeypatch.setattr(acceptance, "_stand_in", lambda entry: made.append(tuple(entry["shape"])) or _zeros(entry))
    found = describe(tmp_path)
    assert (found.family, found.layers, found.neurons) == ("mixtral", 3, 160)
    assert made.count((4, 24, 40)) == made.count((4, 80, 24)) == 3
    assert (24, 40) not in made


def _zeros(entry: dict[str, Any]) -> torch.Tensor:
    return torch.zeros(()).expand(entry["shape"])


def test_an_expert_that_is_missing_is_named(tmp_path):
    causal_model("mixtral", vocab_size=400).save_pretrained(tmp_path)
    byte_level().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.block_sparse_moe.experts.2.w2.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack model\S+experts.2.w2.weight, a part of model\S+down_proj; fetch"):
        describe(tmp_path)


# --- routing along the path ----------------------------------------------------------------------------------


def test_steps_of_the_path_are_missing_from_the_scores_and_show_in_the_completeness_error():
    """The layer's own routing does not change with α, as its input does not; that of layers above may, at some α."""
    model = causal_model("qwen3_moe-one")
    exact = doubled(model)
    network = Network(model.requires_grad_(False), adapter_for(model.config))
    alphas = torch.linspace(0, 1, 1001, dtype=torch.float64)
    stepped = 0
    for seed in (1, 3):
        *ids, answer = torch.randint(1, VOCABULARY, (6,), generator=torch.Generator().manual_seed(seed)).tolist()
        batch = to_tensors([EncodedPrompt(0, tuple(ids), 4, answer)], CPU)
        rule = Quadrature.choose("bisection", None, 1e-3, 400)
        found = integrated_gradients(continue_from(network, batch), torch.arange(1), rule, 64)
        for layer, active in enumerate(activations(exact, ids, 4)):
            values = probability(exact, ids, 4, answer, layer, alphas.unsqueeze(1) * active)
            changes = values.diff()
            steps = changes[(changes.abs() > 10 * changes.abs().median()) & (changes.abs() > 1e-4)]
            expected = float(values[-1] - values[0] - steps.sum())
            assert float(found.scores[0, layer].sum()) == pytest.approx(expected, abs=2e-4)
            assert (float(found.completeness_error[0, layer]) > 0.05) == bool(len(steps))
            stepped += bool(len(steps))
    assert stepped >= 2
