"""Covariances of keys: against numpy on collected keys; files, and counts that were interrupted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from causal_families import causal_model
from safetensors.torch import load_file
from tiny_models import activations, tiny_model

from kndb.editing.many import covariance as covariances
from kndb.editing.many.sentences import Sentence
from kndb.errors import EditError
from kndb.models.network import Network
from kndb.models.registry import adapter_for

LAYERS = (0, 2)


def sentences(count: int = 150) -> list[Sentence]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for number in range(count):
        ids = tuple(torch.randint(1, 50, (3 + number % 4,), generator=generator).tolist())
        found.append(Sentence(ids, number % 3, (len(ids) - 1,), (-1,)))
    return found


def origin(texts: int, tokens: str = "every") -> covariances.Origin:
    return covariances.Origin("f" * 64, "v1", "facts", tokens, texts, "0" * 64)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_it_is_so_in_a_masked_and_in_a_gated_model(family):
    made = tiny_model("bert", 4) if family == "bert" else causal_model("llama", 4)
    model = made.requires_grad_(False).eval()
    network = Network(model, adapter_for(model.config))
    some = sentences(10)
    begun = {layer: covariances.empty(layer, network.neurons, origin(10)) for layer in (0, 1)}
    found = covariances.count_keys(network, some, begun)
    for layer in (0, 1):
        rows = [
            activations(model, one.ids, at)[layer].double()
            for one in some
            for at in range(0 if family == "bert" else 1, len(one.ids))
        ]
        keys = torch.stack(rows)
        assert found[layer].keys == len(keys)
        torch.testing.assert_close(found[layer].total, keys.T @ keys, rtol=1e-4, atol=1e-4)


def test_layers_that_are_less_far_catch_up_to_the_same_sums(network):
    together = count(network, "every")
    begun = {layer: covariances.empty(layer, network.neurons, origin(150)) for layer in LAYERS}

    class StopError(Exception):
        pass

    def stop(found):
        begun.update(found)
        raise StopError

    with pytest.raises(StopError):
        covariances.count_keys(network, sentences(), {2: begun[2]}, keep=stop)
    assert (begun[0].done, begun[2].done) == (0, 64)
    found = covariances.count_keys(network, sentences(), begun)
    for layer in LAYERS:
        assert torch.equal(found[layer].total, together[layer].total)
        assert found[layer].keys == together[layer].keys


def test_safetensors_reads_the_file(network, tmp_path):
    one = count(network, "every")[0]
    covariances.write(one, tmp_path / "c")
    assert torch.equal(load_file(tmp_path / "c")["total"], one.total)


def test_rank_and_condition_are_those_of_numpy(network):
    one = count(network, "every")[2]
    mean = one.total.numpy() / one.keys
    rank, condition = covariances.spectrum(one)
    assert rank == np.linalg.matrix_rank(mean, hermitian=True)
    lower_median = np.sort(np.diag(mean))[19]
    assert condition == pytest.approx(np.linalg.cond(mean + 0.01 * lower_median * np.eye(40)), rel=1e-6)
    few = covariances.empty(0, 40, origin(1))
    few.total.addmm_(torch.ones(40, 3).double(), torch.ones(3, 40).double())
    assert covariances.spectrum(replace(few, keys=3))[0] == 1
    idle = covariances.empty(0, 4, origin(1))
    idle.total[0, 0] = 1
    rank, condition = covariances.spectrum(replace(idle, keys=1))
    assert (rank, condition) == (1, pytest.approx(101))
    assert covariances.spectrum(replace(covariances.empty(0, 4, origin(1)), keys=1)) == (0, None)


@pytest.fixture(scope="module")
def network() -> Network:
    model = tiny_model("gpt2", 4).requires_grad_(False).eval()
    return Network(model, adapter_for(model.config))


def count(network: Network, tokens: str, **more):
    begun = {layer: covariances.empty(layer, network.neurons, origin(150, tokens)) for layer in LAYERS}
    return covariances.count_keys(network, sentences(), begun, **more)


@pytest.mark.parametrize("tokens", ["every", "place"])
def test_it_is_numpys_mean_of_outer_products(network, tokens):
    found = count(network, tokens)
    keys = []
    for sentence in sentences():
        every = activations(network.model, sentence.ids, slice(None))  # [L, T, n]
        keys.append(every[:, 1:] if tokens == "every" else every[:, [sentence.place]])
    for layer in LAYERS:
        rows = torch.cat([some[layer] for some in keys]).double().numpy()
        assert found[layer].keys == len(rows)
        assert found[layer].complete
        np.testing.assert_allclose(found[layer].matrix().numpy(), rows.T @ rows / len(rows), rtol=1e-4, atol=1e-6)


def test_a_resumed_count_has_the_same_bytes(network, tmp_path):
    whole = count(network, "every")
    path = {layer: tmp_path / f"{layer}.safetensors" for layer in LAYERS}

    class StopError(Exception):
        pass

    def keep(found):
        for layer, one in found.items():
            covariances.write(one, path[layer])
        if 0 < found[0].done < 150:
            raise StopError

    with pytest.raises(StopError):
        count(network, "every", keep=keep)
    begun = {layer: covariances.read(one) for layer, one in path.items()}
    assert not begun[0].complete
    with pytest.raises(EditError, match="interrupted after 64 of 150 texts"):
        begun[0].require("f" * 64, 0, network.neurons)
    resumed = covariances.count_keys(network, sentences(), begun)
    for layer in LAYERS:
        covariances.write(resumed[layer], tmp_path / "resumed")
        covariances.write(whole[layer], tmp_path / "whole")
        assert (tmp_path / "resumed").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_file_gives_back_what_was_written(network, tmp_path):
    one = count(network, "place")[2]
    covariances.write(one, tmp_path / "c")
    read = covariances.read(tmp_path / "c")
    assert torch.equal(read.total, one.total)
    assert (read.layer, read.origin, read.keys, read.done) == (one.layer, one.origin, one.keys, one.done)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_the_ridge_is_a_part_of_the_median_diagonal(network):
    one = count(network, "place")[0]
    plain, more = one.matrix(), one.matrix(0.5)
    assert torch.allclose(more - plain, 0.5 * plain.diagonal().median() * torch.eye(len(plain)).double())


def test_a_covariance_of_something_else_is_refused(network):
    one = count(network, "place")[0]
    one.require("f" * 64, 0, network.neurons)
    with pytest.raises(EditError, match="of checkpoint ffffffffffff, and the model is eeeeeeeeeeee"):
        one.require("e" * 64, 0, network.neurons)
    with pytest.raises(EditError, match=r"of layer 0 with 40 neurons; layer 1 with 40"):
        one.require("f" * 64, 1, network.neurons)


def test_an_empty_one_has_no_matrix(network):
    with pytest.raises(EditError, match="of no key"):
        covariances.empty(0, 4, origin(3)).matrix()


@pytest.mark.fault("a covariance that can't be read")
@pytest.mark.parametrize("content", [b"", b"no safetensors", bytes(64)])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(EditError, match="can't be read as a covariance"):
        covariances.read(tmp_path / "c")


def test_a_folder_that_is_missing_is_named(network, tmp_path):
    with pytest.raises(EditError, match="can't be written"):
        covariances.write(count(network, "place")[0], tmp_path / "none" / "c")
    with pytest.raises(EditError, match="can't be read"):
        covariances.read(tmp_path / "c")
