"""Edits of models whose layers share parameters: a value slot is one, however many layers write it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from masked_families import NEURONS, masked_model
from tiny_models import down_projections

from kndb.editing.objects import diff_file
from kndb.editing.objects.slots import apply_object, changes
from kndb.editing.planning.recipes import erase_rule, plan, random_neurons
from kndb.errors import EditError
from kndb.models.network import Network
from kndb.models.registry import adapter_for
from kndb.records.models import Neuron
from kndb.records.recipes import read_recipe

SHARED = [Neuron(2, 7), Neuron(0, 3), Neuron(1, 7), Neuron(2, 39), Neuron(1, 5), Neuron(1, 3)]
"""Neurons with four value slots where all layers are one: 3, 5, 7, 39."""

GROUP = "albert.encoder.albert_layer_groups.{}.albert_layers.{}.ffn_output.weight"


@pytest.fixture
def network() -> Network:
    """Three layers, all of one group."""
    return make_network("albert")


def make_network(name: str) -> Network:
    model = masked_model(name).requires_grad_(False)
    return Network(model, adapter_for(model.config))


def make_plan(network: Network, neurons: list[Neuron], rule: Any = erase_rule) -> diff_file.EditObject:
    return plan(network, neurons, rule, fingerprint="f" * 64, recipe=read_recipe("erase", {}))


def test_neurons_that_share_a_slot_change_it_once(network):
    def doubled(_layer: int, _indices: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return 2 * values

    edit = make_plan(network, SHARED, doubled)
    (diff,) = edit.parameters
    assert diff.parameter == GROUP.format(0, 0) == network.down_parameter(2)
    assert diff.indices.tolist() == [3, 5, 7, 39]
    assert edit.layers == {diff.parameter: 0}
    before = network.layers[1].down_matrix.clone()
    apply_object(dict(network.model.named_parameters()), edit)
    for layer, module in enumerate(down_projections(network.model)):
        assert torch.equal(module.weight[:, diff.indices], 2 * before[:, diff.indices])
        assert torch.equal(network.layers[layer].down_matrix, module.weight)


def test_each_slot_is_named_by_the_lowest_of_its_layers(network):
    named = [(change.layer, change.neuron) for change in changes(make_plan(network, SHARED))]
    assert named == [(0, 3), (0, 5), (0, 7), (0, 39)]


def test_slots_of_several_groups():
    """Hidden layers 0 and 1 are the first group's two layers, hidden layer 2 the second's."""
    network = make_network("albert-groups")
    assert [network.canonical_layer(layer) for layer in range(6)] == [0, 1, 0, 1, 4, 5]
    edit = make_plan(network, [Neuron(layer, 10 + layer) for layer in range(6)])
    assert {diff.parameter: diff.indices.tolist() for diff in edit.parameters} == {
        GROUP.format(0, 0): [10, 12],
        GROUP.format(0, 1): [11, 13],
        GROUP.format(1, 0): [14],
        GROUP.format(1, 1): [15],
    }
    assert sorted(edit.layers.values()) == [0, 1, 4, 5]


def test_the_plan_survives_its_file(network, tmp_path):
    edit = make_plan(network, SHARED)
    object_hash, path = diff_file.write(edit, tmp_path)
    read = diff_file.read(tmp_path, path, object_hash)
    assert diff_file.encode(read) == diff_file.encode(edit)
    before = network.layers[0].down_matrix.clone()
    parameters = dict(network.model.named_parameters())
    apply_object(parameters, read)
    assert not network.layers[2].down_matrix[:, 7].any()
    apply_object(parameters, read, reverse=True)
    assert torch.equal(network.layers[0].down_matrix, before)


def test_neurons_beyond_the_last_layer(network):
    for use in (lambda: make_plan(network, [Neuron(3, 0)]), lambda: random_neurons(network, [Neuron(3, 0)], 0)):
        with pytest.raises(EditError, match=r"no neuron L3\.N0; it has layers 0 to 2"):
            use()


@pytest.mark.parametrize("seed", range(20))
def test_the_control_draws_as_many_other_slots(network, seed):
    drawn = random_neurons(network, SHARED, seed)
    assert drawn == random_neurons(network, SHARED[::-1], seed)
    assert {neuron.layer for neuron in drawn} == {0}
    indices = {neuron.index for neuron in drawn}
    assert len(indices) == len(drawn) == 4
    assert not indices & {3, 5, 7, 39}
    assert sum(len(diff.indices) for diff in make_plan(network, drawn).parameters) == 4


def test_the_control_keeps_to_each_group():
    network = make_network("albert-groups")
    drawn = random_neurons(network, [Neuron(layer, layer) for layer in range(6)], 1)
    assert [neuron.layer for neuron in drawn] == [0, 0, 1, 1, 4, 5]
    assert not {neuron.index for neuron in drawn if neuron.layer == 0} & {0, 2}


def test_the_control_of_all_slots_is_what_is_left(network):
    taken = [Neuron(layer, index) for index in range(NEURONS - 2) for layer in (0, 2)]
    assert [neuron.index for neuron in random_neurons(network, taken, 0)] == [NEURONS - 2, NEURONS - 1]
