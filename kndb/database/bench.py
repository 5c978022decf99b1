"""Benchmarks that join the engine and the store."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ..advice import option
from ..attribution.quadrature import Quadrature
from ..attribution.settings import AttributionSettings
from ..bench.attribution import PROMPTS_PER_FACT, AttributionBenchmark, measure, random_prompts
from ..bench.shapes import random_network
from ..errors import UsageError
from ..files import writing
from ..models import loading
from ..models.devices import device_for
from ..models.dtypes import find_dtype
from ..models.network import Network
from ..models.prompting import EncodedPrompt
from ..records.attribution import ResultBatch
from ..records.facts import BLANK, FactFile, FactRecord
from ..store import facts as store_facts
from ..store import models as store_models
from ..store import runs as store_runs
from ..store import versions as store_versions
from ..store.engine import Store, open_store
from ..versions import version_id
from .background import BackgroundWriter

RELATION = "benchmark"


def bench_attribution(
    *,
    family: str = "bert",
    size: str = "base",
    checkpoint: str | None = None,
    prompts: int = 64,
    tokens: int = 8,
    method: str = "integrated-gradients",
    quadrature: str = "bisection",
    steps: int | None = None,
    tolerance: float = 1e-3,
    device: str = "auto",
    dtype: str = "float32",
    batch_size: int | None = None,
    baseline_prompts: int = 1,
    to_store: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> AttributionBenchmark:
    """Measures the engine on prompts of random tokens.

    Args:
        family: a name of `kndb.bench.shapes.FAMILIES`; its model gets random weights.
        size: `tiny`, `base` or `7b`.
        checkpoint: a checkpoint to take in place of family and size.
        prompts: how many prompts, at least 1.
        tokens: the length of each, at least 1.
        method: the kind of score.
        quadrature: the integration rule; `steps` and `tolerance` as for an attribution.
        steps: a fixed number of nodes.
        tolerance: the error wanted, if adaptive.
        device: `auto`, `cpu`, `cuda`, `mps`.
        dtype: what is computed in.
        batch_size: prompts per batch; None chooses by the memory.
        baseline_prompts: prompts to run by the baseline; 0 leaves it out.
        to_store: write the results into a temporary database as well, within the time measured.
        seed: of weights and prompts.
        progress: told how many prompts are done, and how many there are.

    Raises:
        UsageError: for values that make no sense.
    """
    for name, number, least in (
        ("prompts", prompts, 1),
        ("tokens", tokens, 1),
        ("baseline_prompts", baseline_prompts, 0),
    ):
        if number < least:
            raise UsageError(f"{option(name)} must be at least {least} (got {number})")
    settings = AttributionSettings(
        Quadrature.choose(quadrature, steps, tolerance),
        method=method,
        seed=seed,
        dtype=dtype,
        device=device,
        batch_size=batch_size,
    )
    chosen, parameters = device_for(device, dtype), find_dtype(dtype).dtype
    if checkpoint is None:
        network = random_network(family, size, seed=seed, device=chosen, dtype=parameters)
    else:
        network = loading.load(loading.locate(checkpoint)).moved(chosen, parameters)
    asked = random_prompts(network, prompts, tokens, seed)
    with ExitStack() as stack:
        save: Callable[[ResultBatch], None] | None = None
        writer: BackgroundWriter[ResultBatch] | None = None
        if to_store:
            store = stack.enter_context(_temporary_store(stack))
            run_id = _prepare(store, network, asked)
            writer = stack.enter_context(BackgroundWriter[ResultBatch](lambda batch: _save(store, run_id, batch)))
            save = writer.submit
        found = measure(
            network,
            asked,
            settings,
            baseline_prompts=baseline_prompts,
            save=save,
            finish=None if writer is None else writer.wait,
            progress=progress,
        )
    return found if writer is None else replace(found, seconds_writing=writer.waited)


def save_benchmark(path: Path, settings: Mapping[str, object], found: AttributionBenchmark) -> None:
    """Writes a benchmark's settings, machine and measures as JSON.

    Raises:
        OutputError: if the file can't be written.
    """
    machine: dict[str, object] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    text = json.dumps({"settings": dict(settings), "machine": machine, "measures": asdict(found)}, indent=2)
    with writing(path) as scratch:
        scratch.write_text(f"{text}\n", encoding="utf-8")


def _temporary_store(stack: ExitStack) -> Store:
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kndb-bench-"))
    return open_store(Path(folder, "bench.db"), create=True)


def _prepare(store: Store, network: Network, prompts: Sequence[EncodedPrompt]) -> int:
    """Puts facts with as many prompts, a model and a run into a new store."""
    facts = [
        FactRecord(RELATION, f"subject {number}", "object", None, _texts(number, len(prompts)))
        for number in range(-(-len(prompts) // PROMPTS_PER_FACT))
    ]
    version = version_id(RELATION, {})
    with store.writing() as connection:
        store_facts.ingest(connection, [FactFile(RELATION, {RELATION: None}, (), tuple(facts))])
        model = store_models.add_model(
            connection,
            name=RELATION,
            source=RELATION,
            fingerprint=RELATION,
            family=network.adapter.family,
            layers=len(network.layers),
            neurons=network.neurons,
            version=version,
        )
        store_versions.register_base(connection, model.id, version)
        run, _ = store_runs.start_run(connection, model.id, version, RELATION, {})
    return run.id


def _texts(fact: int, prompts: int) -> tuple[str, ...]:
    count = min(PROMPTS_PER_FACT, prompts - fact * PROMPTS_PER_FACT)
    return tuple(f"Sentence {fact} {number} {BLANK}." for number in range(count))


def _save(store: Store, run_id: int, batch: ResultBatch) -> None:
    with store.writing() as connection:
        store_runs.save_results(connection, run_id, batch)
