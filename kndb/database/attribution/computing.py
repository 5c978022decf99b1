"""Who computes an attribution: this process, or workers. Both give batches of results, which `running` saves.

Both run the same engine over encoded prompts, with the model's version that they were told; workers load it themselves,
once each, and check it as this process would.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Protocol

import torch
from sqlalchemy import Connection

from ...attribution.batches import MOST_PROMPTS, by_shape
from ...attribution.engine import Engine
from ...attribution.settings import AttributionSettings
from ...models.device_maps import split_of
from ...models.devices import device_for
from ...models.dtypes import find_dtype
from ...models.prompting import EncodedPrompt, Encoder
from ...records.attribution import ResultBatch, ScoreColumns
from ...records.models import Model
from ...records.work import WorkEngine
from ...store.engine import Store
from ...work.cluster import require_ray
from ...work.ray_engine import ray_workers
from ...work.schedule import Schedule
from ..ledger import StoreLedger
from ..models import ModelCommands, ModelVersion, VersionSource
from ..threads import use_worker_threads

ROUNDS = 16
"""Units that each worker does, about: with fewer, some would wait for the last one; with more, batches get small."""
LEAST = 16
"""Prompts in a unit at least, where there are so many alike: fewer make poor batches."""

OpenRun = Callable[[], int]
"""Gives the run's number; called once something can be computed, as a run that can't be leaves nothing."""
Note = Callable[[Connection], None]
"""Notes in the store, in the transaction that saves a batch, that a unit of work is done."""


@dataclass(frozen=True)
class Computed:
    """A batch of results, and how to note that it is all of a unit of work, if it is one."""

    batch: ResultBatch
    note: Note | None = None


class Computer(Protocol):
    """Who computes.

    Attributes:
        record: what the store knows of the model; `version`: the version's id; `encoder`: prompts to token ids.
        device: where it was computed, once it was.
        threads: threads of each worker; 0 where this process computes, with those that it has.
        began: when it began to compute, by the clock `time.monotonic`, if that was later than it was told to.
        failed: the prompts that could not be attributed, and why, once all was tried.
    """

    record: Model
    version: str
    encoder: Encoder
    device: str
    threads: int
    workers: int
    began: float | None
    failed: Sequence[tuple[int, str]]

    def batches(self, encoded: Sequence[EncodedPrompt], open_run: OpenRun) -> Generator[Computed, None, None]:
        """Attributes prompts."""


class OwnComputer:
    """This process; see `Computer`."""

    failed: Sequence[tuple[int, str]] = ()
    workers = threads = 0
    began: float | None = None

    def __init__(self, models: ModelCommands, name: str, version: str, settings: AttributionSettings) -> None:
        self._settings = settings
        self._device = device_for(settings.device, settings.dtype)
        self._loaded = models.load(name, version, split=split_of(settings, self._device))
        self.record, self.version = self._loaded.record, self._loaded.version
        self.encoder = self._loaded.encoder
        self.device = str(self._device)

    def batches(self, encoded: Sequence[EncodedPrompt], open_run: OpenRun) -> Generator[Computed, None, None]:  # noqa: ARG002
        """Attributes prompts."""
        yield from map(Computed, engine_of(self._loaded, self._device, self._settings).run(encoded))


class Workers:
    """Workers of a Ray cluster; see `Computer`.

    The model's weights are not loaded here, but for its tokenizer.
    """

    def __init__(
        self,
        store: Store,
        models: ModelCommands,
        name: str,
        version: str,
        settings: AttributionSettings,
        engine: WorkEngine,
    ) -> None:
        require_ray()
        self._store, self._settings, self._engine = store, settings, engine
        self._source = models.source(name, version)
        self.record, self.version = self._source.record, self._source.version
        self.encoder = self._source.encoder()
        self.device = settings.device
        self.threads = self.workers = 0
        self.began: float | None = None
        self.failed: Sequence[tuple[int, str]] = ()

    def batches(self, encoded: Sequence[EncodedPrompt], open_run: OpenRun) -> Generator[Computed, None, None]:
        """Attributes prompts, a unit of work after the other."""
        if not encoded:
            return
        of_number = {prompt.prompt_id: prompt for prompt in encoded}
        prepare = _Attributing(self._source, self._settings, self._engine.threads)
        with ray_workers(self._engine, prepare, self._settings.device) as pool:
            self.workers, self.began = pool.wait_for_first(), time.monotonic()
            work = f"run {open_run()}"
            size = self._settings.batch_size
            ledger = StoreLedger(self._store, work, units_of(encoded, self.workers, size))
            schedule = Schedule(pool, ledger, lambda items: [of_number[item] for item in items])
            with closing(schedule.run()) as done:
                for unit, batch in done:
                    yield Computed(batch, partial(ledger.finish, unit=unit))
            self.device = ", ".join(dict.fromkeys(said.device for said in pool.said))
            self.threads = max(said.threads for said in pool.said)
        self.failed = ledger.end()


@dataclass(frozen=True)
class WorkerState:
    """What a worker says of itself: its device, and its threads."""

    device: str
    threads: int


@dataclass(frozen=True)
class _Attributing:
    """Prepares a worker: loads the model's version, and gives what attributes a unit's prompts."""

    source: VersionSource
    settings: AttributionSettings
    threads: int | None

    def __call__(self, beside: int) -> tuple[Callable[[Sequence[EncodedPrompt]], ResultBatch], WorkerState]:
        threads = use_worker_threads(self.threads, beside)
        device = device_for(self.settings.device, self.settings.dtype)
        engine = engine_of(self.source.load(split_of(self.settings, device)), device, self.settings)
        return lambda prompts: joined(engine.run(prompts)), WorkerState(str(device), threads)


def engine_of(loaded: ModelVersion, device: torch.device, settings: AttributionSettings) -> Engine:
    """The engine of a model in memory."""
    network = loaded.loaded.moved(device, find_dtype(settings.dtype).dtype)
    return Engine(network, loaded.loaded.decode, settings)


def joined(batches: Iterable[ResultBatch]) -> ResultBatch:
    """Several batches as one."""
    every = list(batches)
    scores = [batch.scores for batch in every]
    columns = ScoreColumns(
        prompt_ids=[one for part in scores for one in part.prompt_ids],
        layers=[one for part in scores for one in part.layers],
        neurons=[one for part in scores for one in part.neurons],
        scores=[one for part in scores for one in part.scores],
    )
    return ResultBatch(tuple(result for batch in every for result in batch.results), columns)


def units_of(encoded: Sequence[EncodedPrompt], workers: int, batch_size: int | None) -> list[list[int]]:
    """Prompts as units of work, by their numbers.

    Those of a unit are alike in shape, so that it makes full batches. The longest come first: for the last ones, which
    are short, some workers wait.

    Args:
        encoded: the prompts.
        workers: how many there are.
        batch_size: prompts in a batch, if that is set: then a unit is whole batches, but for the last of a shape.
    """
    most = max(MOST_PROMPTS.values())
    size = min(most, max(LEAST, ceil(len(encoded) / (ROUNDS * workers))))
    if batch_size is not None:
        size = batch_size * max(1, round(size / batch_size))
    return [[prompt.prompt_id for prompt in group] for group in by_shape(encoded, size)][::-1]
