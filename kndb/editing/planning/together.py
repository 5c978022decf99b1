"""Joint planning: gradient steps on the value slots of many facts at once, and on nothing else.

The steps make each of many prompts get its own new answer, while the distributions of other prompts stay those of the
unedited model: they lower

    mean −log p(new answer)  over the edited prompts
        +  β · mean KL(p before ‖ p after)  over the kept prompts, β rising in the second half of the steps
        +  γ · mean (‖Δv‖ ÷ ‖v‖)²  over the slots

estimated at each step on some edited and some kept prompts, in orders drawn by the seed. Of an answer of m tokens, each
token is asked for as `kndb.models.prompting` says (teacher forcing; m masks), and counts 1/m. A token that is won, the
most probable one with the probability that is asked for, counts as 0: what more it could win would cost the others.
Edited prompts that are won take part less often (`turns`).

What is learned are changes Δv of the value slots v, kept within ‖Δv‖ ≤ c·‖v‖ (`slot_steps`); the model's parameters
are not touched. Only the layers from the lowest changed slot up are run in each step (`stored_layers`). Every `check`
steps, all edited prompts and those of the validation facts, which count in no step, are measured; the steps stop once
both are as wanted.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ...advice import option
from ...errors import EditError
from ...models.network import Network
from ...models.prompting import EncodedPrompt
from ...records.models import Neuron
from ...records.progress import Progress
from ...records.together import TogetherOutcome, TogetherRecipe, TogetherSettings, settled
from ..objects.diff_file import EditObject
from .optimize import wide
from .questions import Questions
from .recipes import plan_values, slots_by_layer
from .resuming import save_steps, saved_steps
from .slot_steps import SlotSteps
from .stored_layers import Slots, StoredLayers
from .turns import Reviews, Turns

_AT_ONCE = 64
"""Prompts run at once where no graph is kept."""


@dataclass(frozen=True)
class Measured:
    """What changes do, before they are rounded.

    Attributes:
        success: the share of edited prompts whose new answer's tokens are all the most probable ones.
        loss: mean −log p over the tokens of the new answers, in nats.
        drift: mean KL divergence over the validation facts' prompts, in nats; over the kept prompts where no fact is
            for validation, and 0 without any.
    """

    success: float
    loss: float
    drift: float


@dataclass(frozen=True, eq=False)
class Together:
    """What joint planning found.

    Attributes:
        changes: by the lowest layer with the parameter: indices [k], rising, and Δv [k, d], on the CPU.
        taken: gradient steps taken.
        reached: whether they stopped because success and drift were reached.
        measured: what the changes do.
        largest: the largest ‖Δv‖ ÷ ‖v‖ of a slot.
        learning_rate: of the first step, as asked for or fitted.
    """

    changes: dict[int, tuple[torch.Tensor, torch.Tensor]]
    taken: int
    reached: bool
    measured: Measured
    largest: float
    learning_rate: float


def optimize_together(
    network: Network,
    neurons: Sequence[Neuron],
    edited: Sequence[EncodedPrompt],
    kept: Sequence[EncodedPrompt],
    settings: TogetherSettings,
    *,
    steps_file: Path | None = None,
    key: str = "",
    progress: Progress | None = None,
) -> Together:
    """Finds changes of value slots that give many prompts their new answers.

    Equal arguments give equal changes on one machine, also where the steps were stopped and resumed in between.

    Args:
        network: the model, in float32 or float64; nothing in it changes.
        neurons: the facts' knowledge neurons: with scope `neurons` their value slots are to change, with scope `layers`
            all of their layers. Where layers share a parameter, their neurons share slots.
        edited: the prompts of all facts, each with its new answer; at least one.
        kept: prompts of other facts, by their facts' numbers, whose distributions should stay; of an answer of several
            tokens, those at all of them. There may be none.
        settings: how.
        steps_file: keeps the steps taken at each measurement; if it is there, they go on from it.
        key: what decides the steps beside these arguments: the weights.
        progress: told the steps taken, and how many there are at most.

    Raises:
        EditError: if the model lacks a neuron, there is no prompt or neuron, a prompt has no answer, the loss is not a
            number, the temporary folder is full, or the file holds the steps of another plan.
    """
    if not edited or not neurons:
        raise EditError(
            f"joint planning needs a prompt and a neuron (got {len(edited)} prompts and {len(neurons)} neurons)"
        )
    if any(token < 0 for prompt in edited for token in prompt.answers):
        raise EditError("each edited prompt needs its new answer; encode it with the answer")
    with network.frozen():
        planning = _Planning(network, _slots(network, neurons, settings), edited, kept, settings)
        return planning.run(steps_file, key, progress)


def plan_together(
    network: Network,
    recipe: TogetherRecipe,
    edited: Sequence[EncodedPrompt],
    kept: Sequence[EncodedPrompt],
    *,
    fingerprint: str,
    version: str = "",
    steps_file: Path | None = None,
    progress: Progress | None = None,
) -> EditObject:
    """Computes one edit for many facts on a model's present weights, and changes nothing.

    A model in a narrower dtype than float32 is optimised as a copy in float32; the new values are rounded to its own.

    Args:
        network: the model, in the dtype in which it is stored.
        recipe: what changes, and the settings; the edit's recipe is this with the outcome.
        edited: the facts' prompts, each with its fact's new answer.
        kept: prompts of other facts, by their facts' numbers, whose distributions should stay.
        fingerprint: of the model's checkpoint; with `version` it says which weights the steps in a file are for.
        version: the model's version.
        steps_file: keeps the steps taken, to go on from; whoever stores the edit removes it.
        progress: told the steps taken, and how many there are at most.

    Raises:
        EditError: as `optimize_together` and `plan_values` do.
    """
    settings = recipe.settings
    found = optimize_together(
        wide(network),
        recipe.changed,
        edited,
        kept,
        settings,
        steps_file=steps_file,
        key=f"{fingerprint} {version}",
        progress=progress,
    )
    values = {}
    for layer, (indices, change) in found.changes.items():
        values[layer] = indices, network.layers[layer].value_slots(indices).double() + change.double()
    outcome = TogetherOutcome(
        steps=found.taken,
        reached=found.reached,
        largest_change=found.largest,
        learning_rate=found.learning_rate,
        **vars(found.measured),
    )
    return plan_values(network, values, fingerprint=fingerprint, recipe=replace(recipe, outcome=outcome))


def _slots(network: Network, neurons: Sequence[Neuron], settings: TogetherSettings) -> Slots:
    chosen = slots_by_layer(network, neurons)
    if settings.scope == "layers":
        return dict.fromkeys(chosen)
    return {layer: torch.tensor(sorted(indices)) for layer, indices in chosen.items()}


class _Planning:
    """One joint plan: its questions, the changes as they are, and what they are measured by."""

    def __init__(
        self,
        network: Network,
        slots: Slots,
        edited: Sequence[EncodedPrompt],
        kept: Sequence[EncodedPrompt],
        settings: TogetherSettings,
    ) -> None:
        self._slots = slots
        validation = _drawn({prompt.fact_id for prompt in kept}, settings)
        self._edited = Questions(edited, 0)
        in_steps = [prompt for prompt in kept if prompt.fact_id not in validation]
        self._kept = Questions(in_steps, self._edited.places.stop)
        measured = [prompt for prompt in kept if prompt.fact_id in validation]
        self._validation = Questions(measured, self._kept.places.stop) if measured else self._kept
        every = [*self._edited.each, *self._kept.each, *(self._validation.each if measured else ())]
        self._layers = StoredLayers(network, slots, every, moments_of=self._kept.places)
        self._settings = fitted = settings.fitted(self._layers.count)
        values = {}
        for layer, chosen in slots.items():
            of_layer = network.layers[layer].slots
            values[layer] = of_layer if chosen is None else of_layer[chosen.to(of_layer.device)]
        self._steps = SlotSteps(values, self._layers.moments, settled(fitted.ridge), fitted.bound)
        self._unit = self._steps.mean_length / network.hidden_size**0.5

        at_once, patience = settled(fitted.edited_at_once), settled(fitted.patience)
        self._edited_turns = (
            Turns(len(self._edited), at_once, f"{settings.seed} edited")
            if patience == 1
            else Reviews(len(self._edited), at_once, patience, f"{settings.seed} edited")
        )
        self._kept_turns = Turns(len(self._kept), settled(fitted.kept_at_once), f"{settings.seed} kept")
        self._most = fitted.most_steps(len(self._edited), self._layers.count)

    def run(self, steps_file: Path | None, key: str, progress: Progress | None) -> Together:
        """Takes steps until success and drift are reached or there are no more."""
        settings, steps, most = self._settings, self._steps, self._most
        own_key = self._key(key)
        saved = None if steps_file is None else saved_steps(steps_file, own_key)
        learning_rate = self._learning_rate()
        if saved is not None:
            steps.resume(saved)
            self._edited_turns.due[:] = saved.due
        while True:
            last = steps.taken == most
            if last or steps.taken % settings.check == 0:
                if steps_file is not None:
                    save_steps(steps_file, own_key, steps.state(self._edited_turns.due))
                measured = self._measure()
                reached = measured.success >= settings.success and measured.drift <= settings.drift
                if reached or last:
                    if progress is not None:
                        progress(steps.taken, steps.taken)
                    return Together(self._changes(), steps.taken, reached, measured, steps.largest(), learning_rate)
            if progress is not None:
                progress(steps.taken, most)
            numbers = self._edited_turns.of_step(self._steps.taken)
            gradients, won = self._gradients(numbers)
            self._edited_turns.told(steps.taken, numbers, won)
            steps.take(gradients, learning_rate * self._unit * (1 - steps.taken / most))

    def _learning_rate(self) -> float:
        """The rate of the first step: what was asked for, or that which moves outputs as far as was asked for.

        It is computed without changes, so that resumed steps find the same one.
        """
        if self._settings.learning_rate:
            return self._settings.learning_rate
        numbers = self._edited_turns.of_step(self._steps.taken)
        gradients, _ = self._gradients(numbers)
        first = {layer: change * self._unit for layer, change in self._steps.first(gradients).items()}
        own, _ = self._edited.of(numbers)
        moved = self._layers.moved(own, first)
        return settled(self._settings.first_step) / moved if moved else 0.0

    def _gradients(self, numbers: Sequence[int]) -> tuple[tuple[torch.Tensor, ...], list[bool]]:
        """Of the loss on some edited prompts and the kept ones of the next step; and which of the former are won."""
        loss, won = self._loss(numbers, self._kept_turns.of_step(self._steps.taken))
        if not bool(loss.isfinite()):
            raise EditError(
                f"the loss left the range of numbers; use a lower {option('learning_rate')} or {option('bound')}"
            )
        return torch.autograd.grad(loss, list(self._steps.changes.values())), won

    def _loss(self, edited: Sequence[int], kept: Sequence[int]) -> tuple[torch.Tensor, list[bool]]:
        """The loss on some edited and some kept prompts; and which of the edited ones are won."""
        own, of_own = self._edited.of(edited)
        others, of_others = self._kept.of(kept)
        after = self._layers.logits([*own, *others], self._steps.changes).log_softmax(-1)
        of_answer, wins = self._answers(own, after[: len(own)])
        won = wins & (of_answer.exp() >= self._settings.target)
        loss = -(torch.where(won, 0.0, of_answer) * of_own.to(after)).sum()
        if others:
            divergence = _divergences(self._layers.logits_before(others).log_softmax(-1), after[len(own) :])
            loss = (
                loss + self._settings.keep_at(self._steps.taken, self._most) * (divergence * of_others.to(after)).sum()
            )
        if self._settings.decay:
            loss = loss + self._settings.decay * self._steps.relative_square()
        return loss, self._edited.all_of(edited, own, won.tolist())

    def _answers(self, own: Sequence[int], after: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of edited questions, the new answers' log-probabilities, and whether they are the most probable tokens."""
        answers = torch.tensor(self._edited.answers(own), device=after.device)
        return after.gather(1, answers.unsqueeze(1)).squeeze(1), after.argmax(-1) == answers

    @torch.no_grad()
    def _measure(self) -> Measured:
        """What the changes do to all edited prompts, and to those of the validation facts."""
        won: list[bool] = []
        loss = drift = 0.0
        for numbers in _some(range(len(self._edited))):
            own, weights = self._edited.of(numbers)
            of_answer, wins = self._answers(own, self._layers.logits(own, self._steps.changes).log_softmax(-1))
            loss -= float(of_answer.cpu().double() @ weights.double()) * len(numbers)
            won += self._edited.all_of(numbers, own, wins.tolist())
        for numbers in _some(range(len(self._validation))):
            others, weights = self._validation.of(numbers)
            after = self._layers.logits(others, self._steps.changes).log_softmax(-1)
            divergence = _divergences(self._layers.logits_before(others).log_softmax(-1), after)
            drift += float(divergence.cpu().double() @ weights.double()) * len(numbers)
        return Measured(sum(won) / len(won), loss / len(won), drift / max(1, len(self._validation)))

    def _changes(self) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        found = {}
        for layer, change in self._steps.changes.items():
            chosen = self._slots[layer]
            indices = torch.arange(len(change)) if chosen is None else chosen.cpu()
            found[layer] = indices, change.detach().cpu()
        return found

    def _key(self, weights: str) -> str:
        """A hash of all that decides the steps."""
        slots = {layer: None if chosen is None else chosen.tolist() for layer, chosen in self._slots.items()}
        asked = [
            [(one.ids, one.position, one.answer, one.source) for one in of.each]
            for of in (self._edited, self._kept, self._validation)
        ]
        told = json.dumps([weights, self._settings.as_json(), slots, asked], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()


def _drawn(facts: Collection[int], settings: TogetherSettings) -> set[int]:
    """The validation facts."""
    chance = random.Random(f"{settings.seed} validation")  # noqa: S311 - not for secrets
    return set(chance.sample(sorted(facts), round(settings.validation * len(facts))))


def _some(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), _AT_ONCE):
        yield numbers[start : start + _AT_ONCE]


def _divergences(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """KL(before ‖ after) of each row, both log-probabilities [rows, vocabulary]."""
    return (before.exp() * (before - after)).sum(-1)
