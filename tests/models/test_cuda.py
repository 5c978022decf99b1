"""What is computed on a CUDA device is what a CPU computes: scores, devices that share a model, commands."""

from __future__ import annotations

import contextlib
import copy
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch
from command_json import command_json
from split_models import MAKE, Tiny, alike, maker

from kndb.attribution.quadrature import Quadrature
from kndb.models.dtypes import COMPUTE_DTYPES
from kndb.models.network import Network

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
CUDA = torch.device("cuda")
FACTS = Path(__file__).parents[2] / "data" / "facts"
METHODS = ["activation", "gradient-x-activation", "log-probability-increase"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Makes the checkpoint of a name, once."""
    return maker(tmp_path_factory.mktemp("cuda"))


def moved(case: Tiny, dtype: torch.dtype = torch.float32) -> Network:
    """The whole model on the device."""
    return Network(copy.deepcopy(case.whole.model).to(CUDA, dtype), case.adapter)


class TestScores:
    @pytest.mark.parametrize("name", MAKE)
    def test_in_double_precision(self, tiny, name):
        case = tiny(name)
        expected = case.scores(Network(case.whole.model.double(), case.adapter), dtype="float64")
        case.whole.model.float()
        # Some families compute their attention in single precision.
        assert alike(case.scores(moved(case, torch.float64), dtype="float64"), expected, 1e-5)

    @pytest.mark.parametrize("dtype", ["float32", "tf32", "float16", "bfloat16"])
    @pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5-gated", "mixtral"])
    def test_in_other_dtypes(self, tiny, name, dtype):
        case = tiny(name)
        most = {"float32": 1e-4, "tf32": 2e-2, "float16": 2e-2, "bfloat16": 0.2}[dtype]
        same_nodes = Quadrature.choose("gauss-legendre", 6)
        with COMPUTE_DTYPES[dtype].computing():
            found = case.scores(moved(case, COMPUTE_DTYPES[dtype].dtype), dtype=dtype, quadrature=same_nodes)
        assert alike(found, case.scores(case.whole, quadrature=same_nodes), most)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("name", ["bert", "llama"])
    def test_of_the_other_methods(self, tiny, name, method):
        case = tiny(name)
        assert alike(case.scores(moved(case), method=method), case.scores(case.whole, method=method), 1e-4)

    def test_are_the_same_again_but_for_the_order_of_sums(self, tiny):
        """Some of a GPU's kernels add up in any order."""
        case = tiny("bert")
        network = moved(case)
        assert alike(case.scores(network), case.scores(network), 1e-6)


@pytest.mark.parametrize("given", [{"": "disk"}, {"": "cpu"}, {"": "disk", "1": 0}, {"": 0, "1": "disk", "2": "cpu"}])
@pytest.mark.parametrize("name", ["bert", "llama", "t5-gated"])
def test_a_model_on_several_devices(tiny, name, given):
    pytest.importorskip("accelerate")
    case = tiny(name)
    assert alike(case.scores(case.split(given, device=CUDA)), case.scores(case.whole), 1e-4)


def test_auto_leaves_some_layers_elsewhere(tiny):
    pytest.importorskip("accelerate")
    case = tiny("llama")
    size = sum(one.nbytes for one in case.whole.model.parameters())
    network = case.split({"max_memory": {"cuda:0": size // 2, "cpu": size // 4}}, device=CUDA)
    homes = {one.device.type for one in network.model.parameters()}
    assert "cuda" in homes
    assert alike(case.scores(network), case.scores(case.whole), 1e-4)


@pytest.fixture(scope="module", params=["lab-bert", "lab-gpt2"])
def both(request, tmp_path_factory):
    """A lab model attributed by both devices: its name, and a database of each."""
    folder = tmp_path_factory.mktemp("both")
    found = {}
    for device in ("cpu", "cuda"):
        path = found[device] = folder / f"{device}.db"
        command_json("ingest", FACTS, "--db", path)
        command_json("model", "add", request.param, "--db", path)
        command_json(
            "attribute", "--model", request.param, "--relation", "P36", "--facts", 12, "--device", device, "--db", path
        )
        command_json("refine", "--db", path)
    return request.param, found


def test_the_same_neurons_are_found(both):
    _, stores = both
    sets = {}
    for device, path in stores.items():
        with contextlib.closing(sqlite3.connect(path)) as connection:
            sets[device] = set(connection.execute("SELECT fact_id, layer, neuron FROM knowledge_neuron"))
    assert sets["cpu"]
    assert len(sets["cpu"] & sets["cuda"]) / len(sets["cpu"] | sets["cuda"]) > 0.99


@pytest.mark.parametrize(
    "words",
    [
        ("probe", "suppress", "--facts", "5"),
        ("ask", "The capital of France is [MASK]."),
    ],
)
def test_commands_say_the_same(both, words):
    name, stores = both
    if words[0] == "ask" and name == "lab-gpt2":
        words = ("ask", "The capital of France is [Y].")
    cpu, cuda = (
        command_json(*words, "--model", name, "--device", device, "--db", path) for device, path in stores.items()
    )
    same(cpu, cuda)


def test_an_edit_is_measured_the_same(both):
    name, stores = both
    found = []
    for device, path in stores.items():
        with contextlib.closing(sqlite3.connect(path)) as connection:
            (fact,) = connection.execute("SELECT min(fact_id) FROM knowledge_neuron").fetchone()
        planned = command_json("edit", "update", "--model", name, "--fact", fact, "--to", "Rome", "--db", path)
        number = (planned[0] if isinstance(planned, list) else planned)["id"]
        found.append(command_json("edit", "eval", number, "--device", device, "--db", path))
    same(*found)


def same(one: Any, other: Any) -> None:
    """Two results are the same but for rounding, times and what names the device."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one.keys() - {"created_at", "settings", "device", "seconds"}:
            same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            same(*pair)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)
    else:
        assert one == other
