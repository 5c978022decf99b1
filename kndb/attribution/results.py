"""From a batch's tensors to plain results: only scores that are kept are copied to the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from ..models.prompting import EncodedPrompt
from ..records.attribution import PromptResult, ResultBatch, ScoreColumns
from .settings import AttributionSettings

NOT_KNOWN = "not-known"


@dataclass(frozen=True)
class BatchAnswers:
    """What the model answers to a batch of B prompts of m answer tokens."""

    probability: torch.Tensor  # [B]
    predicted: torch.Tensor  # [B, m]
    predicted_probability: torch.Tensor  # [B]
    correct: list[bool | None]  # B


@dataclass(frozen=True)
class BatchScores:
    """Scores and answers of a batch of B prompts of m answer tokens, S of them attributed."""

    answers: BatchAnswers
    selected: torch.Tensor  # [S]
    scores: torch.Tensor  # [S, L, n]
    errors: torch.Tensor | None  # [m, S, L]
    evaluations: torch.Tensor  # [S]


def answered_right(prompts: Sequence[EncodedPrompt], predicted: list[list[int]]) -> list[bool | None]:
    """Whether the most probable tokens are those of the fact's own answer.

    None where that has no tokens, or another number of them than the answer that is asked about.
    """
    golds = [prompt.answers if prompt.gold is None else prompt.gold for prompt in prompts]
    return [
        tuple(tokens) == gold if len(gold) == len(tokens) else None
        for tokens, gold in zip(predicted, golds, strict=True)
    ]


def _kept(scores: torch.Tensor, settings: AttributionSettings) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest and smallest score of each prompt, [2, S], and which scores are kept, [S, L, n]."""
    if not len(scores):
        return scores.new_zeros(2, 0), torch.zeros_like(scores, dtype=torch.bool)
    largest, lowest = scores.amax(dim=(1, 2)), scores.amin(dim=(1, 2))
    keep = (scores >= (settings.floor * largest)[:, None, None]) & (scores > 0)
    if settings.negative:
        keep |= (scores <= (settings.floor * lowest)[:, None, None]) & (scores < 0)
    return torch.stack([largest, lowest]), keep


def batch_results(
    prompts: Sequence[EncodedPrompt],
    attribution: BatchScores,
    settings: AttributionSettings,
    decode: Callable[[Sequence[int]], str],
) -> ResultBatch:
    """Brings a batch to plain values; of the scores, only what is kept is copied to the host."""
    extremes, keep = _kept(attribution.scores, settings)
    which, layer, neuron = keep.nonzero(as_tuple=True)
    columns = ScoreColumns(
        prompt_ids=[prompts[index].prompt_id for index in attribution.selected[which].tolist()],
        layers=layer.tolist(),
        neurons=neuron.tolist(),
        scores=attribution.scores[which, layer, neuron].tolist(),
    )
    place = {index: number for number, index in enumerate(attribution.selected.tolist())}
    errors = attribution.errors
    mean = None if errors is None else errors.mean(dim=(0, 2)).tolist()
    by_layer = None if errors is None else errors.amax(dim=0).tolist()  # S lists of L, the worst of the answer's tokens
    evaluations, (maxima, minima) = attribution.evaluations.tolist(), extremes.tolist()
    results = []
    for index, said in enumerate(_said(prompts, attribution.answers, decode)):
        number = place.get(index)
        if number is None:
            results.append(replace(said, skipped=NOT_KNOWN))
            continue
        scored = replace(said, max_score=maxima[number], min_score=minima[number], evaluations=evaluations[number])
        if by_layer is not None and mean is not None:
            scored = _with_errors(scored, by_layer[number], mean[number], settings.error_limit)
        results.append(scored)
    return ResultBatch(tuple(results), columns)


def _said(
    prompts: Sequence[EncodedPrompt], answers: BatchAnswers, decode: Callable[[Sequence[int]], str]
) -> Iterator[PromptResult]:
    """What is known of prompts before they are attributed: the model's answers."""
    columns = zip(
        prompts,
        answers.probability.tolist(),
        answers.predicted.tolist(),
        answers.predicted_probability.tolist(),
        answers.correct,
        strict=True,
    )
    for prompt, probability, predicted, predicted_probability, correct in columns:
        yield PromptResult(
            prompt_id=prompt.prompt_id,
            probability=probability,
            predicted=decode(predicted),
            predicted_probability=predicted_probability,
            correct=correct,
            tokens=len(prompt.ids) + len(prompt.source),
            answer_tokens=len(prompt.questions),
        )


def left_out(
    prompts: Sequence[EncodedPrompt], answers: BatchAnswers, decode: Callable[[Sequence[int]], str]
) -> list[PromptResult]:
    """The results of the prompts that the model answers otherwise."""
    return [replace(said, skipped=NOT_KNOWN) for said in _said(prompts, answers, decode) if not said.correct]


def _with_errors(result: PromptResult, by_layer: Sequence[float], mean: float, limit: float) -> PromptResult:
    """A result with the completeness errors of its layers."""
    worst = max(range(len(by_layer)), key=by_layer.__getitem__)
    return replace(
        result,
        completeness_error=by_layer[worst],
        completeness_error_mean=mean,
        worst_layer=worst,
        layers_above={layer: error for layer, error in enumerate(by_layer) if error > limit},
    )
