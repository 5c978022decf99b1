"""The engine: encoded prompts in, results and scores out, a batch at a time.

It knows nothing of the store. A batch that does not fit the memory is halved and tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from ..errors import AttributionError, ModelError, UsageError
from ..models.network import Network
from ..models.prompting import EncodedPrompt
from ..records import PromptResult, ResultBatch, ScoreColumns
from .batches import NODES_PER_PROMPT, automatic_size, by_length, to_tensors
from .continuation import PromptBatch, freeze
from .integrated_gradients import BatchAttribution, attribute_batch
from .quadrature import Quadrature

METHODS = ("integrated-gradients",)
NOT_KNOWN = "not-known"
AGREEMENT = 1e-3
"""How far the engine's probability may be from the model's own forward pass, relative."""


@dataclass(frozen=True)
class AttributionSettings:
    """What decides an attribution's numbers, and so is stored with a run.

    Attributes:
        quadrature: the integration rules.
        floor: scores under this share of a prompt's largest score are not kept, 0 to 1.
        known_only: leave out prompts whose most probable token is not the answer.
        method: the kind of score.
    """

    quadrature: Quadrature
    floor: float = 0.1
    known_only: bool = False
    method: str = "integrated-gradients"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"found method {self.method!r}; expected one of: {', '.join(METHODS)}")
        if not 0 <= self.floor <= 1:
            raise UsageError(f"found floor {self.floor}; expected a number from 0 to 1")

    def as_settings(self) -> dict[str, object]:
        """Plain values, for the store."""
        return {**self.quadrature.settings(), "floor": self.floor, "known_only": self.known_only}


class Engine:
    """Attributes prompts with one network and one group of settings.

    Args:
        network: the model in pieces; its parameters are frozen here.
        decode: a token id to text.
        settings: what to compute.
        batch_size: prompts per batch; None chooses by the device's memory.
    """

    def __init__(
        self,
        network: Network,
        decode: Callable[[int], str],
        settings: AttributionSettings,
        batch_size: int | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"found batch size {batch_size}; expected auto or a number from 1")
        freeze(network.model)
        self._network = network
        self._decode = decode
        self._settings = settings
        self._batch_size = batch_size
        self._verified = False

    def run(self, prompts: Sequence[EncodedPrompt]) -> Iterator[ResultBatch]:
        """Attributes prompts, shorter ones first, and yields each batch's results as it is done.

        Raises:
            AttributionError: if the model gives numbers that are not finite, or one prompt alone does not fit
                the memory.
            ModelError: if the engine's first batch does not agree with the model's own forward pass.
        """
        for group in by_length(prompts, self._batch_size or 1024):
            rest = group
            while rest:
                size = self._batch_size or automatic_size(self._network, len(group[0].ids))
                yield from self._attempt(rest[:size])
                rest = rest[size:]

    def _attempt(self, prompts: list[EncodedPrompt]) -> Iterator[ResultBatch]:
        try:
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
        batch = to_tensors(prompts, self._network.device)
        attribution = attribute_batch(
            self._network,
            batch,
            self._settings.quadrature,
            most_rows=NODES_PER_PROMPT * len(prompts),
            known_only=self._settings.known_only,
        )
        if not self._verified:
            self._verify(batch, attribution.probability)
        return _results(prompts, attribution, self._settings.floor, self._decode)

    @torch.no_grad()
    def _verify(self, batch: PromptBatch, probability: torch.Tensor) -> None:
        """Compares the pieces that an adapter declares with the whole model, once."""
        logits = cast("Any", self._network.model)(input_ids=batch.ids).logits
        rows = logits[torch.arange(len(batch), device=logits.device), batch.position]
        own = rows.float().softmax(-1).gather(-1, batch.answer.unsqueeze(-1))[:, 0]
        tolerance = AGREEMENT if self._network.word_embeddings.element_size() >= 4 else 0.05
        worst = float(((own - probability).abs() / own.clamp_min(1e-6)).max())
        if not worst <= tolerance:
            raise ModelError(
                f"kndb's {self._network.adapter.family} adapter gives other probabilities than the model's own "
                f"forward pass (relative difference {worst:.1e}, expected at most {tolerance:.0e}); "
                "nothing was stored. The checkpoint has settings that the adapter does not know"
            )
        self._verified = True


def _is_out_of_memory(error: RuntimeError) -> bool:
    """CUDA has an error of its own; on a CPU or MPS only the text tells."""
    message = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in message or "can't allocate" in message


def _results(
    prompts: Sequence[EncodedPrompt],
    attribution: BatchAttribution,
    floor: float,
    decode: Callable[[int], str],
) -> ResultBatch:
    """Brings a batch to plain values, keeping the scores that reach the floor."""
    # One pass over [S, L, n] on the device; only what is kept is copied to the host.
    largest = attribution.scores.amax(dim=(1, 2)) if len(attribution.selected) else attribution.probability[:0]
    keep = (attribution.scores >= (floor * largest)[:, None, None]) & (attribution.scores > 0)
    which, layer, neuron = keep.nonzero(as_tuple=True)
    columns = ScoreColumns(
        prompt_ids=[prompts[index].prompt_id for index in attribution.selected[which].tolist()],
        layers=layer.tolist(),
        neurons=neuron.tolist(),
        scores=attribution.scores[which, layer, neuron].tolist(),
    )
    place = {index: number for number, index in enumerate(attribution.selected.tolist())}
    worst = attribution.completeness_error.amax(dim=1).tolist()
    mean = attribution.completeness_error.mean(dim=1).tolist()
    evaluations, maxima = attribution.evaluations.tolist(), largest.tolist()
    probabilities = attribution.probability.tolist()
    predicted = attribution.predicted.tolist()
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
                correct=predicted[index] == prompt.answer,
                completeness_error=None if number is None else worst[number],
                completeness_error_mean=None if number is None else mean[number],
                max_score=None if number is None else maxima[number],
                evaluations=None if number is None else evaluations[number],
                tokens=len(prompt.ids),
                skipped=NOT_KNOWN if number is None else None,
            )
        )
    return ResultBatch(tuple(results), columns)
