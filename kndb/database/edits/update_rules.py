"""The rule of an update: its slots' weights or signs, its directions, and a factor λ₂ that fits the fact."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from ...advice import Placeholder, call, option
from ...analysis.interventions import answer_activations
from ...editing.objects.slots import edited
from ...editing.planning.gradient_rule import along_gradient, turned
from ...editing.planning.recipes import TRIED, UpdateRule, plan, slots_by_layer
from ...errors import EditError
from ...models.answers import batched_log_probabilities
from ...models.directions import input_directions, output_directions
from ...models.network import Network
from ...models.prompting import EncodedPrompt
from ...records.models import Neuron

SMALLEST, LARGEST = 1 / 128, 64.0
"""Between these, both powers of two, a fitted λ₂ is looked for."""
FARTHEST = 8.0
"""The largest along a gradient, whose direction is rather turned: slots that move by more write something else."""
TURNS = 3
"""How often the direction is turned at most, where the new answer does not win often enough."""
ENOUGH = 0.8
"""The share of the fact's prompts that the new answer is to win. To win the last stubborn prompt takes a λ₂ that
changes many other answers: `kndb docs edits` has the measurements."""
RIDGE = 0.03
"""How much a slot's own effect on other facts' answers counts, whatever that is, in parts of the mean slot's: with few
prompts of other facts, their second moments alone would be trusted too far."""
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
        raise EditError("the fact has no prompt from which to read the neurons' signs")
    slots, written = _slot_activations(network, prompts, neurons)
    return {slot: -1 if total < 0 else 1 for slot, total in zip(slots, written.mean(0).tolist(), strict=True)}


def _slot_activations(
    network: Network, prompts: Sequence[EncodedPrompt], neurons: Sequence[Neuron]
) -> tuple[list[Neuron], torch.Tensor]:
    """The neurons' value slots, in order, and what each is written times at answer positions, [prompts, slots].

    Where layers share a slot, that is the sum of its neurons' activations.
    """
    by_layer = slots_by_layer(network, neurons)
    slots = [Neuron(layer, index) for layer, indices in by_layer.items() for index in sorted(indices)]
    using = [
        Neuron(layer, index)
        for layer in range(len(network.layers))
        for index in sorted(by_layer.get(network.canonical_layer(layer), ()))
    ]
    places = {slot: place for place, slot in enumerate(slots)}
    owners = torch.tensor([places[Neuron(network.canonical_layer(one.layer), one.index)] for one in using])
    written = torch.zeros(len(prompts), len(slots), dtype=torch.float64)
    return slots, written.index_add_(1, owners, answer_activations(network, prompts, using))


def by_gradient(
    network: Network,
    rule: UpdateRule,
    neurons: Sequence[Neuron],
    prompts: Sequence[EncodedPrompt],
    others: Sequence[EncodedPrompt],
) -> UpdateRule:
    """Rule `gradient` with its directions and weights.

    Slot i of layer l moves along the direction t_l in which what l writes raises log p(new) most, on the mean of the
    fact's prompts (`gradient_directions`), by a_i·‖v_i‖·λ₂. With k the slots' mean activations on these prompts,
    n their lengths, and E the mean over other facts' prompts, a solves

        (M + ρ·mean diag M)·a = n ⊙ k,    M_ij = n_i·n_j·E[w_i·w_j]·(t_l(i) · t_l(j))

    up to its scale, mean |a_i| = 1: of all changes of one effect on the fact, that writes least at the answer positions
    of the others, ρ aside. It is how ROME makes a change specific (C⁻¹k), for the fact's knowledge neurons alone.
    Without other prompts a is n ⊙ k. Where layers share a slot, its activation is the sum of its neurons'.

    Args:
        network: the model; nothing in it changes.
        rule: of name `gradient`, with tokens and factors.
        neurons: whose value slots are to change.
        prompts: the fact's prompts, at least one.
        others: prompts of other facts.

    Raises:
        EditError: if there is no prompt, the model lacks a neuron, a gradient is zero or not a number, or no slot would
            move.
    """
    rule = along_gradient(network, rule, neurons, prompts)
    slots, own = _slot_activations(network, prompts, neurons)
    lengths = torch.tensor([_length(network, slot) for slot in slots], dtype=torch.float64)
    effect = lengths * own.mean(0)
    along = torch.stack([rule.directions[slot.layer] for slot in slots])
    written = _slot_activations(network, others, neurons)[1] * lengths
    moments = written.T @ written / max(len(others), 1) * (along @ along.T)
    ridge = RIDGE * moments.diagonal().mean()
    weights = effect if ridge == 0 else torch.linalg.solve(moments + ridge * torch.eye(len(slots)), effect)
    scale = weights.abs().mean()
    if not bool(scale.isfinite() and scale > 0):
        raise EditError(
            "none of the neurons that are to change is active on the fact's prompts, or their value slots are zero; "
            f"take other neurons (refine with another {option('threshold')}), or optimise all of the fact's: "
            + call("edits.plan_optimize", model=Placeholder("MODEL"), fact=Placeholder("ID"), to=Placeholder("ANSWER"))
        )
    named = dict(zip(slots, (weights / scale).tolist(), strict=True))
    return replace(rule, weights=named)


def _length(network: Network, slot: Neuron) -> float:
    return float(network.layers[slot.layer].slots[slot.index].detach().double().norm())


@dataclass(frozen=True)
class Fit:
    """A fitted rule.

    Attributes:
        rule: the rule.
        wins: on how many of the fact's prompts the new answer is the most probable one.
        enough: whether that is on four fifths of them.
        likeliest: of the λ₂ that were tried, the one with the highest mean log-probability of the new answer.
    """

    rule: UpdateRule
    wins: int
    enough: bool
    likeliest: float


def fitted(
    network: Network,
    rule: UpdateRule,
    neurons: Sequence[Neuron],
    prompts: Sequence[EncodedPrompt],
    ratio: float | None,
    largest: float = LARGEST,
) -> Fit:
    """The rule with the smallest λ₂ at which the new answer is the most probable one on four fifths of the prompts.

    λ₂ is doubled from 1/128 until the new answer wins on so many, at most to `largest`; the last doubling is then
    halved three times, so that λ₂ is at most 9 % too large. If it never wins on so many, the λ₂ with the most wins is
    taken, the smallest of those; without any win, 1/128.

    Args:
        network: the model; it is as it was when this returns.
        rule: tokens, name, weights and directions; λ₁ too, if there is no ratio.
        neurons: whose value slots change.
        prompts: the fact's prompts, at least one.
        ratio: λ₁ ÷ λ₂; None leaves λ₁ as it is.
        largest: the largest λ₂ to try, a power of two.
    """
    parameters = dict(network.model.named_parameters())
    seen: dict[float, tuple[int, float]] = {}

    def tried(factor: float) -> UpdateRule:
        away = rule.lambda_old if ratio is None else ratio * factor
        return replace(rule, lambda_old=away, lambda_new=factor)

    def wins(factor: float) -> int:
        try:
            planned = plan(network, neurons, tried(factor).on(network), fingerprint="", recipe=TRIED)
        except EditError:  # Too large for the dtype; whatever else it is, the plan at the factor that is found says.
            return 0
        with edited(parameters, planned):
            seen[factor] = _wins_and_log_probability(network, prompts, rule.new)
        return seen[factor][0]

    wanted = math.ceil(ENOUGH * len(prompts))
    found = smallest_winning(wins, wanted, largest)
    won = seen.get(found, (0, 0.0))[0]
    likeliest = max(seen, key=lambda factor: (seen[factor][1], -factor), default=found)
    return Fit(tried(found), won, won >= wanted, likeliest)


def fitted_along_gradient(
    network: Network, rule: UpdateRule, neurons: Sequence[Neuron], prompts: Sequence[EncodedPrompt]
) -> tuple[UpdateRule, list[float]]:
    """The fitted rule `gradient`, and the λ₂ at which its directions were turned.

    While the new answer does not win on four fifths of the fact's prompts, the directions are turned at the λ₂ at which
    it was likeliest, three times at most. Of all that was tried, the rule with the most wins is taken, the least turned
    of those.

    Args:
        network: the model; it is as it was when this returns.
        rule: with weights and directions; see `by_gradient`.
        neurons: whose value slots change.
        prompts: the fact's prompts, at least one.
    """
    turns: list[float] = []
    fit = fitted(network, rule, neurons, prompts, 0.0, FARTHEST)
    best = fit, 0
    while not fit.enough and len(turns) < TURNS:
        try:
            rule = turned(network, rule, neurons, prompts, fit.likeliest)
        except EditError:  # There is no gradient with that edit; what was found before stands.
            break
        turns.append(fit.likeliest)
        fit = fitted(network, rule, neurons, prompts, 0.0, FARTHEST)
        if fit.wins > best[0].wins:
            best = fit, len(turns)
    return best[0].rule, turns[: best[1]]


def smallest_winning(wins: Callable[[float], int], wanted: int, largest: float = LARGEST) -> float:
    """The search of `fitted`: `wins` says how many prompts are won at a factor, `wanted` is how many are to be."""
    best, factor = (0, SMALLEST), SMALLEST
    while True:
        won = wins(factor)
        if won > best[0]:
            best = won, factor
        if won >= wanted:
            break
        if factor >= largest:
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


def _wins_and_log_probability(network: Network, prompts: Sequence[EncodedPrompt], token: int) -> tuple[int, float]:
    """On how many prompts a token is the most probable one, and its mean log-probability; not-a-number counts as −∞."""
    count, total = 0, 0.0
    for _, log_probabilities in batched_log_probabilities(network, prompts):
        count += int((log_probabilities.argmax(-1) == token).sum())
        total += float(log_probabilities[:, token].double().nan_to_num(-math.inf).sum())
    return count, total / max(len(prompts), 1)


def cosine_of_rules(network: Network, neurons: Sequence[Neuron], token: int) -> float:
    """The cosine between a token's word embedding and its output direction, the mean over the neurons' layers."""
    layers = list(slots_by_layer(network, neurons))
    embedding = input_directions(network, [token])[0]
    return float(torch.stack([output_directions(network, layer, [token])[0] @ embedding for layer in layers]).mean())
