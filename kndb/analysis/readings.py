"""What a model says to prompts in several states of its weights, each against the unedited model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from ..models.answers import batched_log_probabilities
from ..models.network import Network
from ..models.prompting import EncodedPrompt

State = Callable[[], AbstractContextManager[None]]
"""Puts the weights into a state while its context lasts."""
_AT_ONCE = 256
"""Prompts asked in one state before the next one: their distributions are held in memory."""


@dataclass(frozen=True)
class Question:
    """A prompt, and what is to be read of it.

    Attributes:
        prompt: the prompt, with the first token of its fact's object as answer.
        fact: the fact's number.
        old: token of the answer that an edit moves away from, if there is one.
        new: token of the answer that it moves to.
    """

    prompt: EncodedPrompt
    fact: int
    old: int | None = None
    new: int | None = None


@dataclass(frozen=True)
class Reading:
    """What a model says to a list of questions; each entry is for one of them.

    Attributes:
        answer: log-probability of the fact's object.
        predicted: the most probable token.
        new: log-probability of the new answer; NaN if there is none.
        new_rank: rank of the new answer, 1 being the most probable; 0 if there is none.
        unedited: the unedited model's most probable token.
        divergence: KL(unedited ‖ this), in nats.
    """

    answer: tuple[float, ...]
    predicted: tuple[int, ...]
    new: tuple[float, ...]
    new_rank: tuple[int, ...]
    unedited: tuple[int, ...]
    divergence: tuple[float, ...]


def as_they_are() -> AbstractContextManager[None]:
    """The state in which the weights are."""
    return nullcontext()


def read_states(
    network: Network, questions: Sequence[Question], states: Iterable[State], unedited: Network | None = None
) -> list[Reading]:
    """Asks a model all questions, in several states of its weights.

    Args:
        network: the model.
        questions: the questions.
        states: the states.
        unedited: the unedited model; None takes the first state for it.

    Returns:
        A reading for each state.
    """
    entered = list(states)
    columns = [_Columns(len(questions)) for _ in entered]
    for start in range(0, len(questions), _AT_ONCE):
        places = range(start, min(start + _AT_ONCE, len(questions)))
        prompts = [questions[place].prompt for place in places]
        reference: Mapping[int, torch.Tensor] | None = None
        if unedited is not None:
            reference = _distributions(unedited, prompts)
        for column, state in zip(columns, entered, strict=True):
            with state():
                found = _distributions(network, prompts)
            if reference is None:
                reference = found
            for offset, place in enumerate(places):
                column.read(place, questions[place], found[offset], reference[offset])
    return [column.reading() for column in columns]


def _distributions(network: Network, prompts: Sequence[EncodedPrompt]) -> dict[int, torch.Tensor]:
    """Log-probabilities over the vocabulary for each prompt, by its place."""
    return {
        index: row
        for indices, log_probabilities in batched_log_probabilities(network, prompts)
        for index, row in zip(indices, log_probabilities, strict=True)
    }


class _Columns:
    """A reading that is being made."""

    def __init__(self, count: int) -> None:
        self._numbers = torch.full((3, count), torch.nan, dtype=torch.float64)
        self._tokens = torch.zeros((3, count), dtype=torch.int64)

    def read(self, place: int, question: Question, found: torch.Tensor, unedited: torch.Tensor) -> None:
        self._numbers[0, place] = found[question.prompt.answer]
        self._tokens[0, place] = found.argmax()
        if question.new is not None:
            self._numbers[1, place] = found[question.new]
            self._tokens[1, place] = 1 + (found > found[question.new]).sum()
        self._tokens[2, place] = unedited.argmax()
        if found is not unedited:
            before = unedited.double()
            # Rounding can make a sum of nearly nothing negative.
            divergence = (before.exp() * (before - found.double())).nansum().clamp_min(0)
            self._numbers[2, place] = divergence
        else:
            self._numbers[2, place] = 0.0

    def reading(self) -> Reading:
        answer, new, divergence = (tuple(row) for row in self._numbers.tolist())
        predicted, rank, unedited = (tuple(row) for row in self._tokens.tolist())
        return Reading(answer, predicted, new, rank, unedited, divergence)
