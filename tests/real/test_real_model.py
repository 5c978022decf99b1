"""kndb on a really pretrained model: a few facts that it knows, from attribution to an edit and back."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from kndb.database import open_database

pytestmark = [pytest.mark.real, pytest.mark.slow]

CAPITALS = {"France": "Paris", "Germany": "Berlin"}
TEMPLATES = (
    "The capital city of [X] is called [Y].",
    "The capital of [X] is the city of [Y].",
    "The country of [X] has a capital city called [Y].",
)
HELD_OUT = "The capital of [X] is [Y]."
LAYERS, NEURONS = 30, 1536


@pytest.fixture(scope="module")
def store(kndb_json, real_model, place):
    """The folder with a store in which two capitals are attributed and refined; what the commands said."""
    rows = [{"relation": "P36", "relation_label": "capital", "template": text} for text in TEMPLATES]
    rows.append({"relation": "P36", "template": HELD_OUT, "held_out": True})
    rows += [{"relation": "P36", "subject": subject, "object": answer} for subject, answer in CAPITALS.items()]
    (place / "capitals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {
        "ingested": kndb_json("ingest", "capitals.jsonl"),
        "model": kndb_json("model", "add", real_model, "--name", "smol"),
        "attributed": kndb_json("attribute", "--model", "smol"),
        "refined": kndb_json("refine"),
        "facts": {row["subject"]: row["id"] for row in kndb_json("query", "facts", "--relation", "P36")},
    }


@pytest.fixture(scope="module")
def plain(real_model):
    """The checkpoint as transformers reads it, without kndb."""
    return AutoModelForCausalLM.from_pretrained(real_model, dtype=torch.float32).eval()


def test_the_model_knows_a_capital(kndb_json, store, plain, real_model):
    tokenizer = AutoTokenizer.from_pretrained(real_model)
    with torch.no_grad():
        logits = plain(**tokenizer("The capital of France is", return_tensors="pt")).logits[0, -1]
    paris = float(logits.softmax(-1)[tokenizer.encode(" Paris")[0]])
    assert paris == pytest.approx(0.77, abs=0.01)
    first = kndb_json("ask", "--model", "smol", "The capital of France is [Y]", "--top", 2)[0]
    assert first["token"] == "Paris"
    assert first["probability"] == pytest.approx(paris, abs=1e-4)


def test_what_was_read(store):
    assert (store["ingested"]["facts_added"], store["ingested"]["prompts_added"]) == (2, 8)
    model = store["model"]
    assert (model["family"], model["layers"], model["neurons"]) == ("llama", LAYERS, NEURONS)


def test_attribution_finds_neurons_of_each_fact(kndb_json, store):
    assert (store["attributed"]["attributed"], store["attributed"]["known_answers"]) == (6, 1)
    (refined,) = store["refined"]
    assert (refined["relation"], refined["facts"], refined["facts_with_neurons"]) == ("P36", 2, 2)
    for fact in store["facts"].values():
        neurons = kndb_json("query", "neurons", fact)
        assert 0 < len(neurons) < 200
        assert all(row["layer"] < LAYERS and row["neuron"] < NEURONS for row in neurons)
        assert len({row["name"] for row in neurons}) == len(neurons)


def test_neurons_of_a_fact_carry_its_answer(kndb_json, store, plain, real_model):
    """Taking them out in transformers itself, without kndb, lowers the answer; as many others of the layers don't."""
    tokenizer = AutoTokenizer.from_pretrained(real_model)
    tokens = tokenizer("The capital of Germany is", return_tensors="pt")
    berlin = tokenizer.encode(" Berlin")[0]
    held = [(row["layer"], row["neuron"]) for row in kndb_json("query", "neurons", store["facts"]["Germany"])]
    others = [(layer, (neuron + NEURONS // 2) % NEURONS) for layer, neuron in held]

    def without(neurons):
        def silence(layer):
            columns = [neuron for found, neuron in neurons if found == layer]

            def hook(module, inputs):
                (values,) = inputs
                values = values.clone()
                values[:, -1, columns] = 0
                return (values,)

            return hook

        hooks = [
            plain.model.layers[layer].mlp.down_proj.register_forward_pre_hook(silence(layer))
            for layer in {layer for layer, _ in neurons}
        ]
        try:
            with torch.no_grad():
                return float(plain(**tokens).logits[0, -1].softmax(-1)[berlin])
        finally:
            for hook in hooks:
                hook.remove()

    before = without([])
    assert without(held) < 0.6 * before
    assert without(others) > 0.8 * before


def test_an_edit_is_taken_back_to_the_byte(kndb_json, store, real_model):
    stored = load_file(real_model / "model.safetensors")

    def differing():
        with open_database(create=False) as database:
            parameters = dict(database.load_model("smol").named_parameters())
        assert parameters.keys() == stored.keys()
        return {
            name: parameter.detach()
            for name, parameter in parameters.items()
            if not torch.equal(parameter.detach().view(torch.int32), stored[name].view(torch.int32))
        }

    assert not differing()
    fact = store["facts"]["France"]
    neurons = {row["name"] for row in kndb_json("query", "neurons", fact)}
    planned = kndb_json("edit", "update", "--model", "smol", "--fact", fact, "--to", "Rome", "--max-share", 1)
    applied = kndb_json("edit", "apply", planned["edit"])
    assert applied["version_after"] != applied["version_before"] == store["model"]["version"]
    assert kndb_json("ask", "--model", "smol", "The capital of France is [Y]", "--top", 1)[0]["probability"] != (
        pytest.approx(0.7725, abs=1e-3)
    )
    changed = set()
    for name, parameter in differing().items():
        layer = int(name.removeprefix("model.layers.").partition(".")[0])
        assert name == f"model.layers.{layer}.mlp.down_proj.weight"
        columns = (parameter != stored[name]).any(dim=0).nonzero().flatten().tolist()
        changed |= {f"L{layer}.N{column}" for column in columns}
    assert changed == neurons

    reverted = kndb_json("edit", "revert", planned["edit"])
    assert reverted["version_after"] == store["model"]["version"]
    assert not differing()
    assert kndb_json("ask", "--model", "smol", "The capital of France is [Y]", "--top", 1)[0]["token"] == "Paris"
