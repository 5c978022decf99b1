"""Writing a run's batches: the run is there from its first batch on, so one that can't be computed leaves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...models.prompting import Skipped
from ...records.attribution import PromptResult, ResultBatch
from ...records.models import StoredSettings
from ...store import runs as store_runs
from ...store.engine import Store
from .computing import Computed, Note

_SKIPPED_AT_ONCE = 5000


@dataclass(frozen=True)
class RunIdentity:
    """What makes two runs the same one."""

    model_id: int
    version: str
    method: str
    settings: StoredSettings


class RunSaver:
    """Saves a run's batches.

    Args:
        store: where to.
        identity: of the run, which may be there already.
        skipped: prompts that can't be asked; written when the run is opened.
        facts: facts that are chosen for the run.
    """

    def __init__(self, store: Store, identity: RunIdentity, skipped: Sequence[Skipped], facts: Sequence[int]) -> None:
        self._store = store
        self._identity = identity
        self._skipped = skipped
        self._facts = facts
        self._run_id: int | None = None

    def open(self) -> int:
        """The run's number; starts it, notes its facts and saves its skipped prompts, if that is still to be done."""
        if self._run_id is None:
            one = self._identity
            with self._store.writing() as connection:
                run, _ = store_runs.start_run(connection, one.model_id, one.version, one.method, one.settings)
                store_runs.choose_facts(connection, run.id, self._facts)
            self._run_id = run.id
            for start in range(0, len(self._skipped), _SKIPPED_AT_ONCE):
                part = self._skipped[start : start + _SKIPPED_AT_ONCE]
                self._write(ResultBatch(tuple(PromptResult(one.prompt_id, skipped=one.reason) for one in part)), run.id)
        return self._run_id

    def save(self, computed: Computed) -> None:
        """Writes one batch in a transaction of its own, and that its unit of work is done."""
        self._write(computed.batch, self.open(), computed.note)

    def _write(self, batch: ResultBatch, run_id: int, note: Note | None = None) -> None:
        with self._store.writing() as connection:
            store_runs.save_results(connection, run_id, batch)
            if note is not None:
                note(connection)
