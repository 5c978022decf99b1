"""Stored states and the layers above them against whole forward passes with changed weights (`functional_call`)."""

from __future__ import annotations

import pytest
import torch
from causal_families import causal_model
from masked_families import masked_model
from tiny_models import down_projections, opened, tiny_model
from torch.func import functional_call

from kndb.editing.planning import stored_layers
from kndb.editing.planning.stored_layers import StoredLayers
from kndb.errors import EditError
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt
from kndb.models.registry import adapter_for

MAKE = {
    "bert": lambda: tiny_model("bert", 4, roughness=0.3),
    "albert": lambda: masked_model("albert"),
    "t5": lambda: masked_model("t5"),
    "t5-gated": lambda: masked_model("t5-gated"),
    "gpt2": lambda: tiny_model("gpt2", 4, roughness=0.3),
    "gpt_neox": lambda: causal_model("gpt_neox"),
    "bloom": lambda: causal_model("bloom"),
    "opt": lambda: causal_model("opt"),
    "llama": lambda: causal_model("llama"),
    "gemma2": lambda: causal_model("gemma2"),
    "granite": lambda: causal_model("granite"),
    "falcon-slopes": lambda: causal_model("falcon-slopes"),
    "mixtral": lambda: opened(causal_model("mixtral")),
    "gpt_oss": lambda: opened(causal_model("gpt_oss")),
    "modernbert": lambda: masked_model("modernbert"),
    "deberta-v2-buckets": lambda: masked_model("deberta-v2-buckets"),
}
INDICES = torch.tensor([0, 7, 30])
LENGTHS = (5, 3, 5, 9, 1, 3)


def make_network(name: str) -> Network:
    model = MAKE[name]().double().requires_grad_(False).eval()
    return Network(model, adapter_for(model.config))


def make_questions(network: Network) -> list[EncodedPrompt]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for number, length in enumerate(LENGTHS):
        ids = tuple(torch.randint(1, 50, (length,), generator=generator).tolist())
        if network.adapter.encoder is not None:
            found.append(EncodedPrompt(number, (0, 7, 9)[: 2 + number % 2], 1 + number % 2, -1, ids))
            continue
        masked = network.adapter.blank.value == "mask"
        found.append(EncodedPrompt(number, ids, (2 * number) % length if masked else length - 1, -1))
    return found


def make_changes(network: Network, layers: tuple[int, ...], *, whole: bool) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    owners = sorted({network.canonical_layer(layer % len(network.layers)) for layer in layers})
    count = network.neurons if whole else len(INDICES)
    drawn = (torch.randn(count, network.hidden_size, generator=generator, dtype=torch.float64) for _ in owners)
    return {owner: (0.3 * change).requires_grad_() for owner, change in zip(owners, drawn, strict=True)}


def logits_of_whole_model(
    network: Network, questions: list[EncodedPrompt], changes: dict[int, torch.Tensor], *, whole: bool
) -> torch.Tensor:
    """One prompt at a time, by the model's own forward pass with other weights."""
    model = network.model
    modules = down_projections(model)
    names = {id(module): name for name, module in model.named_modules()}
    weights = {}
    for owner, change in changes.items():
        weight = modules[owner].weight
        moved = torch.zeros(network.neurons, network.hidden_size, dtype=torch.float64)
        moved = change if whole else moved.index_add(0, INDICES, change)
        row = model.config.model_type == "gpt2"
        weights[f"{names[id(modules[owner])]}.weight"] = weight + (moved if row else moved.T)
    rows = []
    for question in questions:
        ids = torch.tensor([question.ids])
        asked = {"input_ids": ids}
        if question.source:
            asked = {"input_ids": torch.tensor([question.source]), "decoder_input_ids": ids}
        rows.append(functional_call(model, weights, (), asked).logits[0, question.position])
    return torch.stack(rows)


@pytest.mark.parametrize("whole", [False, True], ids=["slots", "layers"])
@pytest.mark.parametrize("layers", [(0, 2), (1,), (-1,)])
@pytest.mark.parametrize("name", MAKE)
def test_logits_and_gradients_are_those_of_changed_weights(name, layers, whole):
    network = make_network(name)
    questions, changes = make_questions(network), make_changes(network, layers, whole=whole)
    stored = StoredLayers(network, dict.fromkeys(changes, None if whole else INDICES), questions)
    assert stored.count == len(network.layers) - min(changes)
    chosen = [4, 0, 3, 1, 5]
    found = stored.logits(chosen, changes)
    expected = logits_of_whole_model(network, [questions[number] for number in chosen], changes, whole=whole)
    # Some families compute norms, rotations or biases in float32 whatever the model's dtype.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    gradients, wanted = (
        torch.autograd.grad((logits.log_softmax(-1) * weights).sum(), list(changes.values()))
        for logits in (found, expected)
    )
    for one, other in zip(gradients, wanted, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()
    before = logits_of_whole_model(network, [questions[number] for number in chosen], {}, whole=whole)
    torch.testing.assert_close(stored.logits_before(chosen), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "t5", "gpt_neox"])
def test_states_in_a_file_are_those_in_memory(name):
    network = make_network(name)
    questions, changes = make_questions(network), make_changes(network, (0, 2), whole=False)
    slots = dict.fromkeys(changes, INDICES)
    in_memory, in_file = (StoredLayers(network, slots, questions, in_memory=size) for size in (1 << 30, 0))
    numbers = range(len(questions))
    assert torch.equal(in_memory.logits(numbers, changes), in_file.logits(numbers, changes))
    assert torch.equal(in_memory.logits_before(numbers), in_file.logits_before(numbers))


def test_a_full_temporary_folder(monkeypatch):
    network = make_network("bert")
    monkeypatch.setattr(stored_layers.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 0}))
    with pytest.raises(EditError, match="0 MiB free, and the states of the prompts take"):
        StoredLayers(network, {1: INDICES}, make_questions(network), in_memory=0)


@pytest.mark.parametrize("whole", [False, True], ids=["slots", "layers"])
@pytest.mark.parametrize("name", ["bert", "albert", "gpt2", "llama", "t5"])
def test_moments_are_those_of_the_neurons_of_some_questions(name, whole):
    """In a causal model no position after the answer's counts; in the last layer, the answer's alone."""
    network = make_network(name)
    questions = make_questions(network)
    modules = down_projections(network.model)
    owners = sorted({network.canonical_layer(layer) for layer in (0, 1, 2)})
    chosen = None if whole else INDICES
    stored = StoredLayers(network, dict.fromkeys(owners, chosen), questions, moments_of=(1, 2, 5))
    rows: dict[int, list[torch.Tensor]] = {owner: [] for owner in owners}
    for question in (questions[number] for number in (1, 2, 5)):
        calls: list[torch.Tensor] = []
        handles = [
            module.register_forward_pre_hook(lambda _module, inputs, calls=calls: calls.append(inputs[0][0]))
            for module in dict.fromkeys(modules)
        ]
        logits_of_whole_model(network, [question], {}, whole=False)
        for handle in handles:
            handle.remove()
        for layer, call in enumerate(calls):
            if layer == len(calls) - 1:
                call = call[question.position][None]
            elif network.adapter.blank.value != "mask":
                call = call[: question.position + 1]
            rows[network.canonical_layer(layer)].append(call if whole else call[:, INDICES])
    for owner in owners:
        every = torch.cat(rows[owner])
        torch.testing.assert_close(stored.moments[owner], every.T @ every / len(every), rtol=1e-5, atol=1e-8)
    assert StoredLayers(network, dict.fromkeys(owners, chosen), questions).moments == {}
