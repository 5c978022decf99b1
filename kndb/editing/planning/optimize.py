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
from collections.abc import Sequence
from dataclasses import replace

import torch

from ...advice import option
from ...errors import EditError
from ...models.network import Network
from ...models.prompting import EncodedPrompt
from ...records.edit_settings import OptimizeSettings
from ...records.models import Neuron
from ...records.progress import Progress
from ...records.recipes import OptimizeOutcome, OptimizeRecipe
from ..objects.diff_file import EditObject
from .recipes import plan_values, slots_by_layer
from .upper_layers import UpperLayers

_AT_ONCE = 64
"""Prompts run at once where no graph is kept."""


def optimize(
    network: Network,
    neurons: Sequence[Neuron],
    prompts: Sequence[EncodedPrompt],
    answer: int,
    others: Sequence[EncodedPrompt],
    settings: OptimizeSettings,
    progress: Progress | None = None,
) -> tuple[dict[int, tuple[torch.Tensor, torch.Tensor]], OptimizeOutcome]:
    """Finds changes of value slots that make a new answer win.

    At each step some of the other prompts count, the next ones in an order drawn by the seed, over and over; the
    divergence over all of them is computed when the steps might stop. Equal arguments give equal changes on one
    machine.

    Args:
        network: the model, in float32 or float64; nothing in it changes.
        neurons: whose value slots are to change; where layers share a parameter, their neurons share slots.
        prompts: the fact's prompts, at least one; their own answers don't matter.
        answer: token of the new answer.
        others: prompts of other facts, whose answers should stay the same; there may be none.
        settings: how.
        progress: told the steps taken, if wanted.

    Returns:
        By the lowest layer with the parameter: indices [k], rising, and changes [k, d], on the CPU; and the outcome.

    Raises:
        EditError: if the model lacks a neuron, there is no prompt or neuron, or the loss is not a number.
    """
    if not prompts or not neurons:
        raise EditError(
            f"an optimisation needs a prompt and a neuron (got {len(prompts)} prompts and {len(neurons)} neurons)"
        )
    with network.frozen():
        return _Optimization(network, neurons, prompts, answer, others, settings).run(progress)


def plan_optimized(
    network: Network,
    recipe: OptimizeRecipe,
    prompts: Sequence[EncodedPrompt],
    others: Sequence[EncodedPrompt],
    *,
    fingerprint: str,
    progress: Progress | None = None,
) -> EditObject:
    """Computes an optimised edit on a model's present weights, and changes nothing.

    A model in a narrower dtype than float32 is optimised as a copy in float32; the new values are rounded to its own.

    Args:
        network: the model, in the dtype in which it is stored.
        recipe: the neurons, the new answer's token and the settings; the edit's recipe is this with the outcome.
        prompts: the fact's prompts, at least one.
        others: prompts of other facts, whose answers should stay the same.
        fingerprint: of the model's checkpoint.
        progress: told the steps taken, if wanted.

    Raises:
        EditError: as `optimize` and `plan_values` do.
    """
    settings = recipe.settings
    changes, outcome = optimize(wide(network), recipe.neurons, prompts, recipe.new_token, others, settings, progress)
    values = {}
    for layer, (indices, change) in changes.items():
        values[layer] = indices, network.layers[layer].value_slots(indices).double() + change.double()
    full = replace(recipe, at_once=settings.at_once, outcome=outcome)
    return plan_values(network, values, fingerprint=fingerprint, recipe=full)


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

    def run(self, progress: Progress | None) -> tuple[dict[int, tuple[torch.Tensor, torch.Tensor]], OptimizeOutcome]:
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
                raise EditError(
                    f"the loss left the range of numbers; use a lower {option('learning_rate')} or {option('bound')}"
                )
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

    def _outcome(self, taken: int, reached: bool) -> OptimizeOutcome:
        of_answer = self._log_probabilities(self._own)[:, self._answer]
        largest = max(
            (change.detach().norm(dim=1, keepdim=True) / lengths.clamp_min(1e-30)).max().item()
            for change, lengths in zip(self._changes, self._lengths, strict=True)
        )
        return OptimizeOutcome(
            steps=taken,
            reached=reached,
            loss=-of_answer.mean().item(),
            divergence=self._divergence(),
            least_probability=of_answer.exp().min().item(),
            largest_change=largest,
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


def wide(network: Network) -> Network:
    """The network itself, or a copy in float32 if its dtype is a narrower one."""
    if next(network.model.parameters()).dtype in (torch.float32, torch.float64):
        return network
    return Network(copy.deepcopy(network.model).float(), network.adapter)
