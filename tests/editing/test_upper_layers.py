"""The layers above the lowest changed slot against whole forward passes of the model, its modules hooked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from causal_families import causal_model
from masked_families import masked_model
from tiny_models import down_projections, opened, tiny_model

from kndb.editing.planning.optimize import optimize
from kndb.editing.planning.upper_layers import UpperLayers
from kndb.models.answers import answer_logits
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt
from kndb.models.registry import adapter_for
from kndb.records.edit_settings import OptimizeSettings
from kndb.records.models import Neuron

MAKE = {
    "bert": lambda: tiny_model("bert", 4, roughness=0.3),
    "albert": lambda: masked_model("albert"),
    "albert-groups": lambda: masked_model("albert-groups"),
    "electra-wide": lambda: masked_model("electra-wide"),
    "t5": lambda: masked_model("t5"),
    "t5-gated": lambda: masked_model("t5-gated"),
    "gpt2": lambda: tiny_model("gpt2", 4, roughness=0.3),
    "gpt_neox": lambda: causal_model("gpt_neox"),
    "gptj": lambda: causal_model("gptj"),
    "bloom": lambda: causal_model("bloom"),
    "opt": lambda: causal_model("opt"),
    "llama": lambda: causal_model("llama"),
    "gemma2": lambda: causal_model("gemma2"),
    "gemma3": lambda: causal_model("gemma3"),
    "granite": lambda: causal_model("granite"),
    "falcon-slopes": lambda: causal_model("falcon-slopes"),
    "mixtral": lambda: opened(causal_model("mixtral")),
    "gpt_oss": lambda: opened(causal_model("gpt_oss")),
    "modernbert": lambda: masked_model("modernbert"),
    "deberta-v2-buckets": lambda: masked_model("deberta-v2-buckets"),
}
"""Masked and causal models: gated, in parallel, with shared layers, with an encoder, with biases of their positions or
angles that differ from layer to layer."""
INDICES = torch.tensor([0, 7, 30])
LENGTHS = (5, 3, 5, 9, 1, 3)


def make_network(name: str) -> Network:
    model = MAKE[name]().double().requires_grad_(False).eval()
    return Network(model, adapter_for(model.config))


def make_prompts(network: Network, lengths: tuple[int, ...] = LENGTHS) -> list[EncodedPrompt]:
    """Prompts of several lengths; in a causal model the answer is read at the last token, but for one prompt."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for number, length in enumerate(lengths):
        ids = tuple(torch.randint(1, 50, (length,), generator=generator).tolist())
        if network.adapter.encoder is not None:
            found.append(EncodedPrompt(number, (0, 7), 1, -1, ids))
            continue
        masked = network.adapter.blank.value == "mask"
        position = (2 * number) % length if masked or number == 3 else length - 1
        found.append(EncodedPrompt(number, ids, position, -1))
    return found


def make_changes(network: Network, layers: tuple[int, ...]) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    owners = sorted({network.canonical_layer(layer % len(network.layers)) for layer in layers})
    drawn = (torch.randn(3, network.hidden_size, generator=generator, dtype=torch.float64) for _ in owners)
    return {owner: (0.3 * change).requires_grad_() for owner, change in zip(owners, drawn, strict=True)}


@contextmanager
def hooked(network: Network, changes: dict[int, torch.Tensor]) -> Iterator[None]:
    """While open, the whole model computes as if its slots had changed."""
    modules = down_projections(network.model)
    handles = [
        modules[layer].register_forward_hook(
            lambda _module, inputs, output, change=change: output + inputs[0][..., INDICES] @ change
        )
        for layer, change in changes.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("layers", [(0, 2), (1,), (-1,)])
@pytest.mark.parametrize("name", MAKE)
def test_logits_and_gradients_are_those_of_the_whole_model(name, layers):
    network = make_network(name)
    prompts, changes = make_prompts(network), make_changes(network, layers)
    upper = UpperLayers(network, dict.fromkeys(changes, INDICES), prompts)
    chosen = [4, 0, 3, 1, 5]
    found = upper.logits(chosen, changes)
    with hooked(network, changes):
        expected = torch.cat([answer_logits(network, [prompts[number]]) for number in chosen])
    # Some families compute norms, rotations or biases in float32 whatever the model's dtype.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    gradients, wanted = (
        torch.autograd.grad((logits.log_softmax(-1) * weights).sum(), list(changes.values()))
        for logits in (found, expected)
    )
    for one, other in zip(gradients, wanted, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()
    assert not torch.allclose(expected, torch.cat([answer_logits(network, [prompts[number]]) for number in chosen]))


def divergence(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    return (before.exp() * (before - after)).sum(-1).mean()


@pytest.mark.parametrize("name", ["bert", "gpt2", "gpt_neox", "llama", "albert", "t5-gated"])
def test_the_steps_lead_where_those_on_the_whole_model_do(name):
    network = make_network(name)
    prompts, others = make_prompts(network)[:3], make_prompts(network, (4, 6, 4, 2))
    settings = OptimizeSettings(steps=5, learning_rate=1.0, keep=2.0, bound=1.5, target=0.99, drift=0.0)
    layers = (1, 2)
    found, outcome = optimize(network, [Neuron(layer, 7) for layer in layers], prompts, 11, others, settings)

    def whole(some: list[EncodedPrompt]) -> torch.Tensor:
        return torch.cat([answer_logits(network, [prompt]) for prompt in some]).log_softmax(-1)

    changes = {owner: torch.zeros_like(change) for owner, (_, change) in found.items()}
    modules = down_projections(network.model)
    slots = {}
    for owner in changes:
        weight = modules[owner].weight
        slots[owner] = weight[7] if name == "gpt2" else weight[:, 7]
    before = whole(others)
    mean = torch.stack([slot.norm() for slot in slots.values()]).mean() / network.hidden_size**0.5
    for change in changes.values():
        change.requires_grad_()
    adam = torch.optim.Adam(changes.values(), lr=float(mean), betas=(0.9, 0.99))
    for step in range(5):
        handles = [
            modules[owner].register_forward_hook(
                lambda _module, inputs, output, change=change: output + inputs[0][..., [7]] @ change
            )
            for owner, change in changes.items()
        ]
        loss = -whole(prompts)[:, 11].mean() + 2.0 * divergence(before, whole(others))
        for handle in handles:
            handle.remove()
        adam.param_groups[0]["lr"] = float(mean) * (1 - step / 5)
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            for owner, change in changes.items():
                change *= (1.5 * slots[owner].norm() / change.norm()).clamp_max(1)
    assert outcome.steps == 5
    for owner, change in changes.items():
        torch.testing.assert_close(found[owner][1], change.detach(), rtol=1e-4, atol=1e-6)
