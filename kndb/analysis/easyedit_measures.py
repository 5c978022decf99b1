"""EasyEdit's accuracies of each edited fact, before and after an edit.

Teacher-forced: an answer's accuracy is the share of its tokens that are the most probable, each asked after the ones
before it (in a masked model, at its own mask). Of a prompt whose answer should stay, it is the share of these places at
which the most probable token is the same after the edit as before it, whatever it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from ..models.network import Network
from ..models.prompting import EncodedPrompt
from .readings import Question, State, read_states


@dataclass(frozen=True)
class Case:
    """An edited fact's prompts as a model is asked them.

    Attributes:
        rewrite: its own prompts, each with the new answer.
        rephrase: the same in other words.
        locality: by axis, prompts whose answers should stay, each with an answer whose tokens are compared, or open.
        portability: by axis, prompts on what follows, each with its acceptable answers.
    """

    rewrite: tuple[EncodedPrompt, ...]
    rephrase: tuple[EncodedPrompt, ...]
    locality: Mapping[str, tuple[EncodedPrompt, ...]]
    portability: Mapping[str, tuple[tuple[EncodedPrompt, ...], ...]]


@dataclass(frozen=True)
class CaseAccuracies:
    """What a model says to a fact's prompts in one state of its weights; each number is from 0 to 1.

    Attributes:
        rewrite: mean over its own prompts; `rephrase`: over those in other words, None without any.
        locality: by axis, of each prompt: the share of tokens as in the first state.
        portability: by axis, of each prompt: that of the acceptable answer with the highest accuracy.
    """

    rewrite: float
    rephrase: float | None
    locality: Mapping[str, tuple[float, ...]]
    portability: Mapping[str, tuple[float, ...]]


def case_accuracies(
    network: Network, cases: Sequence[Case], states: Sequence[State]
) -> list[tuple[CaseAccuracies, ...]]:
    """The accuracies of each case in each state of a model's weights.

    Args:
        network: the model.
        cases: the cases; each has at least one prompt of its own.
        states: the states, the one before the edit first.

    Returns:
        For each case, one for each state.
    """
    questions = [
        Question(replace(one, answer=max(one.answer, 0)), 0)
        for case in cases
        for prompt in _prompts(case)
        for one in prompt.questions
    ]
    predicted = [iter(reading.predicted) for reading in read_states(network, questions, states)]
    found = []
    for case in cases:
        read = [[tuple(islice(tokens, len(prompt.questions))) for prompt in _prompts(case)] for tokens in predicted]
        found.append(tuple(_accuracies(case, iter(one), iter(read[0])) for one in read))
    return found


def unchanged_shares(network: Network, prompts: Sequence[EncodedPrompt], states: Sequence[State]) -> list[list[float]]:
    """For each state, the share of each prompt's tokens that are as in the first one."""
    case = Case((), (), {"": tuple(prompts)}, {})
    return [list(one.locality[""]) for one in case_accuracies(network, [case], states)[0]]


def _prompts(case: Case) -> Iterator[EncodedPrompt]:
    yield from case.rewrite
    yield from case.rephrase
    for prompts in case.locality.values():
        yield from prompts
    for several in case.portability.values():
        for answers in several:
            yield from answers


Tokens = tuple[int, ...]


def _accuracies(case: Case, read: Iterator[Tokens], before: Iterator[Tokens]) -> CaseAccuracies:
    """The accuracies of a case from the most probable tokens of its prompts, in their order."""

    def right(prompt: EncodedPrompt) -> float:
        next(before)
        return _share(next(read), prompt.answers)

    rewrite = [right(prompt) for prompt in case.rewrite]
    rephrase = [right(prompt) for prompt in case.rephrase]
    locality = {
        axis: tuple(_share(next(read), next(before)) for _ in prompts) for axis, prompts in case.locality.items()
    }
    portability = {
        axis: tuple(max(right(answer) for answer in answers) for answers in several)
        for axis, several in case.portability.items()
    }
    return CaseAccuracies(
        math.fsum(rewrite) / len(rewrite) if rewrite else math.nan,
        math.fsum(rephrase) / len(rephrase) if rephrase else None,
        locality,
        portability,
    )


def _share(found: Tokens, wanted: Tokens) -> float:
    return sum(one == other for one, other in zip(found, wanted, strict=True)) / len(wanted)
