"""Targets: what to add to a layer's output at a rewrite's place, so that its new answer wins.

For each rewrite, alone, Adam steps on δ lower

    mean −log p(answer's tokens) over its sentences + w·mean KL(before ‖ after) over what is kept + u·‖δ‖² ÷ ‖h‖²

with δ added to what the layer's down projection writes, and h the sum that it goes into, both at the place. Kept is
"{subject} is a", as ROME has it, and what else a rewrite has of its subject. After each step δ is shortened to c·‖h‖ at
most. A rewrite takes no more steps once each of its sentences has the answer as its most probable one, with the
probability that is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ...errors import EditError
from ...models.network import Network
from ...records.many_settings import TargetSettings
from ...records.progress import Progress
from .keys import mean_of_each
from .passes import UpwardPasses
from .sentences import Rewrite, Sentence

_REWRITES_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Targets:
    """What was found for some rewrites.

    Attributes:
        added: δ, [U, d] in double precision on the CPU.
        probability: each rewrite's lowest probability of its answer over its sentences, when last seen, [U].
        steps: how many steps each took, [U].
    """

    added: torch.Tensor
    probability: torch.Tensor
    steps: torch.Tensor

    def followed_by(self, other: Targets) -> Targets:
        """The targets of these rewrites, then those of others."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("added", "probability", "steps"))
        return Targets(*(torch.cat(pair) for pair in pairs))


def find_targets(
    network: Network,
    layer: int,
    rewrites: Sequence[Rewrite],
    settings: TargetSettings,
    progress: Progress | None = None,
    begun: Targets | None = None,
    keep: Callable[[Targets], None] | None = None,
) -> Targets:
    """Finds what to add to a layer's output for each rewrite; each alone, some at once.

    Args:
        network: the model, in float32 or float64; nothing in it changes.
        layer: the layer.
        rewrites: what is wanted, at least one.
        settings: how.
        progress: told how many rewrites are done.
        begun: what was found for the first of them before.
        keep: called with what was found so far, after each part.

    Raises:
        EditError: if the model has an encoder, or a loss is not a number.
    """
    found = begun
    done = 0 if begun is None else len(begun.added)
    for start in range(done, len(rewrites), _REWRITES_AT_ONCE):
        part = rewrites[start : start + _REWRITES_AT_ONCE]
        with network.frozen():
            more = _Search(network, layer, part, settings).run()
        found = more if found is None else found.followed_by(more)
        if keep is not None:
            keep(found)
        if progress is not None:
            progress(start + len(part), len(rewrites))
    if found is None:
        raise EditError("there is nothing to find targets for; give at least one fact")
    return found


class _Search:
    """The steps for some rewrites."""

    def __init__(self, network: Network, layer: int, rewrites: Sequence[Rewrite], settings: TargetSettings) -> None:
        self._settings = settings
        sentences: list[Sentence] = []
        self._own: list[range] = []
        for one in rewrites:
            self._own.append(range(len(sentences), len(sentences) + len(one.sentences)))
            sentences += one.sentences
        self._answers = [torch.tensor(one.answers, device=network.device) for one in sentences]
        self._kept: list[range] = []
        for one in rewrites:
            kept = one.kept if settings.essence else ()
            self._kept.append(range(len(sentences), len(sentences) + len(kept)))
            sentences += kept
        self._passes = UpwardPasses(network, layer, sentences)
        streams = self._passes.stream[: len(self._answers)]
        self._lengths = mean_of_each(streams, rewrites).norm(dim=1, keepdim=True)
        self._scale = self._lengths / network.hidden_size**0.5
        every = range(len(self._answers), len(sentences))
        with torch.no_grad():
            before = self._passes.logits(every) if every else []
        self._before = {number: found.log_softmax(-1) for number, found in zip(every, before, strict=True)}
        self._probability = torch.zeros(len(self._answers), dtype=torch.float64)
        self._won = [False] * len(self._answers)

    def run(self) -> Targets:
        """Takes steps until each rewrite has won or there are no more."""
        settings = self._settings
        added = torch.zeros(len(self._own), self._passes.written.shape[1], device=self._scale.device)
        added = added.to(self._scale.dtype).requires_grad_()
        moments = torch.zeros_like(added), torch.zeros_like(added)
        taken = torch.zeros(len(self._own), dtype=torch.int64)
        open_ones = list(range(len(self._own)))
        for step in range(settings.steps + 1):
            loss = self._loss(added, open_ones, step)
            open_ones = [place for place in open_ones if not all(self._won[number] for number in self._own[place])]
            if not open_ones or step == settings.steps:
                break
            if not bool(loss.isfinite()):
                raise EditError("the loss of a target left the range of numbers; use a lower learning rate or bound")
            (gradient,) = torch.autograd.grad(loss, added)
            taken[open_ones] += 1
            self._step(added, gradient, moments, open_ones, step + 1)
        lowest = torch.stack([self._probability[own.start : own.stop].min() for own in self._own])
        return Targets(added.detach().double().cpu(), lowest, taken)

    @torch.no_grad()
    def _step(
        self,
        added: torch.Tensor,
        gradient: torch.Tensor,
        moments: tuple[torch.Tensor, torch.Tensor],
        places: Sequence[int],
        number: int,
    ) -> None:
        """One Adam step of some rewrites; all of them began together."""
        first, second = moments
        scaled = gradient[places] * self._scale[places]
        first[places] = 0.9 * first[places] + 0.1 * scaled
        second[places] = 0.999 * second[places] + 0.001 * scaled**2
        mean, square = first[places] / (1 - 0.9**number), second[places] / (1 - 0.999**number)
        step = self._settings.learning_rate * mean / (square.sqrt() + 1e-8)
        moved = added[places] - self._scale[places] * step
        allowed = self._settings.bound * self._lengths[places]
        added[places] = moved * (allowed / moved.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp_max(1)

    def _loss(self, added: torch.Tensor, places: Sequence[int], step: int) -> torch.Tensor:
        """The sum of some rewrites' losses; notes which of their sentences have won."""
        own = [(place, number) for place in places for number in self._turn(self._own[place], step)]
        kept = [(place, number) for place in places for number in self._turn(self._kept[place], step)]
        counts = Counter(place for place, _ in own), Counter(place for place, _ in kept)
        pairs = [*own, *kept]
        logits = self._passes.logits([number for _, number in pairs], added[[place for place, _ in pairs]])
        total = added.new_zeros(())
        for (place, number), found in zip(own, logits, strict=False):
            of_answer = found.log_softmax(-1).gather(1, self._answers[number][:, None])[:, 0]
            self._note(number, found, of_answer)
            total = total - of_answer.mean() / counts[0][place]
        for (place, number), found in zip(kept, logits[len(own) :], strict=True):
            before, after = self._before[number], found.log_softmax(-1)
            divergence = (before.exp() * (before - after)).sum(-1).mean()
            total = total + self._settings.essence * divergence / counts[1][place]
        size = (added[places] / self._lengths[places]).square().sum()
        loss: torch.Tensor = total + self._settings.decay * size
        return loss

    def _turn(self, numbers: Sequence[int], step: int) -> list[int]:
        """Those that take their turns at a step."""
        count = min(self._settings.at_once, len(numbers))
        return [numbers[(step * count + turn) % len(numbers)] for turn in range(count)]

    @torch.no_grad()
    def _note(self, number: int, logits: torch.Tensor, of_answer: torch.Tensor) -> None:
        probability = of_answer.sum().exp().item()
        self._probability[number] = probability
        best = bool((logits.argmax(-1) == self._answers[number]).all())
        self._won[number] = best and probability >= self._settings.probability
