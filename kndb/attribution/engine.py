"""The engine: encoded prompts in, results and scores out, a batch at a time.

It knows nothing of the store. A batch that does not fit the memory is halved and tried again. The score of a prompt
whose answer has several tokens is the mean of its questions' scores.

Where only known prompts are wanted, a forward pass without gradients comes first and tells which those are. They alone
are attributed, in batches as full as any: prompts of one shape are collected from as many forward passes as it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import torch

from ..advice import option
from ..errors import AttributionError, ModelError
from ..models.answers import answer_logits, require_numbers
from ..models.dtypes import COMPUTE_DTYPES
from ..models.network import Network
from ..models.prompting import EncodedPrompt
from ..records.attribution import PromptResult, ResultBatch
from .base_pass import continue_from, freeze
from .batches import automatic_size, by_shape, most_prompts, rows_at_once, rows_of_layer, to_tensors
from .continuation import Continuation
from .method import PromptScores, ScoringOptions
from .methods import find_method
from .results import BatchAnswers, BatchScores, answered_right, batch_results, left_out
from .settings import AttributionSettings

_Done = TypeVar("_Done")

COMPARED = 8
"""Prompts of the first batch on which the engine is compared with the model's own forward pass."""


class Engine:
    """Attributes prompts with one network and one group of settings.

    Args:
        network: the model in pieces, in the settings' dtype; its parameters are frozen when it runs.
        decode: token ids to text.
        settings: what to compute; its device is the network's.
    """

    def __init__(
        self,
        network: Network,
        decode: Callable[[Sequence[int]], str],
        settings: AttributionSettings,
    ) -> None:
        self._network = network
        self._decode = decode
        self._settings = settings
        self._method = find_method(settings.method)
        self._dtype = COMPUTE_DTYPES[settings.dtype]
        self._batch_size = settings.batch_size
        self._verified = False

    def run(self, prompts: Sequence[EncodedPrompt]) -> Iterator[ResultBatch]:
        """Attributes prompts, shorter ones first, and yields each batch's results as it is done.

        With `known_only`, the prompts that the model answers otherwise come as they are found, in batches without
        scores.

        Raises:
            AttributionError: if one prompt alone does not fit the memory.
            ModelError: if the model gives probabilities that are not numbers, or the engine's first batch does not
                agree with the model's own forward pass.
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
            others: list[PromptResult] = []
            for asked, answers in self._fitting(some, self._ask):
                known += [prompt for prompt, right in zip(asked, answers.correct, strict=True) if right]
                others += left_out(asked, answers, self._decode)
            # The first ones are attributed at once: nothing is given out before the engine has been compared.
            while len(known) >= size or (known and not self._verified):
                yield from self._fitting(known[:size], self._attribute)
                known = known[size:]
            if others:
                yield ResultBatch(tuple(others))
        yield from self._run_all(known)

    def _fitting_size(self, prompt: EncodedPrompt) -> int:
        return self._batch_size or automatic_size(self._network, prompt)

    def _fitting(
        self, prompts: list[EncodedPrompt], compute: Callable[[list[EncodedPrompt]], _Done]
    ) -> Iterator[_Done]:
        """What is computed of prompts: of all together, or part by part if they do not fit the memory."""
        try:
            with self._dtype.computing():
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
                f"use {option('device', 'cpu')}"
            )
        if self._network.device.type == "cuda":
            torch.cuda.empty_cache()
        middle = len(prompts) // 2
        self._batch_size = middle
        yield from self._fitting(prompts[:middle], compute)
        yield from self._fitting(prompts[middle:], compute)

    @torch.no_grad()
    def _ask(self, prompts: list[EncodedPrompt]) -> tuple[list[EncodedPrompt], BatchAnswers]:
        """The model's answers to prompts of one shape, by its own forward pass."""
        chosen, largest, predicted = [], [], []
        for questions in zip(*(prompt.questions for prompt in prompts), strict=True):
            logits = answer_logits(self._network, questions)
            distribution = (logits if logits.dtype == torch.float64 else logits.float()).softmax(-1)
            probability, token = distribution.max(-1)
            require_numbers(self._network, probability)
            answer = torch.tensor([question.answer for question in questions], device=token.device)
            answer = torch.where(answer < 0, token, answer)
            chosen.append(distribution.gather(-1, answer.unsqueeze(-1))[:, 0])
            largest.append(probability)
            predicted.append(token)
        tokens = torch.stack(predicted, dim=1)
        probability, best = torch.stack(chosen).prod(0), torch.stack(largest).prod(0)
        return prompts, BatchAnswers(probability, tokens, best, answered_right(prompts, tokens.tolist()))

    def _attribute(self, prompts: list[EncodedPrompt]) -> ResultBatch:
        questions = zip(*(prompt.questions for prompt in prompts), strict=True)
        bases = [continue_from(self._network, to_tensors(some, self._network.device)) for some in questions]
        for base in bases:
            base.part = rows_of_layer(self._network, prompts[0])
        require_numbers(self._network, torch.stack([base.base.odds for base in bases]))
        if not self._verified:
            self._verify(bases[0])
        attribution = self._score(prompts, bases)
        require_numbers(self._network, attribution.scores)
        return batch_results(prompts, attribution, self._settings, self._decode)

    def _score(self, prompts: list[EncodedPrompt], bases: list[Continuation]) -> BatchScores:
        predicted = torch.stack([base.base.predicted for base in bases], dim=1)
        correct = answered_right(prompts, predicted.tolist())
        chosen = [n for n, right in enumerate(correct) if right or not self._settings.known_only]
        selected = torch.tensor(chosen, device=predicted.device, dtype=torch.int64)
        options = ScoringOptions(
            quadrature=self._settings.quadrature,
            # Where a batch has fewer prompts than could be run at once, more of their nodes are.
            most_rows=rows_at_once(self._network, max(len(prompts), self._fitting_size(prompts[0]))),
            seed=self._settings.seed,
            facts=[prompts[index].fact_id for index in chosen],
            unit=self._dtype.unit,
        )
        parts = [self._method.compute(base, selected, options) for base in bases]
        log_odds = torch.stack([base.base.odds for base in bases], dim=1)
        return BatchScores(
            answers=BatchAnswers(
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
        with self._network.whole_head():
            logits = cast("Any", self._network.model)(**inputs).logits
        rows = logits[torch.arange(count, device=logits.device), batch.position[:count]]
        wide = rows if rows.dtype == torch.float64 else rows.float()
        own = wide.softmax(-1).gather(-1, first.batch.answer[:count].unsqueeze(-1))[:, 0]
        found = first.base.odds[:count].sigmoid()
        worst = float(((own - found).abs() / own.clamp_min(1e-6)).max())
        if not worst <= self._dtype.agreement:
            raise ModelError(
                f"kndb's {self._network.adapter.family} adapter gives other probabilities than the model's own "
                f"forward pass (relative difference {worst:.1e}, allowed {self._dtype.agreement:.0e}); "
                "no score was stored. The checkpoint has settings that the adapter does not know"
            )
        self._verified = True


def _is_out_of_memory(error: RuntimeError) -> bool:
    """CUDA has an error of its own; on a CPU or MPS only the text tells."""
    message = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in message or "can't allocate" in message


def _mean_scores(parts: list[PromptScores]) -> torch.Tensor:
    total = parts[0].scores
    for part in parts[1:]:
        total = total + part.scores
    return total / len(parts) if len(parts) > 1 else total


def _all_errors(parts: list[PromptScores]) -> torch.Tensor | None:
    errors = [part.completeness_error for part in parts if part.completeness_error is not None]
    return torch.stack(errors) if errors else None
