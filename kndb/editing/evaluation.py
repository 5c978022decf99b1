"""Measures of an edit: what it did to its own fact or relation, and to all others.

All compare the model before and after the edit on the same prompts. Perplexity is exp of the mean of −log p(answer)
over prompts. `method.md`'s names: change rate (most probable answer ≠ the old one), success rate (= the new one),
intra (other facts of the relation), inter (facts of other relations).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..models.answers import batched_log_probabilities
from ..models.network import Network
from ..models.prompting import EncodedPrompt


@dataclass(frozen=True)
class Reading:
    """What a model says to a list of prompts, each entry for one prompt.

    Attributes:
        answer: log-probability of the prompt's own answer.
        predicted: the most probable token.
        target: log-probability of the edit's new answer; empty if there is none.
        target_rank: rank of the new answer, 1 being the most probable; empty if there is none.
    """

    answer: tuple[float, ...]
    predicted: tuple[int, ...]
    target: tuple[float, ...] = ()
    target_rank: tuple[int, ...] = ()


def read_answers(network: Network, prompts: Sequence[EncodedPrompt], target: int | None = None) -> Reading:
    """Asks a model all prompts.

    Args:
        network: the model.
        prompts: prompts with their answers.
        target: a token whose probability and rank are wanted too.
    """
    count = len(prompts)
    answer, predicted = torch.empty(count), torch.empty(count, dtype=torch.int64)
    of_target, rank = torch.empty(count), torch.empty(count, dtype=torch.int64)
    for indices, log_probabilities in batched_log_probabilities(network, prompts):
        gold = torch.tensor([prompts[index].answer for index in indices])
        answer[indices] = log_probabilities.gather(1, gold.unsqueeze(1))[:, 0]
        predicted[indices] = log_probabilities.argmax(-1)
        if target is not None:
            of_target[indices] = log_probabilities[:, target]
            rank[indices] = 1 + (log_probabilities > log_probabilities[:, target].unsqueeze(1)).sum(-1)
    if target is None:
        return Reading(tuple(answer.tolist()), tuple(predicted.tolist()))
    return Reading(*(tuple(column.tolist()) for column in (answer, predicted, of_target, rank)))


def compare(prompts: Sequence[EncodedPrompt], before: Reading, after: Reading) -> dict[str, float | int | None]:
    """Perplexity and accuracy of the prompts' own answers before and after, and how many answers stayed the same."""
    if not prompts:
        return {"prompts": 0}
    perplexity_before, perplexity_after = perplexity(before.answer), perplexity(after.answer)
    return {
        "prompts": len(prompts),
        "perplexity_before": perplexity_before,
        "perplexity_after": perplexity_after,
        "perplexity_change": perplexity_after - perplexity_before,
        "accuracy_before": _share([p.answer == t for p, t in zip(prompts, before.predicted, strict=True)]),
        "accuracy_after": _share([p.answer == t for p, t in zip(prompts, after.predicted, strict=True)]),
        "unchanged": _share([a == b for a, b in zip(before.predicted, after.predicted, strict=True)]),
    }


def update_measures(
    prompts: Sequence[EncodedPrompt], old: int, new: int, before: Reading, after: Reading
) -> dict[str, float | int | None]:
    """Change rate, success rate, and probability and rank of both answers, over prompts of the edited fact.

    Args:
        prompts: the prompts.
        old: token of the answer that the edit moves away from.
        new: token of the answer that it moves to.
        before: the model's answers before the edit, with the new token as target.
        after: its answers after it.
    """
    if not prompts:
        return {"prompts": 0}
    return {
        "prompts": len(prompts),
        "change_rate": _share([token != old for token in after.predicted]),
        "success_rate": _share([token == new for token in after.predicted]),
        "new_answer_probability_before": _mean_probability(before.target),
        "new_answer_probability_after": _mean_probability(after.target),
        "new_answer_rank_before": sum(before.target_rank) / len(prompts),
        "new_answer_rank_after": sum(after.target_rank) / len(prompts),
        "answer_probability_before": _mean_probability(before.answer),
        "answer_probability_after": _mean_probability(after.answer),
    }


def perplexity(log_probabilities: Sequence[float]) -> float:
    """Exp of the mean of −log p; infinity where that is too large for a number."""
    try:
        return math.exp(-sum(log_probabilities) / len(log_probabilities))
    except OverflowError:
        return math.inf


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)


def _mean_probability(log_probabilities: Sequence[float]) -> float:
    return sum(math.exp(value) for value in log_probabilities) / len(log_probabilities)
