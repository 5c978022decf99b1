"""Optimised edits: gradient steps on some value slots, and on nothing else.

The steps make a new answer win on a fact's prompts, while the answers to other prompts stay: they lower

    mean −log p(new answer)  over the fact's prompts  +  β · mean KL(p before ‖ p after)  over the other prompts

where p is the model's distribution at the answer position. A prompt of the fact on which the new answer has won, with
the probability that is asked for, counts as 0 in the first mean: what more it could win would cost the others.

What is learned are changes Δv of the value slots v, kept within ‖Δv‖ ≤ c·‖v‖; the model's parameters are not touched. A
forward pass counts the changes by adding w·Δv to the output of each down projection, w being the slots' activations at
every position: just what a changed weight would do. Only the layers from the lowest changed slot up are run in each
step (`upper_layers`).
"""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch

from ...errors import EditError, UsageError
from ...models.network import Network
from ...models.prompting import EncodedPrompt
from ...records.models import Neuron
from ...records.progress import Progress
from ..objects.diff_file import EditObject
from .recipes import plan_values, slots_by_layer
from .upper_layers import UpperLayers

_AT_ONCE = 64
"""Prompts run at once where no graph is kept."""


@dataclass(frozen=True)
class OptimizeSettings:
    """How value slots are optimised.

    Attributes:
        steps: gradient steps at most, at least 1.
        learning_rate: Adam's at the first step, in lengths of a mean slot: about how far a slot moves; above 0. It
            falls in a straight line to nearly 0 at the last step.
        keep: β, the weight of the other prompts' divergence, at least 0.
        bound: c, the largest change of a slot in lengths of that slot, above 0.
        target: the probability of the new answer with which a prompt of the fact has been won, and counts no more; 0 to
            1. Once all have, the steps may stop.
        drift: the mean KL divergence of the other prompts, in nats, up to which they may stop; at least 0.
        at_once: other prompts that count in one step, at least 1: more give a steadier gradient, and slower steps.
        seed: of the order in which the other prompts take turns.
    """

    steps: int = 60
    learning_rate: float = 0.4
    keep: float = 16.0
    bound: float = 20.0
    target: float = 0.5
    drift: float = 0.02
    at_once: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            UsageError: if a setting is out of its range.
        """
        for name, allowed, expected in (
            ("steps", self.steps >= 1, "at least 1"),
            ("learning rate", 0 < self.learning_rate < float("inf"), "a number above 0"),
            ("keep", 0 <= self.keep < float("inf"), "a number of at least 0"),
            ("bound", 0 < self.bound < float("inf"), "a number above 0"),
            ("target", 0 <= self.target < 1, "a probability of at least 0, under 1"),
            ("drift", self.drift >= 0, "a number of at least 0"),
            ("at once", self.at_once >= 1, "at least 1"),
            ("seed", 0 <= self.seed < 2**63, "a number from 0 to 2^63 - 1"),
        ):
            if not allowed:
                found = asdict(self)[name.replace(" ", "_")]
                raise UsageError(f"found {name} {found}; expected {expected}")


@dataclass(frozen=True)
class Outcome:
    """How an optimisation went; the measures are those of the changes found, before they are rounded.

    Attributes:
        steps: gradient steps taken.
        reached: whether they stopped because target and drift were reached.
        loss: mean −log p(new answer) over the fact's prompts, in nats.
        divergence: mean KL divergence over all other prompts, in nats; 0 without any.
        least_probability: the new answer's lowest probability on a prompt of the fact.
        largest_change: the largest ‖Δv‖ ÷ ‖v‖ of a slot.
    """

    steps: int
    reached: bool
    loss: float
    divergence: float
    least_probability: float
    largest_change: float


def optimize(
    network: Network,
    neurons: Sequence[Neuron],
    prompts: Sequence[EncodedPrompt],
    answer: int,
    others: Sequence[EncodedPrompt],
    settings: OptimizeSettings,
    progress: Progress | None = None,
) -> tuple[dict[int, tuple[torch.Tensor, torch.Tensor]], Outcome]:
    """Finds changes of value slots that make a new answer win.

    At each step some of the other prompts count, the next ones in an order drawn by the seed, over and over; the
    divergence over all of them is computed when the steps might stop. Equal arguments give equal changes on one
    machine.

    Args:
        network: the model, in float32 or float64; nothing in it changes.
        neurons: whose value slots are to change; where layers share a parameter, their neurons share slots.
        prompts: the fact's prompts, at least one; their own answers don't matter.
        answer: token of the new answer.
        others: prompts of other facts, whose answers are to stay; there may be none.
        settings: how.
        progress: told the steps taken, if wanted.

    Returns:
        By the lowest layer with the parameter: indices [k], rising, and changes [k, d], on the CPU; and the outcome.

    Raises:
        EditError: if the model lacks a neuron, there is no prompt or neuron, or the loss is not a number.
    """
    if not prompts or not neurons:
        raise EditError(f"found {len(prompts)} prompts and {len(neurons)} neurons; expected at least one of each")
    with network.frozen():
        return _Optimization(network, neurons, prompts, answer, others, settings).run(progress)


def plan_optimized(
    network: Network,
    neurons: Sequence[Neuron],
    prompts: Sequence[EncodedPrompt],
    answer: int,
    others: Sequence[EncodedPrompt],
    settings: OptimizeSettings,
    *,
    fingerprint: str,
    kind: str,
    recipe: Mapping[str, object],
    progress: Progress | None = None,
) -> EditObject:
    """Computes an optimised edit on a model's present weights, and changes nothing.

    A model in a narrower dtype than float32 is optimised as a copy in float32; the new values are rounded to its own.

    Args:
        network: the model, in the dtype in which it is stored.
        neurons: whose value slots are to change.
        prompts: the fact's prompts, at least one.
        answer: token of the new answer.
        others: prompts of other facts, whose answers are to stay.
        settings: how.
        fingerprint: of the model's checkpoint.
        kind: name of the recipe.
        recipe: what the edit is for; the settings and the outcome are added to it.
        progress: told the steps taken, if wanted.

    Raises:
        EditError: as `optimize` and `plan_values` do.
    """
    changes, outcome = optimize(_wide(network), neurons, prompts, answer, others, settings, progress)
    values = {}
    for layer, (indices, change) in changes.items():
        values[layer] = indices, network.layers[layer].value_slots(indices).double() + change.double()
    full = {**recipe, **asdict(settings), "outcome": asdict(outcome)}
    return plan_values(network, values, fingerprint=fingerprint, kind=kind, recipe=full)


class _Optimization:
    """One optimisation: the slots as they are, their changes, and what they are measured by."""

    def __init__(
        self,
        network: Network,
        neurons: Sequence[Neuron],
        prompts: Sequence[EncodedPrompt],
        answer: int,
        others: Sequence[EncodedPrompt],
        settings: OptimizeSettings,
    ) -> None:
        self._answer, self._settings = answer, settings
        self._indices: list[torch.Tensor] = []
        self._layers: list[int] = []
        self._lengths: list[torch.Tensor] = []
        for layer, chosen in slots_by_layer(network, neurons).items():
            indices = torch.tensor(sorted(chosen), device=network.device)
            values = network.layers[layer].value_slots(indices).to(network.device)
            self._layers.append(layer)
            self._indices.append(indices)
            self._lengths.append(values.norm(dim=1, keepdim=True))
        self._changes = [
            torch.zeros(len(lengths), network.hidden_size, device=lengths.device, dtype=lengths.dtype)
            for lengths in self._lengths
        ]
        self._width = network.hidden_size
        chance = random.Random(settings.seed)  # noqa: S311 - not for secrets
        kept = chance.sample(list(others), len(others))
        slots = dict(zip(self._layers, self._indices, strict=True))
        self._upper = UpperLayers(network, slots, [*prompts, *kept])
        self._own = range(len(prompts))
        self._others = range(len(prompts), len(prompts) + len(kept))
        self._before = self._log_probabilities(self._others)

    def run(self, progress: Progress | None) -> tuple[dict[int, tuple[torch.Tensor, torch.Tensor]], Outcome]:
        """Takes steps until the aims are reached or there are no more."""
        mean = torch.cat(self._lengths).mean().item() / self._width**0.5
        for change in self._changes:
            change.requires_grad_()
        rate = self._settings.learning_rate * mean
        adam = torch.optim.Adam(self._changes, lr=rate, betas=(0.9, 0.99))
        taken, reached = 0, False
        while taken < self._settings.steps:
            fact, divergence, wins = self._measure(taken)
            if wins and divergence.item() <= self._settings.drift and self._divergence() <= self._settings.drift:
                reached = True
                break
            loss = fact + self._settings.keep * divergence
            if not bool(loss.isfinite()):
                raise EditError("the loss left the range of numbers; use a lower learning rate or bound")
            for group in adam.param_groups:
                group["lr"] = rate * (1 - taken / self._settings.steps)
            gradients = torch.autograd.grad(loss, self._changes)
            for change, gradient in zip(self._changes, gradients, strict=True):
                change.grad = gradient
            adam.step()
            self._keep_within_bound()
            taken += 1
            if progress is not None:
                progress(taken, self._settings.steps)
        if not reached:
            self._shorten()
        return self._found(), self._outcome(taken, reached)

    def _measure(self, step: int) -> tuple[torch.Tensor, torch.Tensor, bool]:
        """Loss on the fact's prompts, divergence of this step's others, and whether the new answer has won."""
        count = len(self._others)
        some = min(self._settings.at_once, count)
        rows = [(step * some + number) % count for number in range(some)]
        after = self._upper.logits([*self._own, *(self._others[row] for row in rows)], self._by_layer()).log_softmax(-1)
        own, others = after[: len(self._own)], after[len(self._own) :]
        of_answer = own[:, self._answer]
        won = self._won(own)
        loss = -torch.where(won, 0.0, of_answer).mean()
        return loss, _divergence(self._before[rows], others), bool(won.all())

    @torch.no_grad()
    def _shorten(self) -> None:
        """Shortens all changes alike, as far as the new answer still wins on each prompt of the fact.

        Steps may win by more than was asked for, which the other prompts pay. Halving finds the factor to a 64th.
        """
        whole = [change.clone() for change in self._changes]

        def wins(factor: float) -> bool:
            for change, full in zip(self._changes, whole, strict=True):
                change.copy_(factor * full)
            own = self._log_probabilities(self._own)
            return bool(self._won(own).all())

        lost, won = 0.0, 1.0
        if wins(won):
            for _ in range(6):
                middle = (lost + won) / 2
                lost, won = (lost, middle) if wins(middle) else (middle, won)
        wins(won)

    def _won(self, own: torch.Tensor) -> torch.Tensor:
        """On which prompts the new answer is the most probable one, with the probability that is asked for."""
        return (own.argmax(-1) == self._answer) & (own[:, self._answer].exp() >= self._settings.target)

    @torch.no_grad()
    def _keep_within_bound(self) -> None:
        for change, lengths in zip(self._changes, self._lengths, strict=True):
            allowed = self._settings.bound * lengths
            change *= (allowed / change.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp_max(1)

    def _divergence(self) -> float:
        """Mean KL divergence over all other prompts."""
        return float(_divergence(self._before, self._log_probabilities(self._others)))

    @torch.no_grad()
    def _log_probabilities(self, numbers: Sequence[int]) -> torch.Tensor:
        """Log-probabilities [prompts, vocabulary] of some prompts with the changes as they are."""
        parts = [numbers[start : start + _AT_ONCE] for start in range(0, len(numbers), _AT_ONCE)]
        found = [self._upper.logits(part, self._by_layer()).log_softmax(-1) for part in parts]
        return torch.cat(found) if found else torch.zeros(0, 1)

    def _outcome(self, taken: int, reached: bool) -> Outcome:
        of_answer = self._log_probabilities(self._own)[:, self._answer]
        largest = max(
            (change.detach().norm(dim=1, keepdim=True) / lengths.clamp_min(1e-30)).max().item()
            for change, lengths in zip(self._changes, self._lengths, strict=True)
        )
        return Outcome(
            taken, reached, -of_answer.mean().item(), self._divergence(), of_answer.exp().min().item(), largest
        )

    def _by_layer(self) -> dict[int, torch.Tensor]:
        return dict(zip(self._layers, self._changes, strict=True))

    def _found(self) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        pairs = zip(self._indices, self._changes, strict=True)
        found = ((indices.cpu(), change.detach().cpu()) for indices, change in pairs)
        return dict(zip(self._layers, found, strict=True))


def _divergence(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Mean over rows of KL(before ‖ after), both log-probabilities [rows, vocabulary]; 0 without rows."""
    if not len(after):
        return after.sum()
    return (before.exp() * (before - after)).sum(-1).mean()


def _wide(network: Network) -> Network:
    """The network itself, or a copy in float32 if its dtype is a narrower one."""
    if next(network.model.parameters()).dtype in (torch.float32, torch.float64):
        return network
    return Network(copy.deepcopy(network.model).float(), network.adapter)
