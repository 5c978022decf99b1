"""Joint planning: gradient steps on the value slots of many facts at once, and on nothing else.

The steps make each of many prompts get its own new answer, while the distributions of other prompts stay those of the
unedited model: they lower

    mean −log p(new answer)  over the edited prompts
        +  β · mean KL(p before ‖ p after)  over the kept prompts
        +  γ · mean (‖Δv‖ ÷ ‖v‖)²  over the slots

estimated at each step on some edited and some kept prompts, in orders drawn by the seed. Of an answer of m tokens, each
token is asked for as `kndb.models.prompting` says (teacher forcing; m masks), and counts 1/m. A token that is won, the
most probable one with the probability that is asked for, counts as 0: what more it could win would cost the others.

What is learned are changes Δv of the value slots v, kept within ‖Δv‖ ≤ c·‖v‖; the model's parameters are not touched.
Only the layers from the lowest changed slot up are run in each step (`stored_layers`). Every `check` steps, all edited
prompts and those of the validation facts, which count in no step, are measured; the steps stop once both are as wanted.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ...advice import option
from ...errors import EditError
from ...models.network import Network
from ...models.prompting import EncodedPrompt
from ...records.models import Neuron
from ...records.progress import Progress
from ...records.together import TogetherSettings
from .recipes import slots_by_layer
from .resuming import StepsTaken, save_steps, saved_steps
from .stored_layers import Slots, StoredLayers
from .turns import Turns

_AT_ONCE = 64
"""Questions run at once where no graph is kept."""


@dataclass(frozen=True)
class Measured:
    """What changes do, before they are rounded.

    Attributes:
        success: the share of edited prompts whose new answer's tokens are all the most probable ones.
        loss: mean −log p over the tokens of the new answers, in nats.
        drift: mean KL divergence over the validation facts' prompts, in nats; 0 without any.
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
    """

    changes: dict[int, tuple[torch.Tensor, torch.Tensor]]
    taken: int
    reached: bool
    measured: Measured
    largest: float


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
        progress: told the steps taken.

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
        return _Planning(network, _slots(network, neurons, settings), edited, kept, settings).run(
            steps_file, key, progress
        )


def _slots(network: Network, neurons: Sequence[Neuron], settings: TogetherSettings) -> Slots:
    chosen = slots_by_layer(network, neurons)
    if settings.scope == "layers":
        return dict.fromkeys(chosen)
    return {layer: torch.tensor(sorted(indices)) for layer, indices in chosen.items()}


class _Planning:
    """One joint plan: the slots as they are, their changes, and what they are measured by."""

    def __init__(
        self,
        network: Network,
        slots: Slots,
        edited: Sequence[EncodedPrompt],
        kept: Sequence[EncodedPrompt],
        settings: TogetherSettings,
    ) -> None:
        self._settings = settings
        self._slots = slots
        validation = _drawn({prompt.fact_id for prompt in kept}, settings)
        in_steps = [prompt for prompt in kept if prompt.fact_id not in validation]
        measured = [prompt for prompt in kept if prompt.fact_id in validation]
        self._edited = _Questions(edited, 0)
        self._kept = _Questions(in_steps, self._edited.stop)
        self._validation = _Questions(measured, self._kept.stop) if measured else self._kept
        questions = [question for prompt in (*edited, *in_steps, *measured) for question in prompt.questions]
        self._layers = StoredLayers(network, slots, questions)
        self._lengths: dict[int, torch.Tensor] = {}
        self._changes: dict[int, torch.Tensor] = {}
        for layer, chosen in slots.items():
            of_layer = network.layers[layer].slots
            values = of_layer if chosen is None else of_layer[chosen.to(of_layer.device)]
            self._lengths[layer] = values.norm(dim=1, keepdim=True)
            self._changes[layer] = torch.zeros(values.shape, device=values.device, dtype=values.dtype).requires_grad_()
        self._mean_length = torch.cat(list(self._lengths.values())).mean().item()
        self._rate = settings.learning_rate * self._mean_length / network.hidden_size**0.5

    def run(self, steps_file: Path | None, key: str, progress: Progress | None) -> Together:
        """Takes steps until success and drift are reached or there are no more."""
        settings = self._settings
        adam = torch.optim.Adam(self._changes.values(), lr=self._rate, betas=(0.9, 0.99))
        own_key = self._key(key)
        taken = 0 if steps_file is None else self._resume(saved_steps(steps_file, own_key), adam)
        edited = Turns(len(self._edited), settings.edited_at_once, f"{settings.seed} edited")
        kept = Turns(len(self._kept), settings.kept_at_once, f"{settings.seed} kept")
        while True:
            if taken % settings.check == 0 or taken == settings.steps:
                if steps_file is not None:
                    save_steps(steps_file, own_key, self._state(taken, adam))
                measured = self._measure()
                if progress is not None:
                    progress(taken, settings.steps)
                reached = measured.success >= settings.success and measured.drift <= settings.drift
                if reached or taken == settings.steps:
                    return self._found(taken, reached, measured)
            loss = self._loss(edited.of_step(taken), kept.of_step(taken))
            if not bool(loss.isfinite()):
                raise EditError(
                    f"the loss left the range of numbers; use a lower {option('learning_rate')} or {option('bound')}"
                )
            for group in adam.param_groups:
                group["lr"] = self._rate * (1 - taken / settings.steps)
            gradients = torch.autograd.grad(loss, list(self._changes.values()))
            for change, gradient in zip(self._changes.values(), gradients, strict=True):
                change.grad = gradient
            adam.step()
            self._keep_within_bound()
            taken += 1

    def _loss(self, edited: Sequence[int], kept: Sequence[int]) -> torch.Tensor:
        """The loss on some edited and some kept prompts."""
        own, of_own = self._edited.of(edited)
        others, of_others = self._kept.of(kept)
        after = self._layers.logits([*own, *others], self._changes).log_softmax(-1)
        answers = torch.tensor(self._edited.answers_of(own), device=after.device)
        of_answer = after[: len(own)].gather(1, answers.unsqueeze(1)).squeeze(1)
        won = (after[: len(own)].argmax(-1) == answers) & (of_answer.exp() >= self._settings.target)
        loss = -(torch.where(won, 0.0, of_answer) * of_own.to(after)).sum()
        if others:
            before = self._layers.logits_before(others).log_softmax(-1)
            divergence = _divergences(before, after[len(own) :])
            loss = loss + self._settings.keep * (divergence * of_others.to(after)).sum()
        if self._settings.decay:
            loss = loss + self._settings.decay * self._relative_square()
        return loss

    def _relative_square(self) -> torch.Tensor:
        squares = [
            ((change / self._lengths[layer].clamp_min(1e-30)) ** 2).sum(1) for layer, change in self._changes.items()
        ]
        return torch.cat(squares).mean()

    @torch.no_grad()
    def _measure(self) -> Measured:
        """What the changes do to all edited prompts, and to those of the validation facts."""
        won = [True] * len(self._edited)
        loss = drift = 0.0
        for numbers in _some(range(len(self._edited))):
            own, weights = self._edited.of(numbers)
            after = self._layers.logits(own, self._changes).log_softmax(-1)
            answers = torch.tensor(self._edited.answers_of(own), device=after.device)
            of_answer = after.gather(1, answers.unsqueeze(1)).squeeze(1).cpu()
            loss -= float((of_answer * weights.to(of_answer)).sum()) * len(numbers)
            for question, right in zip(own, (after.argmax(-1) == answers).tolist(), strict=True):
                won[self._edited.prompt_of(question)] &= right
        for numbers in _some(range(len(self._validation))):
            others, weights = self._validation.of(numbers)
            after = self._layers.logits(others, self._changes).log_softmax(-1)
            divergence = _divergences(self._layers.logits_before(others).log_softmax(-1), after).cpu()
            drift += float((divergence * weights.to(divergence)).sum()) * len(numbers)
        return Measured(sum(won) / len(won), loss / len(won), drift / max(1, len(self._validation)))

    @torch.no_grad()
    def _keep_within_bound(self) -> None:
        for layer, change in self._changes.items():
            allowed = self._settings.bound * self._lengths[layer]
            change *= (allowed / change.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp_max(1)

    def _found(self, taken: int, reached: bool, measured: Measured) -> Together:
        largest = 0.0
        changes = {}
        for layer, change in self._changes.items():
            ratios = change.detach().norm(dim=1, keepdim=True) / self._lengths[layer].clamp_min(1e-30)
            largest = max(largest, ratios.max().item())
            chosen = self._slots[layer]
            indices = torch.arange(len(change)) if chosen is None else chosen.cpu()
            changes[layer] = indices, change.detach().cpu()
        return Together(changes, taken, reached, measured, largest)

    # --- resuming ------------------------------------------------------------------------------------------

    def _key(self, weights: str) -> str:
        """A hash of all that decides the steps."""
        slots = {layer: None if chosen is None else chosen.tolist() for layer, chosen in self._slots.items()}
        questions = [
            [(question.ids, question.position, question.answer, question.source) for question in of.questions]
            for of in (self._edited, self._kept, self._validation)
        ]
        told = json.dumps([weights, self._settings.as_json(), slots, questions], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def _state(self, taken: int, adam: torch.optim.Adam) -> StepsTaken:
        def kept(name: str) -> dict[int, torch.Tensor]:
            states = {layer: adam.state[change] for layer, change in self._changes.items()}
            return {layer: state.get(name, self._changes[layer].new_zeros(())) for layer, state in states.items()}

        return StepsTaken(taken, self._changes, kept("exp_avg"), kept("exp_avg_sq"))

    def _resume(self, saved: StepsTaken | None, adam: torch.optim.Adam) -> int:
        if saved is None or not saved.taken:
            return 0
        with torch.no_grad():
            for layer, change in self._changes.items():
                change.copy_(saved.changes[layer])
                adam.state[change] = {
                    "step": torch.tensor(float(saved.taken)),
                    "exp_avg": saved.means[layer].to(change),
                    "exp_avg_sq": saved.squares[layer].to(change),
                }
        return saved.taken


class _Questions:
    """Prompts, and their questions' places among all questions that are stored.

    Args:
        prompts: the prompts.
        start: the place of the first question.
    """

    def __init__(self, prompts: Sequence[EncodedPrompt], start: int) -> None:
        self.questions = [question for prompt in prompts for question in prompt.questions]
        self._start = start
        self._places: list[range] = []
        self._prompt: list[int] = []
        for number, prompt in enumerate(prompts):
            self._places.append(range(start + len(self._prompt), start + len(self._prompt) + len(prompt.questions)))
            self._prompt += [number] * len(prompt.questions)
        self.stop = start + len(self.questions)

    def __len__(self) -> int:
        return len(self._places)

    def of(self, prompts: Sequence[int]) -> tuple[list[int], torch.Tensor]:
        """The places of some prompts' questions; and their weights, which are those of a mean over these prompts."""
        places = [place for prompt in prompts for place in self._places[prompt]]
        weights = [1 / len(self._places[prompt]) / len(prompts) for prompt in prompts for _ in self._places[prompt]]
        return places, torch.tensor(weights, dtype=torch.float64)

    def answers_of(self, places: Sequence[int]) -> list[int]:
        """The tokens that questions ask for."""
        return [self.questions[place - self._start].answer for place in places]

    def prompt_of(self, place: int) -> int:
        """The prompt of a question."""
        return self._prompt[place - self._start]


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
