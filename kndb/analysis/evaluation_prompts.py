"""What an edit does to its evaluation prompts: those of other subjects and of what follows, each with its own answers.

An answer may be several tokens. Its probability is the geometric mean of its tokens' (the exponential of the mean
log-probability, as in ROME's code), each asked after the ones before it, or in a masked model at its own mask; it is
right if each of them is the most probable there. Of several acceptable answers, the most probable counts, and it is
enough that one is right. The unit of the intervals is the prompt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from ..models.network import Network
from ..models.prompting import EncodedPrompt
from ..records.facts import ATTRIBUTE, LOCALITY, NEIGHBOURHOOD, PORTABILITY
from .edit_measures import Measure, Measures, with_ends
from .intervals import mean_interval, share_interval
from .readings import Question, Reading, State, as_they_are, read_states

STAYING = (NEIGHBOURHOOD, ATTRIBUTE, LOCALITY)
"""Kinds of prompt whose answers an edit should leave."""
MEASURED = (*STAYING, PORTABILITY)
"""Kinds of prompt that have answers of their own."""


@dataclass(frozen=True)
class AskedPrompt:
    """An evaluation prompt as a model is asked it.

    Attributes:
        kind: its kind.
        text: the prompt.
        open: the prompt with a blank of one token.
        answers: the prompt with each acceptable answer that the model can be asked.
        fact: the number of the edited fact that it belongs to.
        new: the prompt with the edit's new answer; None if it has none, or the model can't be asked for it here.
    """

    kind: str
    text: str
    open: EncodedPrompt
    answers: tuple[EncodedPrompt, ...]
    fact: int = 0
    new: EncodedPrompt | None = None

    @property
    def can_prefer(self) -> bool:
        """Whether a model can prefer an answer to the new one: not where that is right itself, or not asked for."""
        new = self.new
        return new is not None and all(one.answers != new.answers for one in self.answers)


@dataclass(frozen=True)
class PromptReading:
    """What a model says to an evaluation prompt.

    Attributes:
        right: whether an acceptable answer is the most probable one, token by token.
        tokens_right: the largest share of an acceptable answer's tokens that are the most probable ones.
        tokens: the most probable token in the place of each token of the first acceptable answer.
        answer: log of the most probable acceptable answer's probability, a mean over its tokens.
        new: log of the new answer's probability, a mean over its tokens; NaN if there is none.
        predicted: the most probable token at the blank.
        unedited: that of the unedited model.
        divergence: KL(unedited ‖ this) at the blank, in nats.
    """

    right: bool
    tokens_right: float
    tokens: tuple[int, ...]
    answer: float
    new: float
    predicted: int
    unedited: int
    divergence: float


@dataclass(frozen=True)
class ComparedPrompts:
    """What a state of a model's weights does to evaluation prompts, against the state before.

    Attributes:
        measures: by kind.
        flips: the prompts whose answers were to stay, and changed.
        readings: by kind, what the model says to each prompt before and in this state.
    """

    measures: dict[str, Measures]
    flips: list[PromptFlip]
    readings: dict[str, tuple[list[PromptReading], list[PromptReading]]]


@dataclass(frozen=True)
class PromptFlip:
    """An evaluation prompt of a fact whose most probable token was to stay, and changed from `old` to `new`."""

    fact: int
    kind: str
    text: str
    old: int
    new: int


def known(network: Network, prompts: Sequence[Sequence[EncodedPrompt]]) -> list[bool]:
    """Whether a model answers each of some prompts rightly, as its weights are.

    Args:
        network: the model.
        prompts: each with its acceptable answers.
    """
    questions = [Question(one, 0) for answers in prompts for answer in answers for one in answer.questions]
    (reading,) = read_states(network, questions, [as_they_are])
    entries = entries_of(reading)
    read = [[read_answer(answer, entries) for answer in answers] for answers in prompts]
    return [any(right for right, _ in answers) for answers in read]


def read_prompts(
    network: Network,
    prompts: Sequence[AskedPrompt],
    states: Sequence[State],
    unedited: Network | None,
) -> list[list[PromptReading]]:
    """Asks a model evaluation prompts, in several states of its weights.

    Args:
        network: the model.
        prompts: the prompts.
        states: the states, the one before the edit first.
        unedited: the unedited model; None takes the first state for it.

    Returns:
        For each state a reading of each prompt.
    """
    questions = [question for prompt in prompts for question in _questions(prompt)]
    return [_readings(prompts, reading) for reading in read_states(network, questions, states, unedited)]


def prompt_measures(
    kind: str,
    prompts: Sequence[AskedPrompt],
    before: Sequence[PromptReading],
    after: Sequence[PromptReading],
    seed: int,
) -> Measures:
    """Measures of an edit over the evaluation prompts of one kind.

    Args:
        kind: the kind.
        prompts: the prompts.
        before: what the model says to them before the edit.
        after: what it says after it.
        seed: of the bootstrap.
    """
    found: Measures = {"prompts": Measure(len(prompts))}
    if not prompts:
        return found
    for name, readings in (("before", before), ("after", after)):
        found[f"accuracy_{name}"] = _share([one.right for one in readings])
    for name, readings in (("before", before), ("after", after)):
        found[f"answer_probability_{name}"] = _mean([math.exp(one.answer) for one in readings], seed)
    if kind not in STAYING:
        return found
    asked = [place for place, prompt in enumerate(prompts) if prompt.can_prefer]
    if asked:
        score = "neighbourhood_score" if kind == NEIGHBOURHOOD else "right_above_new"
        for name, readings in (("before", before), ("after", after)):
            found[f"{score}_{name}"] = _share([readings[place].answer > readings[place].new for place in asked])
    pairs = list(zip(before, after, strict=True))
    return {
        **found,
        "unchanged": _share([first.predicted == then.predicted for first, then in pairs]),
        "locality": _share([one.unedited == one.predicted for one in after]),
        "locality_divergence": _mean([one.divergence for one in after], seed),
    }


def prompt_flips(
    prompts: Sequence[AskedPrompt], before: Sequence[PromptReading], after: Sequence[PromptReading]
) -> list[PromptFlip]:
    """The prompts whose answers were to stay, and changed."""
    return [
        PromptFlip(prompt.fact, prompt.kind, prompt.text, first.predicted, then.predicted)
        for prompt, first, then in zip(prompts, before, after, strict=True)
        if prompt.kind in STAYING and first.predicted != then.predicted
    ]


def compare_prompts(
    network: Network,
    groups: Mapping[str, Sequence[AskedPrompt]],
    states: Sequence[State],
    unedited: Network | None,
    seed: int,
) -> list[ComparedPrompts]:
    """Measures and flips of several states of a model's weights against the first of them, over evaluation prompts.

    Args:
        network: the model.
        groups: prompts by kind.
        states: the state before, then those to measure.
        unedited: the unedited model; None takes the first state for it.
        seed: of the bootstrap.
    """
    compared = [ComparedPrompts({}, [], {}) for _ in states[1:]]
    for kind, prompts in groups.items():
        before, *after = read_prompts(network, prompts, states, unedited)
        for one, readings in zip(compared, after, strict=True):
            one.measures[kind] = prompt_measures(kind, prompts, before, readings, seed)
            one.flips.extend(prompt_flips(prompts, before, readings))
            one.readings[kind] = before, readings
    return compared


# --- from questions for tokens to answers ---------------------------------------------------------------

Entry = tuple[float, int, int, float]
"""What is read of one question: log-probability, most probable token, that of the unedited model, divergence."""


def _questions(prompt: AskedPrompt) -> Iterator[Question]:
    yield Question(replace(prompt.open, answer=0), 0)
    for answer in (*prompt.answers, *(() if prompt.new is None else (prompt.new,))):
        for one in answer.questions:
            yield Question(one, 0)


def entries_of(reading: Reading) -> Iterator[Entry]:
    """A reading, question by question."""
    return zip(reading.answer, reading.predicted, reading.unedited, reading.divergence, strict=True)


def _readings(prompts: Sequence[AskedPrompt], reading: Reading) -> list[PromptReading]:
    entries = entries_of(reading)
    found = []
    for prompt in prompts:
        _, predicted, unedited, divergence = next(entries)
        read = [read_tokens(answer, entries) for answer in prompt.answers]
        new = math.nan if prompt.new is None else read_tokens(prompt.new, entries).probability
        found.append(
            PromptReading(
                right=any(one.right == 1 for one in read),
                tokens_right=max(one.right for one in read),
                tokens=read[0].predicted,
                answer=max(one.probability for one in read),
                new=new,
                predicted=predicted,
                unedited=unedited,
                divergence=divergence,
            )
        )
    return found


@dataclass(frozen=True)
class AnswerReading:
    """What a model says to an answer, asked token by token.

    Attributes:
        right: the share of its tokens that are the most probable ones.
        probability: the mean of the logs of their probabilities.
        predicted: the most probable token in the place of each.
    """

    right: float
    probability: float
    predicted: tuple[int, ...]


def read_tokens(answer: EncodedPrompt, entries: Iterator[Entry]) -> AnswerReading:
    """What a model says to an answer; takes its tokens' entries."""
    own = list(islice(entries, len(answer.questions)))
    predicted = tuple(entry[1] for entry in own)
    right = sum(one == token for one, token in zip(predicted, answer.answers, strict=True)) / len(own)
    return AnswerReading(right, math.fsum(entry[0] for entry in own) / len(own), predicted)


def read_answer(answer: EncodedPrompt, entries: Iterator[Entry]) -> tuple[bool, float]:
    """Whether an answer is the most probable one, and its mean log-probability; takes its tokens' entries."""
    read = read_tokens(answer, entries)
    return read.right == 1, read.probability


def _share(flags: Sequence[bool]) -> Measure:
    values = [float(flag) for flag in flags]
    return with_ends(sum(values) / len(values), share_interval(values))


def _mean(values: Sequence[float], seed: int) -> Measure:
    return with_ends(math.fsum(values) / len(values), mean_interval(values, seed=seed))
