"""The rule of an update: the signs of its neurons, and a factor λ₂ that fits the fact."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from ..analysis.interventions import answer_activations
from ..editing.recipes import UpdateRule, plan, slots_by_layer
from ..editing.slots import edited
from ..errors import EditError
from ..models.answers import batched_log_probabilities
from ..models.directions import input_directions, output_directions
from ..models.network import Network
from ..models.prompting import EncodedPrompt
from ..records import Neuron

SMALLEST, LARGEST = 1 / 16, 64.0
"""Between these, both powers of two, a fitted λ₂ is looked for."""
ENOUGH = 0.8
"""The share of the fact's prompts that the new answer is to win. To win the last stubborn prompt takes a λ₂ that
changes many other answers: docs/edits.md has the measurements."""
_HALVINGS = 3
"""Steps of bisection between the last doubling of λ₂ that is too little and the first that is enough: 2^(1/8) apart."""


def activation_signs(
    network: Network, prompts: Sequence[EncodedPrompt], neurons: Sequence[Neuron]
) -> dict[Neuron, int]:
    """The sign with which neurons' value slots are written: that of the mean activation over prompts' answer positions.

    Where layers share a slot, the sum of the means of their neurons counts, as each of them writes it. A neuron that is
    exactly 0 on all the prompts, which it can't change, counts as positive.

    Args:
        network: the model.
        prompts: the fact's prompts, at least one.
        neurons: whose signs.

    Returns:
        1 or −1 for each slot, by its neuron in the lowest layer that has it.

    Raises:
        EditError: if there is no prompt, or the model lacks a neuron.
    """
    if not prompts:
        raise EditError("found no prompt; expected at least one to read the neurons' signs from")
    slots = slots_by_layer(network, neurons)
    using = [
        Neuron(layer, index)
        for layer in range(len(network.layers))
        for index in sorted(slots.get(network.canonical_layer(layer), ()))
    ]
    written: dict[Neuron, float] = {}
    for neuron, mean in zip(using, answer_activations(network, prompts, using).mean(0).tolist(), strict=True):
        slot = Neuron(network.canonical_layer(neuron.layer), neuron.index)
        written[slot] = written.get(slot, 0.0) + mean
    return {slot: -1 if total < 0 else 1 for slot, total in written.items()}


def fitted(
    network: Network, rule: UpdateRule, neurons: Sequence[Neuron], prompts: Sequence[EncodedPrompt], ratio: float | None
) -> UpdateRule:
    """The rule with the smallest λ₂ at which the new answer is the most probable one on four fifths of the prompts.

    λ₂ is doubled from 1/16 until the new answer wins on so many, at most to 64; the last doubling is then halved three
    times, so that λ₂ is at most 9 % too large. If it never wins on so many, the λ₂ with the most wins is taken, the
    smallest of those; without any win, 1/16.

    Args:
        network: the model; it is as it was when this returns.
        rule: tokens, name and signs; λ₁ too, if there is no ratio.
        neurons: whose value slots change.
        prompts: the fact's prompts, at least one.
        ratio: λ₁ ÷ λ₂; None leaves λ₁ as it is.

    """
    parameters = dict(network.model.named_parameters())

    def tried(factor: float) -> UpdateRule:
        away = rule.lambda_old if ratio is None else ratio * factor
        return replace(rule, lambda_old=away, lambda_new=factor)

    def wins(factor: float) -> int:
        try:
            planned = plan(network, neurons, tried(factor).on(network), fingerprint="", kind="update", recipe={})
        except EditError:  # Too large for the dtype; whatever else it is, the plan at the factor that is found says.
            return 0
        with edited(parameters, planned):
            return winning(network, prompts, rule.new)[0]

    return tried(smallest_winning(wins, math.ceil(ENOUGH * len(prompts))))


def smallest_winning(wins: Callable[[float], int], wanted: int) -> float:
    """The search of `fitted`: `wins` says how many prompts are won at a factor, `wanted` is how many are to be."""
    best, factor = (0, SMALLEST), SMALLEST
    while True:
        won = wins(factor)
        if won > best[0]:
            best = won, factor
        if won >= wanted:
            break
        if factor >= LARGEST:
            return best[1]
        factor *= 2
    if factor == SMALLEST:
        return factor
    low, high = factor / 2, factor
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        if wins(middle) >= wanted:
            high = middle
        else:
            low = middle
    return high


def winning(network: Network, prompts: Sequence[EncodedPrompt], token: int) -> tuple[int, float]:
    """On how many prompts a token is the most probable one, and its mean probability (0 without prompts)."""
    count, probability = 0, 0.0
    for _, log_probabilities in batched_log_probabilities(network, prompts):
        count += int((log_probabilities.argmax(-1) == token).sum())
        probability += float(log_probabilities[:, token].double().exp().sum())
    return count, probability / max(len(prompts), 1)


def cosine_of_rules(network: Network, neurons: Sequence[Neuron], token: int) -> float:
    """The cosine between a token's word embedding and its output direction, the mean over the neurons' layers."""
    layers = list(slots_by_layer(network, neurons))
    embedding = input_directions(network, [token])[0]
    return float(torch.stack([output_directions(network, layer, [token])[0] @ embedding for layer in layers]).mean())
