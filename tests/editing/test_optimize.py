"""Optimised edits: against models whose weights were changed by hand, and gradients against finite differences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from causal_families import causal_model
from masked_families import masked_model
from tiny_models import down_projections, tiny_model

from kndb.editing.objects import diff_file
from kndb.editing.objects.slots import apply_object
from kndb.editing.planning.optimize import optimize, plan_optimized
from kndb.editing.planning.upper_layers import UpperLayers
from kndb.errors import EditError, UsageError
from kndb.models.answers import answer_logits
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt
from kndb.models.registry import adapter_for
from kndb.records.edit_settings import OptimizeSettings
from kndb.records.models import Neuron
from kndb.records.recipes import OptimizeRecipe

MODELS = ("bert", "gpt2", "albert", "llama")
NEURONS = [Neuron(0, 3), Neuron(0, 30), Neuron(2, 7), Neuron(2, 0)]
PROMPTS = [
    EncodedPrompt(1, (5, 9, 4, 33, 7), 4, -1),
    EncodedPrompt(2, (8, 21, 4), 2, -1),
    EncodedPrompt(3, (40, 6, 17, 11), 3, -1),
]
OTHERS = [EncodedPrompt(10 + n, (n + 5, 2 * n + 3, 9 + n, 12), 3, -1) for n in range(8)]
SETTINGS = OptimizeSettings(steps=12, seed=3)


def make_network(name: str, dtype: torch.dtype = torch.float64) -> Network:
    if name == "llama":
        model = causal_model("llama")
    elif name == "albert":
        model = masked_model("albert")
    else:
        model = tiny_model(name, 4, roughness=0.3)
    model = model.to(dtype).requires_grad_(False).eval()
    return Network(model, adapter_for(model.config))


def random_changes(network: Network) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    layers = {}
    for layer in sorted({network.canonical_layer(layer) for layer in (0, 2)}):
        change = torch.randn(3, network.hidden_size, generator=generator, dtype=torch.float64)
        layers[layer] = torch.tensor([0, 7, 30]), 0.3 * change
    return layers


def logits(network: Network) -> torch.Tensor:
    return answer_logits(network, PROMPTS)


def changed_logits(network: Network, changes: dict[int, tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    slots, values = ({layer: pair[part] for layer, pair in changes.items()} for part in (0, 1))
    return UpperLayers(network, slots, PROMPTS).logits(range(len(PROMPTS)), values)


def add_by_hand(network: Network, changes: dict[int, tuple[torch.Tensor, torch.Tensor]], name: str) -> None:
    """Changes the weights, where the layer's own module has them."""
    modules = down_projections(network.model)
    for layer, (indices, change) in changes.items():
        weight = modules[layer].weight.data
        if name == "gpt2":
            weight[indices] += change
        else:
            weight[:, indices] += change.T


@pytest.mark.parametrize("name", MODELS)
def test_a_change_counts_as_a_changed_weight(name):
    network = make_network(name)
    changes = random_changes(network)
    before = logits(network)
    found = changed_logits(network, changes)
    assert torch.equal(logits(network), before)
    add_by_hand(network, changes, name)
    assert not torch.allclose(found, before, atol=1e-3)
    torch.testing.assert_close(found, logits(network), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_against_finite_differences(name):
    network = make_network(name)
    changes = random_changes(network)
    for _, change in changes.values():
        change.requires_grad_()

    def loss() -> torch.Tensor:
        return -changed_logits(network, changes).log_softmax(-1)[:, 11].mean()

    # Llama's norms compute in float32, whatever the model's dtype: there a small step drowns in rounding.
    step, tolerance = (1e-2, 1e-2) if name == "llama" else (1e-5, 1e-5)
    gradients = torch.autograd.grad(loss(), [change for _, change in changes.values()])
    for (_, change), gradient in zip(changes.values(), gradients, strict=True):
        for place in ((0, 1), (2, 5)):
            with torch.no_grad():
                change[place] += step
                above = loss().item()
                change[place] -= 2 * step
                below = loss().item()
                change[place] += step
            assert gradient[place].item() == pytest.approx((above - below) / (2 * step), rel=tolerance, abs=1e-8)


def divergence(before: torch.Tensor, after: torch.Tensor) -> float:
    """Mean KL divergence, row by row."""
    rows = []
    for old, new in zip(before.softmax(-1), after.softmax(-1), strict=True):
        rows.append(sum(p * (p / q).log() for p, q in zip(old, new, strict=True)).item())
    return sum(rows) / len(rows)


@pytest.mark.parametrize("name", MODELS)
def test_the_outcome_is_what_the_changes_do(name):
    network = make_network(name, torch.float32)
    parameters = {key: value.clone() for key, value in network.model.named_parameters()}
    others_before = answer_logits(network, OTHERS)
    changes, outcome = optimize(network, NEURONS, PROMPTS, 11, OTHERS, SETTINGS)
    assert all(torch.equal(value, parameters[key]) for key, value in network.model.named_parameters())
    before = logits(network).log_softmax(-1)[:, 11]
    add_by_hand(network, changes, name)
    after = logits(network).log_softmax(-1)[:, 11]
    assert outcome.loss == pytest.approx(-after.mean().item(), rel=1e-4)
    assert outcome.least_probability == pytest.approx(after.exp().min().item(), rel=1e-4)
    assert outcome.divergence == pytest.approx(divergence(others_before, answer_logits(network, OTHERS)), rel=1e-3)
    assert after.mean() > before.mean() + 0.1
    assert outcome.steps <= SETTINGS.steps


@pytest.mark.parametrize("bound", [0.05, 1.0])
def test_no_slot_moves_further_than_the_bound(bound):
    network = make_network("bert", torch.float32)
    changes, outcome = optimize(network, NEURONS, PROMPTS, 11, [], replace(SETTINGS, bound=bound, learning_rate=2.0))
    ratios = []
    for layer, (indices, change) in changes.items():
        values = down_projections(network.model)[layer].weight[:, indices].T
        ratios += (change.norm(dim=1) / values.norm(dim=1)).tolist()
    assert max(ratios) <= bound * (1 + 1e-5)
    assert max(ratios) == pytest.approx(outcome.largest_change, rel=1e-5)


def test_keeping_the_other_answers_costs_less_divergence():
    network = make_network("gpt2", torch.float32)
    free, kept = (
        optimize(network, NEURONS, PROMPTS, 11, OTHERS, replace(SETTINGS, keep=keep))[1] for keep in (0.0, 50.0)
    )
    assert kept.divergence < free.divergence / 2
    assert kept.loss > free.loss


def test_it_stops_once_the_aims_are_reached():
    network = make_network("bert", torch.float32)
    answer = int(logits(network)[:1].argmax(-1))
    settings = replace(SETTINGS, target=0.0, drift=10.0, steps=200)
    changes, outcome = optimize(network, NEURONS, PROMPTS[:1], answer, OTHERS, settings)
    assert (outcome.steps, outcome.reached, outcome.divergence) == (0, True, pytest.approx(0, abs=1e-6))
    assert not any(change.any() for _, change in changes.values())


def test_what_is_won_by_more_than_asked_for_is_given_back():
    network = make_network("gpt2", torch.float32)
    settings = replace(SETTINGS, steps=40, target=0.3, drift=0.0, keep=0.0, learning_rate=2.0)
    changes, outcome = optimize(network, NEURONS, PROMPTS[:1], 11, OTHERS, settings)
    assert 0.3 <= outcome.least_probability < 0.33
    assert not outcome.reached
    add_by_hand(network, changes, "gpt2")
    assert logits(network)[0].argmax() == 11


def make_plan(network: Network, settings: OptimizeSettings = SETTINGS) -> diff_file.EditObject:
    return plan_optimized(network, recipe_of(settings), PROMPTS, OTHERS, fingerprint="f" * 64)


def recipe_of(settings: OptimizeSettings) -> OptimizeRecipe:
    steps = {
        name: value for name, value in vars(settings).items() if name not in ("neighbours", "max_share", "neurons")
    }
    return OptimizeRecipe(old_token=12, new_token=11, neurons=tuple(NEURONS), **steps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_plan_changes_the_chosen_slots_and_reverts_bit_for_bit(dtype):
    network = make_network("albert", dtype)
    before = {key: value.clone() for key, value in network.model.named_parameters()}
    edit = make_plan(network)
    (diff,) = edit.parameters
    assert diff.indices.tolist() == [0, 3, 7, 30]
    assert diff.new.dtype is dtype
    parameters = dict(network.model.named_parameters())
    assert all(torch.equal(parameters[key], value) for key, value in before.items())
    apply_object(parameters, edit)
    changed = {key for key, value in parameters.items() if not torch.equal(value, before[key])}
    assert changed == {diff.parameter}
    others = [index for index in range(network.neurons) if index not in diff.indices]
    assert torch.equal(parameters[diff.parameter][:, others], before[diff.parameter][:, others])
    apply_object(parameters, edit, reverse=True)
    assert all(torch.equal(parameters[key], value) for key, value in before.items())


def test_one_seed_gives_one_sequence_of_bytes():
    settings = replace(SETTINGS, steps=3)
    others = [replace(OTHERS[0], ids=(n % 50 + 5, 8, 9), position=2) for n in range(60)]

    def planned(seed: int) -> bytes:
        network = make_network("bert", torch.float32)
        chosen = replace(settings, seed=seed)
        edit = plan_optimized(network, recipe_of(chosen), PROMPTS, others, fingerprint="f" * 64)
        return diff_file.encode(edit)

    assert planned(0) == planned(0)
    assert planned(0) != planned(1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("learning_rate", 0.0), ("keep", -1.0), ("bound", 0.0), ("target", 1.0), ("drift", -0.1)],
)
def test_settings_out_of_range(name, value):
    with pytest.raises(UsageError, match=rf"{name} must be .* \(got {value}\)"):
        OptimizeSettings(**{name: value})


def test_nothing_to_optimise():
    with pytest.raises(EditError, match="got 0 prompts and 4 neurons"):
        optimize(make_network("bert"), NEURONS, [], 11, OTHERS, SETTINGS)
