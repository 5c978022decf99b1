"""Measures of an edit of many facts over their own prompts: each prompt asks for its own fact's new answer.

An answer may be several tokens. It has won where each of them is the most probable one at its place (`prompting` says
how each is asked for), and its probability is the geometric mean of theirs. Intervals are over facts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..models.network import Network
from ..models.prompting import EncodedPrompt
from .edit_measures import PARAPHRASES, Measure, Measures, OverFacts
from .evaluation_prompts import entries_of, read_tokens
from .readings import Question, State, read_states


@dataclass(frozen=True)
class OwnPrompt:
    """A prompt of an edited fact.

    Attributes:
        fact: the fact's number.
        old: the most probable first token before the edit, by its mean over the fact's prompts.
        open: the prompt with a blank of one token.
        new: the prompt with the new answer; `object` with the fact's own, None if the model can't be asked for it.
    """

    fact: int
    old: int
    open: EncodedPrompt
    new: EncodedPrompt
    object: EncodedPrompt | None


@dataclass(frozen=True)
class OwnReading:
    """What a model says to a prompt of an edited fact.

    Attributes:
        predicted: the most probable token at the blank.
        won: whether each token of the new answer is the most probable one.
        right: the share of its tokens that are.
        new, object: logs of the answers' probabilities, means over their tokens; NaN for an object that isn't asked.
    """

    predicted: int
    won: bool
    right: float
    new: float
    object: float


def read_own(network: Network, prompts: Sequence[OwnPrompt], states: Sequence[State]) -> list[list[OwnReading]]:
    """Asks a model prompts of edited facts, in several states of its weights; for each state, a reading of each."""
    questions = [
        Question(one, prompt.fact)
        for prompt in prompts
        for one in (
            replace(prompt.open, answer=0),
            *prompt.new.questions,
            *(() if prompt.object is None else prompt.object.questions),
        )
    ]
    found = []
    for reading in read_states(network, questions, states):
        entries = entries_of(reading)
        rows = []
        for prompt in prompts:
            predicted = next(entries)[1]
            new = read_tokens(prompt.new, entries)
            own = math.nan if prompt.object is None else read_tokens(prompt.object, entries).probability
            rows.append(OwnReading(predicted, new.right == 1, new.right, new.probability, own))
        found.append(rows)
    return found


def own_measures(
    prompts: Sequence[OwnPrompt],
    before: Sequence[OwnReading],
    after: Sequence[OwnReading],
    group: str,
    seed: int,
) -> Measures:
    """Whether an edit of many facts did what it is for.

    Args:
        prompts: the prompts.
        before: what the model says to them without the edit.
        after: what it says to them with it.
        group: `own` or `own_held_out`.
        seed: of the bootstrap.

    Returns:
        As `edit_measures.change_measures`, without ranks. Efficacy (or paraphrase) score and the probability of the
        object are over the prompts that the model can be asked for it.
    """
    facts = [prompt.fact for prompt in prompts]
    found = {"prompts": Measure(len(prompts)), "facts": Measure(len(set(facts)))}
    if not prompts:
        return found
    over = OverFacts(facts, seed)
    found["change_rate"] = over.share([one.predicted != own.old for own, one in zip(prompts, after, strict=True)])
    found["success_rate"] = over.share([one.won for one in after])
    asked = [prompt.object is not None for prompt in prompts]
    if any(asked):
        score = "paraphrase_score" if group == PARAPHRASES else "efficacy_score"
        found[score] = over.share([one.new > one.object for one in after], asked)
    for name, readings in (("before", before), ("after", after)):
        found[f"new_answer_probability_{name}"] = over.mean([math.exp(one.new) for one in readings])
    with_object = OverFacts([fact for fact, own in zip(facts, asked, strict=True) if own], seed)
    for name, readings in (("before", before), ("after", after)):
        if any(asked):
            values = [math.exp(one.object) for one in readings if not math.isnan(one.object)]
            found[f"answer_probability_{name}"] = with_object.mean(values)
    return found
