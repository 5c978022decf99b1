"""FT-M: gradient steps on one layer's down projection, the loss on the answers' tokens alone.

Adam lowers the mean of −log p over the answers' tokens, some prompts after others in an order drawn by the seed. A
token that is the most probable one, with the probability that is asked for, counts as 0.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...errors import EditError
from ...models.prompting import EncodedPrompt
from ...records.many_settings import FinetuneSettings
from ...records.progress import Progress
from ..planning.upper_layers import UpperLayers
from .keys import all_sentences
from .passes import refuse_unfit
from .sentences import Rewrite
from .workspace import Workspace


@dataclass(frozen=True)
class FinetuneOutcome:
    """How it went.

    Attributes:
        steps: passes over the prompts.
        questions: tokens of answers that were asked for; `won`: those that had won when they were last seen.
    """

    steps: int
    questions: int
    won: int


def finetune(
    workspace: Workspace,
    rewrites: Sequence[Rewrite],
    layer: int,
    settings: FinetuneSettings,
    progress: Progress | None = None,
) -> FinetuneOutcome:
    """Changes a layer in a workspace.

    Args:
        workspace: the model.
        rewrites: what is wanted, at least one; their places don't matter.
        layer: which.
        settings: how.
        progress: told how many passes over all prompts were made.

    Raises:
        EditError: if the model lacks the layer, or has an encoder or experts, or the loss is not a number.
    """
    network = workspace.network
    refuse_unfit(network)
    if not 0 <= layer < len(network.layers):
        raise EditError(f"the model has no layer {layer}; it has layers 0 to {len(network.layers) - 1}")
    with network.frozen():
        steps = _Steps(workspace, rewrites, network.canonical_layer(layer), settings)
        return steps.run(progress)


class _Steps:
    """The matrix as it is, its change, and the questions."""

    def __init__(
        self, workspace: Workspace, rewrites: Sequence[Rewrite], layer: int, settings: FinetuneSettings
    ) -> None:
        self._workspace, self._layer, self._settings = workspace, layer, settings
        self._questions = _questions(rewrites)
        slots = workspace.network.layers[layer].slots.detach()
        self._base = slots.clone()
        self._scale = slots.abs().mean().item()
        self._change = torch.zeros_like(slots).requires_grad_()
        every = torch.arange(len(slots), device=slots.device)
        self._upper = UpperLayers(workspace.network, {layer: every}, self._questions)
        self._answers = torch.tensor([one.answer for one in self._questions], device=slots.device)

    def run(self, progress: Progress | None) -> FinetuneOutcome:
        """Takes steps until each token has won or there are no more."""
        settings, count = self._settings, len(self._questions)
        adam = torch.optim.Adam([self._change], lr=settings.learning_rate * self._scale)
        chance = random.Random(settings.seed)  # noqa: S311 - not for secrets
        taken = won = 0
        while taken < settings.steps and won < count:
            order = chance.sample(range(count), count)
            won = sum(
                self._step(adam, order[start : start + settings.at_once]) for start in range(0, count, settings.at_once)
            )
            taken += 1
            if progress is not None:
                progress(taken, settings.steps)
        self._workspace.set(self._layer, (self._base.double() + self._change.detach().double()).cpu())
        return FinetuneOutcome(taken, count, won)

    def _step(self, adam: torch.optim.Optimizer, numbers: Sequence[int]) -> int:
        """One step on some questions; how many of them had won before it."""
        logits = self._upper.logits(numbers, {self._layer: self._change})
        answers = self._answers[list(numbers)]
        of_answer = logits.log_softmax(-1).gather(1, answers[:, None])[:, 0]
        won = (logits.argmax(-1) == answers) & (of_answer.exp() >= self._settings.probability)
        if bool(won.all()):
            return len(numbers)
        loss = -torch.where(won, 0.0, of_answer).mean()
        if not bool(loss.isfinite()):
            raise EditError("the loss left the range of numbers; use a lower learning rate")
        (self._change.grad,) = torch.autograd.grad(loss, [self._change])
        adam.step()
        if self._settings.bound is not None:
            most = self._settings.bound * self._scale
            with torch.no_grad():
                self._change.clamp_(-most, most)
        return int(won.sum())


def _questions(rewrites: Sequence[Rewrite]) -> list[EncodedPrompt]:
    """Each token of each answer, asked for after those before it; each once."""
    return list(
        dict.fromkeys(
            EncodedPrompt(0, sentence.ids, at, answer)
            for sentence in all_sentences(rewrites)
            for at, answer in zip(sentence.reads, sentence.answers, strict=True)
        )
    )
