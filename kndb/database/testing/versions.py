"""One model in memory that is taken from version to version: the checkpoint is loaded once, and edits are stepped over.

Every byte that a step touches is compared with what the edit expects. Nothing of the store, and no working copy, moves.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from ...analysis.knowledge_tests import AskedAnswers, read_answers
from ...editing.objects import diff_file
from ...models import loading
from ...records.knowledge_tests import KnowledgeRun, KnowledgeTest
from ...records.progress import Progress
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ...store.edits.allowed_steps import way
from ...store.engine import Store
from ..edits.objects import step_in_memory
from ..models import ModelCommands
from .questions import AskedTest, asked_tests, questions_of
from .verdicts import outcome_of


class TestedModel:
    """A model in memory, at one of its versions, that can be asked tests.

    Args:
        store: the store.
        models: loads the checkpoint.
        model: a registered model.
        version: the version to begin with.
        device: where to compute.
    """

    __test__ = False

    def __init__(self, store: Store, models: ModelCommands, model: str, version: str, device: str) -> None:
        chosen = loading.choose_device(device)
        self._store = store
        self._version = models.load(model, version)
        self._edits = self._edits_of(self._version.version)
        self._version.model.to(chosen)
        self._parameters: dict[str, torch.Tensor] = dict(self._version.model.named_parameters())
        self.version = self._version.version

    @property
    def name(self) -> str:
        """The model's name."""
        return self._version.record.name

    def asked(self, tests: Sequence[KnowledgeTest]) -> list[AskedTest]:
        """Tests as the model is asked them, at any version."""
        with self._store.reading() as connection:
            return asked_tests(connection, self._version.encoder, tests)

    def go(self, version: str) -> None:
        """Takes the model to another version.

        Args:
            version: its whole id.

        Raises:
            NotFoundError: if the model has none of this id.
            EditError: if the weights are not those that the store says.
            DiffFileError: if an edit's object is damaged or missing.
        """
        wanted = self._edits_of(version)
        for number, action in way(self._edits, wanted):
            with self._store.reading() as connection:
                edit = store_edits.edit(connection, number)
            content = diff_file.read(self._store.objects, edit.object_path, edit.object_hash)
            step_in_memory(self._parameters, self._version.record.fingerprint, content, reverse=action == "revert")
        self._edits, self.version = wanted, version

    def run(self, tests: Sequence[AskedTest], asked_as: str, progress: Progress | None = None) -> KnowledgeRun:
        """Asks tests at the version that the model is at."""
        started = time.perf_counter()
        prompts = [
            AskedAnswers(prompt.open, tuple(prompt.encoded.values()))
            for prompt in questions_of(tests)
            if prompt.open is not None
        ]
        readings = iter(read_answers(self._version.network, prompts, progress))
        texts = self._version.encoder.texts
        outcomes = tuple(outcome_of(test, readings, texts) for test in tests)
        return KnowledgeRun(self.name, self.version, asked_as, outcomes, time.perf_counter() - started)

    def _edits_of(self, version: str) -> list[int]:
        with self._store.reading() as connection:
            return store_versions.version_edits(connection, self._version.record.id, version)
