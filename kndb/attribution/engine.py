"""The engine: encoded prompts in, results and scores out, a batch at a time.

It knows nothing of the store. A batch that does not fit the memory is halved and tried again. The score of a prompt
whose answer has several tokens is the mean of its questions' scores.

Where only known prompts are wanted, a forward pass without gradients comes first and tells which those are. They alone
are attributed, in batches as full as any: prompts of one shape are collected from as many forward passes as it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import torch

from ..errors import AttributionError, ModelError, UsageError
from ..models.answers import answer_logits
from ..models.network import Network
from ..models.precision import PRECISIONS
from ..models.prompting import EncodedPrompt
from ..records.attribution import PromptResult, ResultBatch, ScoreColumns, error_limit
from .base_pass import continue_from, freeze
from .batches import NODES_PER_PROMPT, automatic_size, by_shape, most_prompts, to_tensors
from .continuation import Continuation
from .method import PromptScores, ScoringOptions
from .methods import find_method
from .quadrature import Quadrature

_Done = TypeVar("_Done")

NOT_KNOWN = "not-known"
COMPARED = 8
"""Prompts of the first batch on which the engine is compared with the model's own forward pass."""


@dataclass(frozen=True)
class AttributionSettings:
    """What decides an attribution's numbers, and so is stored with a run.

    Attributes:
        quadrature: the integration rules.
        floor: scores under this share of a prompt's largest score are not kept, 0 to 1.
        known_only: leave out prompts whose most probable token is not the answer.
        method: the kind of score, a name of `kndb.attribution.methods.METHODS`.
        negative: keep scores under zero too, down to the floor's share of the most negative one.
        seed: of everything drawn at random.
        precision: what numbers are computed in, a name of `kndb.models.precision.PRECISIONS`.
    """

    quadrature: Quadrature
    floor: float = 0.1
    known_only: bool = False
    method: str = "integrated-gradients"
    negative: bool = False
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        find_method(self.method)
        if self.precision not in PRECISIONS:
            raise UsageError(f"found dtype {self.precision!r}; expected one of: {', '.join(PRECISIONS)}")
        if not 0 <= self.floor <= 1:
            raise UsageError(f"found floor {self.floor}; expected a number from 0 to 1")

    def as_settings(self) -> dict[str, object]:
        """Plain values, for the store: those that the method uses."""
        method = find_method(self.method)
        return {
            **(self.quadrature.settings() if method.integrates else {}),
            **({"seed": self.seed} if method.draws else {}),
            "floor": self.floor,
            "known_only": self.known_only,
            "negative": self.negative,
            "dtype": self.precision,
        }

    @property
    def error_limit(self) -> float:
        """The completeness error above which a prompt's layers are noted."""
        return error_limit(self.quadrature.settings())


@dataclass(frozen=True)
class _Answers:
    """What the model answers to a batch of B prompts of m answer tokens."""

    probability: torch.Tensor  # [B]
    predicted: torch.Tensor  # [B, m]
    predicted_probability: torch.Tensor  # [B]
    correct: list[bool | None]  # B


@dataclass(frozen=True)
class _Attribution:
    """Scores and answers of a batch of B prompts of m answer tokens, S of them attributed."""

    answers: _Answers
    selected: torch.Tensor  # [S]
    scores: torch.Tensor  # [S, L, n]
    errors: torch.Tensor | None  # [m, S, L]
    evaluations: torch.Tensor  # [S]


class Engine:
    """Attributes prompts with one network and one group of settings.

    Args:
        network: the model in pieces, in the settings' precision; its parameters are frozen when it runs.
        decode: token ids to text.
        settings: what to compute.
        batch_size: prompts per batch; None chooses by the device's memory.
    """

    def __init__(
        self,
        network: Network,
        decode: Callable[[Sequence[int]], str],
        settings: AttributionSettings,
        batch_size: int | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"found batch size {batch_size}; expected auto or a number from 1")
        self._network = network
        self._decode = decode
        self._settings = settings
        self._method = find_method(settings.method)
        self._precision = PRECISIONS[settings.precision]
        self._batch_size = batch_size
        self._verified = False

    def run(self, prompts: Sequence[EncodedPrompt]) -> Iterator[ResultBatch]:
        """Attributes prompts, shorter ones first, and yields each batch's results as it is done.

        With `known_only`, the prompts that the model answers otherwise come as they are found, in batches without
        scores.

        Raises:
            AttributionError: if the model gives numbers that are not finite, or one prompt alone does not fit
                the memory.
            ModelError: if the engine's first batch does not agree with the model's own forward pass.
        """
        freeze(self._network.model)
        if self._settings.known_only:
            for alike in by_shape(prompts, max(1, len(prompts))):
                yield from self._run_known(alike)
            return
        for group in by_shape(prompts, self._batch_size or most_prompts(self._network.device)):
            yield from self._run_all(group)

    def _run_all(self, prompts: list[EncodedPrompt]) -> Iterator[ResultBatch]:
        """Attributes prompts of one shape."""
        rest = prompts
        while rest:
            size = self._fitting_size(rest[0])
            yield from self._fitting(rest[:size], self._attribute)
            rest = rest[size:]

    def _run_known(self, prompts: list[EncodedPrompt]) -> Iterator[ResultBatch]:
        """Attributes those of one shape that the model answers with the fact's answer."""
        known: list[EncodedPrompt] = []
        rest = prompts
        while rest:
            size = self._fitting_size(rest[0])
            some, rest = rest[:size], rest[size:]
            left_out: list[PromptResult] = []
            for asked, answers in self._fitting(some, self._ask):
                known += [prompt for prompt, right in zip(asked, answers.correct, strict=True) if right]
                left_out += _left_out(asked, answers, self._decode)
            # The first ones are attributed at once: nothing is given out before the engine has been compared.
            while len(known) >= size or (known and not self._verified):
                yield from self._fitting(known[:size], self._attribute)
                known = known[size:]
            if left_out:
                yield ResultBatch(tuple(left_out))
        yield from self._run_all(known)

    def _fitting_size(self, prompt: EncodedPrompt) -> int:
        return self._batch_size or automatic_size(self._network, prompt)

    def _fitting(
        self, prompts: list[EncodedPrompt], compute: Callable[[list[EncodedPrompt]], _Done]
    ) -> Iterator[_Done]:
        """What is computed of prompts: of all together, or part by part if they do not fit the memory."""
        try:
            with self._precision.computing():
                done = compute(prompts)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
        else:
            yield done
            return
        if len(prompts) == 1:
            raise AttributionError(
                f"a single prompt of {len(prompts[0].ids)} tokens does not fit the memory of {self._network.device}; "
                "use --device cpu"
            )
        if self._network.device.type == "cuda":
            torch.cuda.empty_cache()
        middle = len(prompts) // 2
        self._batch_size = middle
        yield from self._fitting(prompts[:middle], compute)
        yield from self._fitting(prompts[middle:], compute)

    @torch.no_grad()
    def _ask(self, prompts: list[EncodedPrompt]) -> tuple[list[EncodedPrompt], _Answers]:
        """The model's answers to prompts of one shape, by its own forward pass."""
        chosen, largest, predicted = [], [], []
        for questions in zip(*(prompt.questions for prompt in prompts), strict=True):
            logits = answer_logits(self._network, questions)
            distribution = (logits if logits.dtype == torch.float64 else logits.float()).softmax(-1)
            probability, token = distribution.max(-1)
            _require_finite(probability)
            answer = torch.tensor([question.answer for question in questions], device=token.device)
            answer = torch.where(answer < 0, token, answer)
            chosen.append(distribution.gather(-1, answer.unsqueeze(-1))[:, 0])
            largest.append(probability)
            predicted.append(token)
        tokens = torch.stack(predicted, dim=1)
        probability, best = torch.stack(chosen).prod(0), torch.stack(largest).prod(0)
        return prompts, _Answers(probability, tokens, best, _correct(prompts, tokens.tolist()))

    def _attribute(self, prompts: list[EncodedPrompt]) -> ResultBatch:
        questions = zip(*(prompt.questions for prompt in prompts), strict=True)
        bases = [continue_from(self._network, to_tensors(some, self._network.device)) for some in questions]
        _require_finite(torch.stack([base.base.odds for base in bases]))
        if not self._verified:
            self._verify(bases[0])
        attribution = self._score(prompts, bases)
        _require_finite(attribution.scores)
        return _results(prompts, attribution, self._settings, self._decode)

    def _score(self, prompts: list[EncodedPrompt], bases: list[Continuation]) -> _Attribution:
        predicted = torch.stack([base.base.predicted for base in bases], dim=1)
        correct = _correct(prompts, predicted.tolist())
        chosen = [n for n, right in enumerate(correct) if right or not self._settings.known_only]
        selected = torch.tensor(chosen, device=predicted.device, dtype=torch.int64)
        options = ScoringOptions(
            quadrature=self._settings.quadrature,
            # Where a batch has fewer prompts than could be run at once, more of their nodes are.
            most_rows=NODES_PER_PROMPT * max(len(prompts), self._fitting_size(prompts[0])),
            seed=self._settings.seed,
            facts=[prompts[index].fact_id for index in chosen],
            unit=self._precision.unit,
        )
        parts = [self._method.compute(base, selected, options) for base in bases]
        log_odds = torch.stack([base.base.odds for base in bases], dim=1)
        return _Attribution(
            answers=_Answers(
                probability=torch.nn.functional.logsigmoid(log_odds).sum(1).exp(),
                predicted=predicted,
                predicted_probability=torch.stack([base.base.predicted_probability for base in bases]).prod(0),
                correct=correct,
            ),
            selected=selected,
            scores=_mean_scores(parts),
            errors=_all_errors(parts),
            evaluations=torch.stack([part.evaluations for part in parts]).sum(0),
        )

    @torch.no_grad()
    def _verify(self, first: Continuation) -> None:
        """Compares the pieces that an adapter declares with the whole model, once."""
        batch, count = first.batch, min(COMPARED, len(first.batch))
        inputs = {"input_ids": batch.ids[:count]}
        if batch.source.shape[1]:
            inputs = {"input_ids": batch.source[:count], "decoder_input_ids": batch.ids[:count]}
        logits = cast("Any", self._network.model)(**inputs).logits
        rows = logits[torch.arange(count, device=logits.device), batch.position[:count]]
        wide = rows if rows.dtype == torch.float64 else rows.float()
        own = wide.softmax(-1).gather(-1, first.batch.answer[:count].unsqueeze(-1))[:, 0]
        found = first.base.odds[:count].sigmoid()
        worst = float(((own - found).abs() / own.clamp_min(1e-6)).max())
        if not worst <= self._precision.agreement:
            raise ModelError(
                f"kndb's {self._network.adapter.family} adapter gives other probabilities than the model's own "
                f"forward pass (relative difference {worst:.1e}, expected at most {self._precision.agreement:.0e}); "
                "no score was stored. The checkpoint has settings that the adapter does not know"
            )
        self._verified = True


def _is_out_of_memory(error: RuntimeError) -> bool:
    """CUDA has an error of its own; on a CPU or MPS only the text tells."""
    message = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in message or "can't allocate" in message


def _require_finite(values: torch.Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise AttributionError(
            "the model gives probabilities that are not numbers; its weights hold NaN or infinity, or are too large "
            "for the dtype that is computed in"
        )


def _correct(prompts: Sequence[EncodedPrompt], predicted: list[list[int]]) -> list[bool | None]:
    """Whether the most probable tokens are those of the fact's own answer.

    None where that has no tokens, or another number of them than the answer that is asked about.
    """
    golds = [prompt.answers if prompt.gold is None else prompt.gold for prompt in prompts]
    return [
        tuple(tokens) == gold if len(gold) == len(tokens) else None
        for tokens, gold in zip(predicted, golds, strict=True)
    ]


def _mean_scores(parts: list[PromptScores]) -> torch.Tensor:
    total = parts[0].scores
    for part in parts[1:]:
        total = total + part.scores
    return total / len(parts) if len(parts) > 1 else total


def _all_errors(parts: list[PromptScores]) -> torch.Tensor | None:
    errors = [part.completeness_error for part in parts if part.completeness_error is not None]
    return torch.stack(errors) if errors else None


def _kept(scores: torch.Tensor, settings: AttributionSettings) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest and smallest score of each prompt, [2, S], and which scores are kept, [S, L, n]."""
    if not len(scores):
        return scores.new_zeros(2, 0), torch.zeros_like(scores, dtype=torch.bool)
    largest, lowest = scores.amax(dim=(1, 2)), scores.amin(dim=(1, 2))
    keep = (scores >= (settings.floor * largest)[:, None, None]) & (scores > 0)
    if settings.negative:
        keep |= (scores <= (settings.floor * lowest)[:, None, None]) & (scores < 0)
    return torch.stack([largest, lowest]), keep


def _results(
    prompts: Sequence[EncodedPrompt],
    attribution: _Attribution,
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
    prompts: Sequence[EncodedPrompt], answers: _Answers, decode: Callable[[Sequence[int]], str]
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


def _left_out(
    prompts: Sequence[EncodedPrompt], answers: _Answers, decode: Callable[[Sequence[int]], str]
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
