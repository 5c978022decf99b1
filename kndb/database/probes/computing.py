"""Who computes an experiment: this process, or workers. Both measure the same questions with the same code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch

from ...analysis.interventions import NeuronQuestion
from ...models.device_maps import split_of
from ...models.devices import device_for
from ...models.dtypes import find_dtype
from ...models.network import Network
from ...models.prompting import EncodedPrompt, Encoder
from ...records.models import Model, Neuron
from ...records.probes import ProbeFact
from ...records.progress import Progress
from ...records.work import WorkEngine
from ...store.engine import Store
from ...work.cluster import require_ray
from ..models import ModelCommands, ModelVersion, VersionSource
from ..threads import use_worker_threads
from ..units import Compute, ItemWork, Remote, computed
from .choices import Choice
from .scaling import FACTS_AT_ONCE, ArmQuestions, Scaling
from .settings import ProbeSettings
from .texts import TEXTS_AT_ONCE, read


class Prober:
    """Measures the questions of an experiment on a model's version.

    The weights are loaded here, unless workers compute: then only the tokenizer is.

    Attributes:
        record: what the store knows of the model; `encoder`: prompts to token ids.
        device: where it is computed: of workers, as the user named it.

    Args:
        store: where the units of workers are kept.
        models: loads models.
        choice: the version, and the refinements.
        settings: how to compute.
        engine: who computes; None is this process.
    """

    record: Model
    encoder: Encoder

    def __init__(
        self, store: Store, models: ModelCommands, choice: Choice, settings: ProbeSettings, engine: WorkEngine | None
    ) -> None:
        self._store, self._settings, self._engine = store, settings, engine
        self._loaded: ModelVersion | None = None
        self._source: VersionSource | None = None
        self.work: str | None = None
        model = choice.refinement.model
        if engine is not None and engine.remote:
            require_ray()
            self.device = settings.device
            self._source = models.source(model, choice.version)
            self.record, self.encoder = self._source.record, self._source.encoder()
        else:
            device = device_for(settings.device, settings.dtype)
            self.device = str(device)
            self._loaded = models.load(model, choice.version, split=split_of(settings, device))
            self.record, self.encoder = self._loaded.record, self._loaded.encoder

    def scale(
        self,
        facts: Sequence[Sequence[ArmQuestions]],
        names: Sequence[str],
        factor: float,
        progress: Progress | None,
    ) -> list[list[ProbeFact]]:
        """What comes of the questions of each fact."""
        asked = [
            [(group.fact.id, group.arm, _named(group.fact.arms[group.arm]), _asked(group.prompts)) for group in groups]
            for groups in facts
        ]
        measure = _Scaling(factor, self._settings.batch_size)
        found = self._measured(measure, ("scale", factor), facts, asked, names, "fact", FACTS_AT_ONCE, progress)
        return [[ProbeFact(*values) for values in of_fact] for of_fact in found]

    def read(self, questions: Sequence[NeuronQuestion], names: Sequence[str], progress: Progress | None) -> list[float]:
        """The mean activation of each question's neurons."""
        asked = [(_asked([question.prompt]), _named(question.neurons)) for question in questions]
        measure = _Reading(self._settings.batch_size)
        return self._measured(measure, ("read",), questions, asked, names, "text", TEXTS_AT_ONCE, progress)

    def _measured(
        self,
        measure: Measure,
        what: Sequence[object],
        questions: Sequence[Any],
        asked: Sequence[object],
        names: Sequence[str],
        kind: str,
        most: int,
        progress: Progress | None,
    ) -> list[Any]:
        decides = [*what, self.record.fingerprint, self._version, self._settings.dtype]
        self.work = f"probe {_digest([decides, *asked])}"
        work = ItemWork(
            self.work,
            len(questions),
            kind,
            names.__getitem__,
            lambda items: [questions[item] for item in items],
            most,
        )
        remote = None
        if self._source is not None and self._engine is not None:
            prepare = _Probing(self._source, self._settings, measure, self._engine.threads)
            remote = Remote(self._engine, prepare, self._settings.device)
        found = computed(self._store, work, lambda: self._own(measure), remote, progress)
        if remote is not None and remote.said:
            self.device = ", ".join(dict.fromkeys(remote.said))
        return found

    @property
    def _version(self) -> str:
        found = self._loaded or self._source
        assert found is not None, "one of them is there"
        return found.version

    def _own(self, measure: Measure) -> Compute:
        assert self._loaded is not None, "this process computes with weights of its own"
        return computing(self._loaded, device_for(self._settings.device, self._settings.dtype), self._settings, measure)


@dataclass(frozen=True)
class _Scaling:
    """Measures facts with their neurons' activations scaled."""

    factor: float
    batch_size: int | None

    def __call__(self, network: Network) -> Compute:
        scaling = Scaling(network, self.factor, self.batch_size)
        return lambda facts: [[list(astuple(row)) for row in rows] for rows in scaling.measure(facts)]


@dataclass(frozen=True)
class _Reading:
    """Reads the activations of neurons."""

    batch_size: int | None

    def __call__(self, network: Network) -> Compute:
        return lambda questions: read(network, questions, self.batch_size)


Measure = Callable[[Network], Compute]
"""Gives, for a network, what measures questions."""


@dataclass(frozen=True)
class _Probing:
    """Prepares a worker: loads the model's version, and gives what measures a unit's questions."""

    source: VersionSource
    settings: ProbeSettings
    measure: Measure
    threads: int | None

    def __call__(self, beside: int) -> tuple[Compute, str]:
        use_worker_threads(self.threads, beside)
        device = device_for(self.settings.device, self.settings.dtype)
        loaded = self.source.load(split_of(self.settings, device))
        return computing(loaded, device, self.settings, self.measure), str(device)


def computing(loaded: ModelVersion, device: torch.device, settings: ProbeSettings, measure: Measure) -> Compute:
    """What measures questions with a model in memory, in the settings' dtype."""
    dtype = find_dtype(settings.dtype)
    ready = measure(loaded.loaded.moved(device, dtype.dtype))

    def compute(questions: Any) -> Sequence[Any]:
        with dtype.computing():
            return ready(questions)

    return compute


def _named(neurons: Sequence[Neuron]) -> list[tuple[int, int]]:
    return [(neuron.layer, neuron.index) for neuron in neurons]


def _asked(prompts: Sequence[EncodedPrompt]) -> list[tuple[object, ...]]:
    return [(prompt.ids, prompt.source, prompt.position, prompt.answer) for prompt in prompts]


def _digest(parts: Sequence[object]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(json.dumps(part).encode())
    return digest.hexdigest()
