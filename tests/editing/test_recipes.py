"""Recipes against the definition in numpy, one neuron at a time, for both layouts of value slots."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from tiny_models import down_projections, tiny_model

from kndb.editing.objects import slots
from kndb.editing.planning.recipes import UpdateRule, erase_rule, plan, random_neurons
from kndb.errors import EditError
from kndb.models.families.bert import BERT
from kndb.models.families.gpt2 import GPT2
from kndb.models.network import Network
from kndb.records.models import Neuron
from kndb.records.recipes import read_recipe

FAMILIES = pytest.mark.parametrize("family", ["bert", "gpt2"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
NEURONS = [Neuron(2, 7), Neuron(0, 39), Neuron(0, 3), Neuron(2, 0)]
LAYOUT = {"bert": "column", "gpt2": "row"}


def make_network(family: str, dtype: torch.dtype = torch.float32, **settings) -> Network:
    model = tiny_model(family, 9, roughness=0.3, **settings).to(dtype)
    return Network(model, {"bert": BERT, "gpt2": GPT2}[family])


def slot(network: Network, neuron: Neuron) -> torch.Tensor:
    """What a neuron writes: found by sending 1 through it alone."""
    weight = down_projections(network.model)[neuron.layer].weight.detach()
    return weight[neuron.index, :] if network.adapter.family == "gpt2" else weight[:, neuron.index]


def make_plan(network, rule, neurons=NEURONS, recipe=None):
    return plan(network, neurons, rule, fingerprint="f" * 64, recipe=read_recipe("update", recipe or {}))


def new_values(edit) -> dict[Neuron, torch.Tensor]:
    return {
        Neuron(edit.layers[diff.parameter], index): row
        for diff in edit.parameters
        for index, row in zip(diff.indices.tolist(), diff.new, strict=True)
    }


@FAMILIES
@DTYPES
@pytest.mark.parametrize(("lambda_old", "lambda_new"), [(1.0, 8.0), (0.0, 2.5), (3.0, 0.0)])
def test_update_is_the_papers_rule(family, dtype, lambda_old, lambda_new):
    network = make_network(family, dtype)
    edit = make_plan(network, UpdateRule(5, 11, lambda_old, lambda_new).on(network))
    embeddings = network.model.get_input_embeddings().weight.detach().double().numpy()
    found = new_values(edit)
    assert found.keys() == set(NEURONS)
    for neuron, values in found.items():
        v = slot(network, neuron).double().numpy()
        length = np.sqrt((v**2).sum())
        t, t_new = (embeddings[token] * (length / np.sqrt((embeddings[token] ** 2).sum())) for token in (5, 11))
        expected = torch.from_numpy(v - lambda_old * t + lambda_new * t_new)
        if dtype == torch.float64:
            torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-12)
        else:
            # Rounded once: at most half a step of the dtype away.
            step = torch.finfo(dtype).eps * expected.abs().clamp_min(torch.finfo(dtype).tiny)
            assert values.dtype == dtype
            assert ((values.double() - expected).abs() <= 0.5 * step + 1e-12).all()


@FAMILIES
@DTYPES
def test_erase_zeroes_the_slots(family, dtype):
    network = make_network(family, dtype)
    edit = make_plan(network, erase_rule)
    for neuron, values in new_values(edit).items():
        assert torch.equal(values, torch.zeros_like(slot(network, neuron)))
        assert not torch.signbit(values).any()


@FAMILIES
def test_a_plan_names_what_it_changes_and_changes_nothing(family):
    network = make_network(family)
    before = {name: tensor.clone() for name, tensor in network.model.state_dict().items()}
    edit = make_plan(network, erase_rule, [*NEURONS, NEURONS[0]], recipe={"fact": 3})
    assert all(torch.equal(before[name], tensor) for name, tensor in network.model.state_dict().items())
    assert (edit.fingerprint, edit.kind, edit.recipe.as_json()) == ("f" * 64, "update", {"fact": 3})
    parameters = dict(network.model.named_parameters())
    assert [edit.layers[diff.parameter] for diff in edit.parameters] == [0, 2]
    for diff in edit.parameters:
        assert diff.layout == LAYOUT[family]
        weight = down_projections(network.model)[edit.layers[diff.parameter]].weight
        assert parameters[diff.parameter] is weight
        assert edit.shapes[diff.parameter] == tuple(weight.shape)
        for index, old in zip(diff.indices.tolist(), diff.old, strict=True):
            assert torch.equal(old, slot(network, Neuron(edit.layers[diff.parameter], index)))
    assert [diff.indices.tolist() for diff in edit.parameters] == [[3, 39], [0, 7]]


@FAMILIES
def test_an_applied_erasure_silences_the_neurons(family):
    """The edited model is the model with those neurons' activations at zero, at every position."""
    network = make_network(family)
    edit = make_plan(network, erase_rule)
    ids = torch.tensor([[4, 9, 2, 33, 6]])
    by_layer = {0: [3, 39], 2: [0, 7]}
    handles = []
    for layer, indices in by_layer.items():

        def silence(_module, inputs, indices=indices):
            changed = inputs[0].clone()
            changed[..., indices] = 0
            return (changed,)

        handles.append(down_projections(network.model)[layer].register_forward_pre_hook(silence))
    with torch.no_grad():
        expected = network.model(input_ids=ids).logits
        for handle in handles:
            handle.remove()
        assert not torch.allclose(network.model(input_ids=ids).logits, expected)
        slots.apply_object(dict(network.model.named_parameters()), edit)
        torch.testing.assert_close(network.model(input_ids=ids).logits, expected)


@FAMILIES
def test_slots_that_would_stay_are_left_out(family):
    network = make_network(family)
    with torch.no_grad():
        slot(network, NEURONS[0]).zero_()
        slot(network, NEURONS[1]).zero_()
        slot(network, NEURONS[1])[0] = -0.0  # other bytes than zero
    edit = make_plan(network, erase_rule)
    assert new_values(edit).keys() == {*NEURONS} - {NEURONS[0]}


@FAMILIES
@pytest.mark.parametrize("square", [False, True])
def test_the_layout_is_the_adapters(family, square):
    network = make_network(family, neurons=24 if square else 40)
    (diff,) = make_plan(network, erase_rule, [Neuron(1, 20)]).parameters
    assert torch.equal(diff.old[0], slot(network, Neuron(1, 20)))


# --- plans that can't be made --------------------------------------------------------------------------------


@pytest.mark.parametrize("neuron", [Neuron(3, 0), Neuron(0, 40), Neuron(99, 99)])
def test_neurons_that_the_model_lacks(neuron):
    network = make_network("bert")
    message = f"the model has no neuron L{neuron.layer}.N{neuron.index}; it has layers 0 to 2 of 40 neurons each"
    with pytest.raises(EditError, match=message):
        make_plan(network, erase_rule, [*NEURONS, neuron])


def test_no_neuron_and_no_change():
    network = make_network("gpt2")
    with pytest.raises(EditError, match="would change no value slot"):
        make_plan(network, erase_rule, [])
    with torch.no_grad():
        for module in down_projections(network.model):
            module.weight.zero_()
    with pytest.raises(EditError, match="would change no value slot"):
        make_plan(network, erase_rule)


def test_the_same_answer_twice():
    with pytest.raises(EditError, match="gives already"):
        UpdateRule(5, 5, 1.0, 8.0).on(make_network("bert"))


def test_values_beyond_the_dtypes_range():
    network = make_network("bert", torch.float16)
    with pytest.raises(EditError, match=r"leave the range of torch\.float16; use smaller factors"):
        make_plan(network, UpdateRule(5, 11, 1.0, 1e6).on(network))


# --- the control ---------------------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("seed", range(4))
def test_random_neurons(family, seed):
    network = make_network(family)
    neurons = [*NEURONS, Neuron(0, 5), Neuron(0, 6), Neuron(0, 7)]
    drawn = random_neurons(network, neurons, seed)
    assert drawn == random_neurons(network, neurons[::-1], seed) == sorted(set(drawn))
    assert Counter(neuron.layer for neuron in drawn) == Counter(neuron.layer for neuron in neurons)
    assert not set(drawn) & set(neurons)
    assert all(0 <= neuron.index < 40 for neuron in drawn)
    assert drawn != random_neurons(network, neurons, seed + 100)


def test_random_neurons_are_drawn_from_the_whole_layer():
    network = make_network("bert")
    seen = {
        neuron.index for seed in range(400) for neuron in random_neurons(network, NEURONS, seed) if neuron.layer == 0
    }
    assert seen == set(range(40)) - {3, 39}


def test_drawing_leaves_torchs_own_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    random_neurons(make_network_once(), NEURONS, 0)
    assert torch.equal(torch.rand(1), expected)


def make_network_once() -> Network:
    state = torch.get_rng_state()
    network = make_network("bert")
    torch.set_rng_state(state)
    return network
