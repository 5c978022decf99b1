"""The engine: encoded prompts in, results and scores out, a batch at a time.

It knows nothing of the store. A batch that does not fit the memory is halved and tried again. The score of a prompt
whose answer has several tokens is the mean of its questions' scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from ..errors import AttributionError, ModelError, UsageError
from ..models.network import Network
from ..models.precision import PRECISIONS
from ..models.prompting import EncodedPrompt
from ..records import PromptResult, ResultBatch, ScoreColumns
from .batches import NODES_PER_PROMPT, automatic_size, by_shape, most_prompts, to_tensors
from .continuation import Continuation, continue_from, freeze
from .method import MethodOptions, MethodScores
from .methods import find_method
from .quadrature import Quadrature

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


@dataclass(frozen=True)
class _Attribution:
    """Scores and answers of a batch of B prompts of m answer tokens, S of them attributed."""

    selected: torch.Tensor  # [S]
    scores: torch.Tensor  # [S, L, n]
    errors: torch.Tensor | None  # [S, m·L]
    evaluations: torch.Tensor  # [S]
    probability: torch.Tensor  # [B]
    predicted: torch.Tensor  # [B, m]
    predicted_probability: torch.Tensor  # [B]
    correct: list[bool | None]  # B


class Engine:
    """Attributes prompts with one network and one group of settings.

    Args:
        network: the model in pieces, in the settings' precision; its parameters are frozen here.
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
        freeze(network.model)
        self._network = network
        self._decode = decode
        self._settings = settings
        self._method = find_method(settings.method)
        self._precision = PRECISIONS[settings.precision]
        self._batch_size = batch_size
        self._verified = False

    def run(self, prompts: Sequence[EncodedPrompt]) -> Iterator[ResultBatch]:
        """Attributes prompts, shorter ones first, and yields each batch's results as it is done.

        Raises:
            AttributionError: if the model gives numbers that are not finite, or one prompt alone does not fit
                the memory.
            ModelError: if the engine's first batch does not agree with the model's own forward pass.
        """
        for group in by_shape(prompts, self._batch_size or most_prompts(self._network.device)):
            rest = group
            while rest:
                size = self._batch_size or automatic_size(self._network, rest[0])
                yield from self._attempt(rest[:size])
                rest = rest[size:]

    def _attempt(self, prompts: list[EncodedPrompt]) -> Iterator[ResultBatch]:
        try:
            with self._precision.computing():
                done = self._attribute(prompts)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            done = None
        if done is not None:
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
        yield from self._attempt(prompts[:middle])
        yield from self._attempt(prompts[middle:])

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
        options = MethodOptions(
            quadrature=self._settings.quadrature,
            most_rows=NODES_PER_PROMPT * max(len(prompts), self._rows_that_fit(prompts[0])),
            seed=self._settings.seed,
            facts=[prompts[index].fact_id for index in chosen],
            unit=self._precision.unit,
        )
        parts = [self._method.compute(base, selected, options) for base in bases]
        log_odds = torch.stack([base.base.odds for base in bases], dim=1)
        return _Attribution(
            selected=selected,
            scores=_mean_scores(parts),
            errors=_all_errors(parts),
            evaluations=torch.stack([part.evaluations for part in parts]).sum(0),
            probability=torch.nn.functional.logsigmoid(log_odds).sum(1).exp(),
            predicted=predicted,
            predicted_probability=torch.stack([base.base.predicted_probability for base in bases]).prod(0),
            correct=correct,
        )

    def _rows_that_fit(self, prompt: EncodedPrompt) -> int:
        """Prompts of a shape that could be run at once: where a batch has fewer, more of their nodes are."""
        return self._batch_size or automatic_size(self._network, prompt)

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
                "nothing was stored. The checkpoint has settings that the adapter does not know"
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


def _mean_scores(parts: list[MethodScores]) -> torch.Tensor:
    total = parts[0].scores
    for part in parts[1:]:
        total = total + part.scores
    return total / len(parts) if len(parts) > 1 else total


def _all_errors(parts: list[MethodScores]) -> torch.Tensor | None:
    errors = [part.completeness_error for part in parts if part.completeness_error is not None]
    return torch.cat(errors, dim=1) if errors else None


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
    worst = [None] * len(place) if errors is None or not len(place) else errors.amax(dim=1).tolist()
    mean = [None] * len(place) if errors is None or not len(place) else errors.mean(dim=1).tolist()
    evaluations, (maxima, minima) = attribution.evaluations.tolist(), extremes.tolist()
    probabilities, predicted = attribution.probability.tolist(), attribution.predicted.tolist()
    predicted_probability = attribution.predicted_probability.tolist()
    results = []
    for index, prompt in enumerate(prompts):
        number = place.get(index)
        results.append(
            PromptResult(
                prompt_id=prompt.prompt_id,
                probability=probabilities[index],
                predicted=decode(predicted[index]),
                predicted_probability=predicted_probability[index],
                correct=attribution.correct[index],
                completeness_error=None if number is None else worst[number],
                completeness_error_mean=None if number is None else mean[number],
                max_score=None if number is None else maxima[number],
                min_score=None if number is None else minima[number],
                evaluations=None if number is None else evaluations[number],
                tokens=len(prompt.ids) + len(prompt.source),
                answer_tokens=len(prompt.questions),
                skipped=NOT_KNOWN if number is None else None,
            )
        )
    return ResultBatch(tuple(results), columns)
