"""What a model answers to prompts, and how probable given answers are, of one token or several.

The probability of an answer is the geometric mean of its tokens' probabilities, and it is the model's answer if each of
its tokens is the most probable one there: as in `evaluation_prompts`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ..models.answers import batched_log_probabilities
from ..models.network import Network
from ..models.prompting import EncodedPrompt
from ..records.progress import Progress
from .evaluation_prompts import read_answer

_TOP = 5


@dataclass(frozen=True)
class AskedAnswers:
    """A prompt as a model is asked it.

    Attributes:
        open: the prompt with a blank of one token.
        answers: the prompt with each answer whose probability is wanted.
    """

    open: EncodedPrompt
    answers: tuple[EncodedPrompt, ...]


@dataclass(frozen=True)
class AnswerReading:
    """What a model says to an answer.

    Attributes:
        right: whether it is the most probable one, token by token.
        probability: the geometric mean of its tokens' probabilities.
        predicted: the most probable token at the place of each of its tokens.
    """

    right: bool
    probability: float
    predicted: tuple[int, ...]


@dataclass(frozen=True)
class PromptAnswers:
    """What a model says to a prompt.

    Attributes:
        top: the most probable tokens at the blank, each with its probability.
        answers: a reading of each answer.
    """

    top: tuple[tuple[int, float], ...]
    answers: tuple[AnswerReading, ...]


@contextmanager
def widened(model: torch.nn.Module) -> Iterator[None]:
    """While open, a model's half-precision parameters are float32, so that it answers as `kndb ask` has it.

    Every number of half precision is one of float32: afterwards, each parameter has its bits again.
    """
    parameters = [one for one in model.parameters() if one.is_floating_point() and one.element_size() < 4]
    dtypes = [one.dtype for one in parameters]
    try:
        for one in parameters:
            one.data = one.data.to(torch.float32)
        yield
    finally:
        for one, dtype in zip(parameters, dtypes, strict=True):
            one.data = one.data.to(dtype)


def read_answers(
    network: Network, prompts: Sequence[AskedAnswers], progress: Progress | None = None
) -> list[PromptAnswers]:
    """Asks a model, as its weights are, in float32 at least.

    Args:
        network: the model.
        prompts: what to ask.
        progress: told how many questions were asked, and how many there are.

    Raises:
        ModelError: if probabilities are not numbers.
    """
    questions = list(dict.fromkeys(_shown(one) for prompt in prompts for one in _questions(prompt)))
    places = {question: place for place, question in enumerate(questions)}
    wanted: list[set[int]] = [set() for _ in questions]
    for prompt in prompts:
        for answer in prompt.answers:
            for one in answer.questions:
                wanted[places[_shown(one)]].add(one.answer)
    found: list[_Found | None] = [None] * len(questions)
    done = 0
    with widened(network.model):
        for indices, rows in batched_log_probabilities(network, [_prompt(question) for question in questions]):
            for index, row in zip(indices, rows, strict=True):
                found[index] = _found(row, sorted(wanted[index]))
            done += len(indices)
            if progress is not None:
                progress(done, len(questions))
    return [_read(prompt, places, found) for prompt in prompts]


_Shown = tuple[tuple[int, ...], int, tuple[int, ...]]
"""What a model is fed, and where it is read."""


@dataclass(frozen=True)
class _Found:
    """What is read of one question: the most probable tokens, and the log-probabilities of those that are wanted."""

    top: tuple[tuple[int, float], ...]
    logs: dict[int, float]


def _questions(prompt: AskedAnswers) -> Iterator[EncodedPrompt]:
    yield prompt.open
    for answer in prompt.answers:
        yield from answer.questions


def _shown(prompt: EncodedPrompt) -> _Shown:
    return prompt.ids, prompt.position, prompt.source


def _prompt(shown: _Shown) -> EncodedPrompt:
    ids, position, source = shown
    return EncodedPrompt(0, ids, position, -1, source)


def _found(row: torch.Tensor, tokens: list[int]) -> _Found:
    values, ids = row.topk(min(_TOP, len(row)))
    top = tuple((token, math.exp(value)) for token, value in zip(ids.tolist(), values.tolist(), strict=True))
    # Of equals, topk may name another token first than argmax, by which answers are right everywhere else.
    first = int(row.argmax())
    if top[0][0] != first:
        top = ((first, math.exp(float(row[first]))), *(one for one in top if one[0] != first))[: len(top)]
    return _Found(top, {token: float(row[token]) for token in tokens})


def _read(prompt: AskedAnswers, places: dict[_Shown, int], found: Sequence[_Found | None]) -> PromptAnswers:
    def of(one: EncodedPrompt) -> _Found:
        entry = found[places[_shown(one)]]
        assert entry is not None, "every question was asked"
        return entry

    answers = []
    for answer in prompt.answers:
        predicted = tuple(of(one).top[0][0] for one in answer.questions)
        logs = (of(one).logs[one.answer] for one in answer.questions)
        right, mean = read_answer(
            answer, ((log, token, token, 0.0) for log, token in zip(logs, predicted, strict=True))
        )
        answers.append(AnswerReading(right, math.exp(mean), predicted))
    return PromptAnswers(of(prompt.open).top, tuple(answers))
