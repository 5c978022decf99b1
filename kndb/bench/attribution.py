"""How fast and how exact the attribution engine is on a device, beside a matrix product and a baseline."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..attribution.engine import Engine
from ..attribution.settings import AttributionSettings
from ..models.adapter import Blank
from ..models.dtypes import COMPUTE_DTYPES
from ..models.network import Network
from ..models.prompting import EncodedPrompt
from ..records.attribution import PromptResult, ResultBatch
from .baseline import STEPS, baseline_scores
from .memory import peak_memory, reset_peak_memory

PRODUCT_SIZE = {"cpu": 4096, "cuda": 8192, "mps": 4096}
PRODUCT_ROUNDS = {"cpu": 3, "cuda": 20, "mps": 10}
PROMPTS_PER_FACT = 9
"""As in ParaRel on average."""
COUNTED = 64
"""Prompts whose arithmetic is counted, at most: counting slows it down."""


@dataclass(frozen=True)
class AttributionBenchmark:
    """What a benchmark measured.

    Attributes:
        prompts: prompts attributed, of `tokens` tokens each.
        seconds: wall-clock time for them, results brought to plain values.
        prompts_per_second: their rate.
        evaluations_per_layer: gradient evaluations per prompt and layer, the shared one left out.
        completeness_mean, completeness_p95, completeness_max: largest relative error over a prompt's layers.
        gflop_per_prompt: matrix arithmetic, counted as the engine ran it on a few prompts.
        gflop_per_second: arithmetic times rate.
        product_gflop_per_second: of a large matrix product on the same device in the same dtype, just before and
            after, the mean.
        share_of_product: the ratio of the two.
        peak_memory_gb: of the process on a CPU; of the device's allocations on a GPU. Includes the model.
        baseline_seconds_per_prompt: of the way that published tools work, with 20 steps; None if not measured.
        baseline_gflop_per_prompt: its arithmetic, counted.
        times_baseline: how many times faster the engine is.
        scores_per_prompt: scores kept.
        seconds_writing: time spent waiting for the store; None if nothing was stored.
    """

    prompts: int
    tokens: int
    seconds: float
    prompts_per_second: float
    evaluations_per_layer: float
    completeness_mean: float | None
    completeness_p95: float | None
    completeness_max: float | None
    gflop_per_prompt: float
    gflop_per_second: float
    product_gflop_per_second: float
    share_of_product: float
    peak_memory_gb: float
    baseline_seconds_per_prompt: float | None
    baseline_gflop_per_prompt: float | None
    times_baseline: float | None
    scores_per_prompt: float
    seconds_writing: float | None = None


def random_prompts(network: Network, count: int, tokens: int, seed: int) -> list[EncodedPrompt]:
    """Prompts of random tokens; the answer, a random token, is read where the family reads it."""
    chance = torch.Generator().manual_seed(seed)
    vocabulary = int(network.word_embeddings.shape[0])
    ids = torch.randint(min(10, vocabulary // 2), vocabulary, (count, tokens), generator=chance).tolist()
    answers = torch.randint(0, vocabulary, (count,), generator=chance).tolist()
    blank = network.adapter.blank
    prompts = []
    for number, (row, answer) in enumerate(zip(ids, answers, strict=True)):
        fact = number // PROMPTS_PER_FACT
        if blank is Blank.SENTINEL:
            prompt = EncodedPrompt(number + 1, (0, vocabulary - 1), 1, answer, tuple(row), fact_id=fact)
        else:
            position = tokens - 1 if blank is Blank.CUT else max(0, tokens - 3)
            prompt = EncodedPrompt(number + 1, tuple(row), position, answer, fact_id=fact)
        prompts.append(prompt)
    return prompts


def measure(
    network: Network,
    prompts: Sequence[EncodedPrompt],
    settings: AttributionSettings,
    *,
    baseline_prompts: int = 1,
    save: Callable[[ResultBatch], None] | None = None,
    finish: Callable[[], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AttributionBenchmark:
    """Attributes prompts and measures it.

    Args:
        network: the model, on its device and in the settings' dtype.
        prompts: what to attribute, all of one length.
        settings: what to compute.
        baseline_prompts: prompts to run by the baseline; 0 leaves it out.
        save: takes each batch's results, within the time measured.
        finish: called after the last one, within it too.
        progress: told how many prompts are done, and how many there are.
    """
    device = network.device
    dtype = COMPUTE_DTYPES[settings.dtype]
    engine = Engine(network, lambda tokens: " ".join(map(str, tokens)), settings)
    _drain(engine, prompts[:1])  # The first batch is compared with the model's own forward pass.
    with dtype.computing():
        counted = _gflop(lambda: _drain(engine, prompts[:COUNTED])) / min(COUNTED, len(prompts))
        base_seconds, base_gflop = _baseline(network, prompts[:baseline_prompts])
        before = product_rate(device, dtype.dtype)
    reset_peak_memory(device)
    started = time.perf_counter()
    results: list[PromptResult] = []
    kept = 0
    for batch in engine.run(prompts):
        if save is not None:
            save(batch)
        results += batch.results
        kept += len(batch.scores)
        if progress is not None:
            progress(len(results), len(prompts))
    if finish is not None:
        finish()
    _synchronize(device)
    seconds = time.perf_counter() - started
    with dtype.computing():
        product = statistics.mean([before, product_rate(device, dtype.dtype)])
    errors = [result.completeness_error for result in results if result.completeness_error is not None]
    layers, rate = len(network.layers), len(prompts) / seconds
    evaluations = statistics.mean(result.evaluations or 0 for result in results)
    shared = 1 if evaluations and settings.quadrature.shared else 0
    return AttributionBenchmark(
        prompts=len(prompts),
        tokens=max(len(prompts[0].ids), len(prompts[0].source)),
        seconds=seconds,
        prompts_per_second=rate,
        evaluations_per_layer=(evaluations - shared) / layers,
        completeness_mean=statistics.mean(errors) if errors else None,
        completeness_p95=_quantile(errors, 0.95) if errors else None,
        completeness_max=max(errors) if errors else None,
        gflop_per_prompt=counted,
        gflop_per_second=counted * rate,
        product_gflop_per_second=product,
        share_of_product=counted * rate / product,
        peak_memory_gb=peak_memory(device),
        baseline_seconds_per_prompt=base_seconds,
        baseline_gflop_per_prompt=base_gflop,
        times_baseline=None if base_seconds is None else base_seconds * rate,
        scores_per_prompt=kept / len(prompts),
    )


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of a large square matrix product."""
    size, rounds = PRODUCT_SIZE[device.type], PRODUCT_ROUNDS[device.type]
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    left @ right
    _synchronize(device)
    started = time.perf_counter()
    for _ in range(rounds):
        left @ right
    _synchronize(device)
    return rounds * 2 * size**3 / (time.perf_counter() - started) / 1e9


def _baseline(network: Network, prompts: Sequence[EncodedPrompt]) -> tuple[float | None, float | None]:
    """Seconds and GFLOP per prompt of the baseline; its warm-up is the counting."""
    if not prompts:
        return None, None
    gflop = _gflop(lambda: baseline_scores(network, prompts[0], STEPS))
    _synchronize(network.device)
    started = time.perf_counter()
    for prompt in prompts:
        baseline_scores(network, prompt, STEPS)
    _synchronize(network.device)
    return (time.perf_counter() - started) / len(prompts), gflop


def _gflop(action: Callable[[], object]) -> float:
    counter = FlopCounterMode(display=False)
    with counter:
        action()
    return counter.get_total_flops() / 1e9


def _drain(engine: Engine, prompts: Sequence[EncodedPrompt]) -> None:
    for _ in engine.run(prompts):
        pass


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
