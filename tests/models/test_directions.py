"""Output directions and gradients of every family, against the whole model with changed weights or outputs."""

from __future__ import annotations

from typing import Any

import causal_families
import masked_families
import pytest
import torch
from tiny_models import activations, doubled, down_projections, tiny_model

from kndb.editing.objects.slots import edited
from kndb.editing.planning.recipes import UpdateRule, plan
from kndb.errors import EditError
from kndb.models.directions import gradient_directions, input_directions, output_directions
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt
from kndb.models.registry import adapter_for
from kndb.records.models import Neuron
from kndb.records.recipes import read_recipe

IDS = (5, 9, 2, 33, 6)
TOKENS = (3, 11, 24, 40, 57)
NAMES = [*causal_families.VARIANTS, *masked_families.VARIANTS, "bert", "gpt2"]
EVERY = pytest.mark.parametrize("name", NAMES)
UNSHARED = {
    "albert": {"num_hidden_layers": 1},
    "albert-groups": {"num_hidden_layers": 2, "num_hidden_groups": 2, "inner_group_num": 1},
}
"""Settings under which a slot of the last layer is not one of an earlier layer, too."""


def make(name: str, **settings: Any) -> Any:
    if name in causal_families.VARIANTS:
        return causal_families.causal_model(name, **settings)
    if name in masked_families.VARIANTS:
        return masked_families.masked_model(name, **settings)
    return tiny_model(name, **settings)


def logits(model: Any) -> torch.Tensor:
    """Of the last position, [vocabulary]."""
    ids = torch.tensor([IDS])
    with torch.no_grad():
        if model.config.model_type == "t5":
            return model(input_ids=torch.tensor([[7, 8, 1]]), decoder_input_ids=ids).logits[0, -1]
        return model(input_ids=ids).logits[0, -1]


def slope(model: Any, slot: torch.Tensor, direction: torch.Tensor, token: int) -> float:
    """By central differences: how a token's logit changes as a value slot moves along a direction."""
    step = 1e-5
    with torch.no_grad():
        slot += step * direction
        above = logits(model)[token]
        slot -= 2 * step * direction
        below = logits(model)[token]
        slot += step * direction
    return float((above - below) / (2 * step))


def slot_of(network: Network, layer: int, index: int) -> torch.Tensor:
    weight = down_projections(network.model)[layer].weight
    return weight[index] if network.adapter.family == "gpt2" else weight[:, index]


@EVERY
def test_a_push_along_it_raises_the_tokens_logit(name):
    """In the last layer, whose slots reach the head on the direct path alone; for positive and negative neurons."""
    model = doubled(make(name, **UNSHARED.get(name, {})))
    network = Network(model, adapter_for(model.config))
    last = len(network.layers) - 1
    source = (7, 8, 1) if model.config.model_type == "t5" else ()
    active = activations(model, IDS, len(IDS) - 1, source)[last]
    directions = output_directions(network, last, TOKENS)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(len(TOKENS), dtype=torch.float64))
    for index in (int(active.argmax()), int(active.argmin())):
        if active[index] == 0:  # A neuron that ReLU cut off.
            continue
        sign = float(active[index].sign())
        for token, direction in zip(TOKENS, directions, strict=True):
            assert slope(model, slot_of(network, last, index), sign * direction, token) > 0


@pytest.mark.parametrize("name", ["gpt_neox", "phi", "llama"])
def test_an_untied_heads_word_embeddings_say_nothing(name):
    model = doubled(make(name))
    network = Network(model, adapter_for(model.config))
    assert network.output_embeddings.data_ptr() != network.word_embeddings.data_ptr()
    scale = network.final_norms[0].weight.detach()
    expected = model.lm_head.weight.detach()[list(TOKENS)] * scale
    if name != "llama":
        expected = expected - expected.mean(1, keepdim=True)
    found = output_directions(network, 1, TOKENS)
    torch.testing.assert_close(found, expected / expected.norm(dim=1, keepdim=True), rtol=1e-5, atol=1e-7)
    assert ((found * input_directions(network, TOKENS)).sum(1).abs() < 0.7).all()


def test_gemma_2_norms_what_a_slot_writes():
    model = doubled(make("gemma2"))
    network = Network(model, adapter_for(model.config))
    layer = model.model.layers[1]
    expected = model.lm_head.weight.detach()[list(TOKENS)] * (1 + model.model.norm.weight.detach())
    expected = expected * (1 + layer.post_feedforward_layernorm.weight.detach())
    found = output_directions(network, 1, TOKENS)
    torch.testing.assert_close(found, expected / expected.norm(dim=1, keepdim=True), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["albert", "electra", "roberta", "bert", "distilbert"])
def test_a_masked_head_is_turned_back_at_zero(name):
    """Against differences of the head's own logits at an empty hidden state."""
    model = doubled(make(name))
    network = Network(model, adapter_for(model.config))
    norm = network.layers[-1].write_norms[-1]
    scale = norm.weight.detach()
    step, zero = 1e-6, torch.zeros(network.hidden_size, dtype=torch.float64)
    with torch.no_grad():
        rows = torch.eye(network.hidden_size).double() * step
        at_zero = (network.head(zero + rows) - network.head(zero - rows))[:, list(TOKENS)].T / (2 * step)
    expected = at_zero * scale
    expected = expected - expected.mean(1, keepdim=True)
    found = output_directions(network, len(network.layers) - 1, TOKENS)
    torch.testing.assert_close(found, expected / expected.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["albert", "gpt2", "gemma2", "t5"])
def test_directions_change_nothing_in_the_model(name, dtype):
    model = make(name).to(dtype)
    network = Network(model, adapter_for(model.config))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    asking = [parameter.requires_grad for parameter in model.parameters()]
    found = output_directions(network, 0, TOKENS)
    assert (found.dtype, found.shape) == (torch.float64, (len(TOKENS), network.hidden_size))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert asking == [parameter.requires_grad for parameter in model.parameters()]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_token_without_a_direction():
    model = make("opt")  # Its padding token's embedding is zero.
    with pytest.raises(EditError, match="gives a token no direction"):
        output_directions(Network(model, adapter_for(model.config)), 0, [0])


@EVERY
def test_an_update_is_possible_and_is_the_rule(name):
    """Every family, narrow embeddings included: v + s·‖v‖·(λ₂·t′ − λ₁·t), worked out one slot at a time."""
    model = make(name)
    network = Network(model, adapter_for(model.config))
    neurons = {Neuron(0, 3): -1, Neuron(0, 7): 1}
    rule = UpdateRule(TOKENS[0], TOKENS[1], 0.5, 2.0, "output", neurons)
    planned = plan(network, list(neurons), rule.on(network), fingerprint="f" * 64, recipe=read_recipe("update", {}))
    away, towards = output_directions(network, 0, TOKENS[:2]).numpy()
    (diff,) = planned.parameters
    for index, old, new in zip(
        diff.indices.tolist(), diff.old.double().numpy(), diff.new.double().numpy(), strict=True
    ):
        length = (old @ old) ** 0.5
        expected = old + neurons[Neuron(0, index)] * length * (2.0 * towards - 0.5 * away)
        assert abs(new - expected).max() <= 1e-6 * length
    with edited(dict(model.named_parameters()), planned):
        assert torch.isfinite(logits(model)).all()


# --- gradients -----------------------------------------------------------------------------------------------


def log_probabilities(model: Any, prompt: EncodedPrompt, token: int, copies: int) -> torch.Tensor:
    """Of a token at a prompt's answer position, by the whole model, for some copies of the prompt."""
    ids = torch.tensor([prompt.ids]).expand(copies, -1)
    with torch.no_grad():
        if prompt.source:
            source = torch.tensor([prompt.source]).expand(copies, -1)
            logits = model(input_ids=source, decoder_input_ids=ids).logits
        else:
            logits = model(input_ids=ids).logits
    return logits[:, prompt.position].log_softmax(-1)[:, token].double()


def numerical_gradient(
    model: Any, width: int, layers: list[int], prompts: list[EncodedPrompt], token: int
) -> torch.Tensor:
    """Central differences of the sum of log p(token) over prompts: of what is added at the answer position, [d].

    It is added to the outputs of all the layers, one after the other; each number in a copy of the prompt of its own.
    """
    # Some norms compute in single precision, whatever the model's: a smaller step would show their rounding.
    modules, step = down_projections(model), 5e-3
    found = torch.zeros(width, dtype=torch.float64)
    every = torch.arange(2 * width)
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat_interleave(width)
    for layer in layers:
        calls = [number for number, module in enumerate(modules) if module is modules[layer]]
        for prompt in prompts:
            turns = iter(calls)

            def add(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
                if next(turns) != layer:  # noqa: B023 - called before the next turn of the loop
                    return output
                changed = output.clone()
                rows = changed.view(2 * width, len(prompt.ids), width)  # noqa: B023
                rows[every, prompt.position, every % width] += signs * step  # noqa: B023
                return changed

            handle = modules[layer].register_forward_hook(add)
            found += (signs * log_probabilities(model, prompt, token, 2 * width)).view(2, width).sum(0) / (2 * step)
            handle.remove()
    return found


@EVERY
def test_gradients_are_what_the_model_does(name):
    """The last layer's, or that of all layers which share its slots, on two prompts of different lengths."""
    model = doubled(make(name))
    network = Network(model, adapter_for(model.config))
    source = (7, 8, 1) if model.config.model_type == "t5" else ()
    masked = name in masked_families.VARIANTS or name == "bert"
    prompts = [
        EncodedPrompt(0, IDS, 2 if masked else 4, 0, source=source),
        EncodedPrompt(1, IDS[:3], 1 if masked else 2, 0, source=source),
    ]
    layer = network.canonical_layer(len(network.layers) - 1)
    sharing = [number for number in range(len(network.layers)) if network.canonical_layer(number) == layer]
    expected = numerical_gradient(model, network.hidden_size, sharing, prompts, TOKENS[1])
    found = gradient_directions(network, prompts, TOKENS[1], [layer])
    assert list(found) == [layer]
    torch.testing.assert_close(found[layer], expected / expected.norm(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["albert", "gpt2", "gemma2"])
def test_gradients_leave_the_model_as_it_was(name, dtype):
    model = make(name).to(dtype)
    network = Network(model, adapter_for(model.config))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    asking = [parameter.requires_grad for parameter in model.parameters()]
    layers = sorted({network.canonical_layer(number) for number in range(len(network.layers))})
    found = gradient_directions(network, [EncodedPrompt(0, IDS, 4, 0)], TOKENS[0], layers)
    assert [(value.dtype, value.shape) for value in found.values()] == [(torch.float64, (network.hidden_size,))] * len(
        layers
    )
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert asking == [parameter.requires_grad for parameter in model.parameters()]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_gradients_need_a_prompt():
    model = make("gpt2")
    with pytest.raises(EditError, match="there is no prompt"):
        gradient_directions(Network(model, adapter_for(model.config)), [], TOKENS[0], [0])


def test_a_gradient_that_is_no_number():
    model = make("gpt2")
    with torch.no_grad():
        model.transformer.wte.weight[TOKENS[0]] = torch.inf
    with pytest.raises(EditError, match=r"not a number on this model; use db.edits.plan_optimize"):
        gradient_directions(Network(model, adapter_for(model.config)), [EncodedPrompt(0, IDS, 4, 0)], TOKENS[0], [0])
