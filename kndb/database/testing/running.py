"""Running knowledge tests on versions of a model."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import UsageError
from ...records.display import Rows
from ...records.knowledge_tests import KnowledgeRun, KnowledgeTest, require_distinct
from ...records.progress import Progress
from ...store.engine import Store
from ..models import ModelCommands
from .versions import TestedModel


def run(
    store: Store,
    models: ModelCommands,
    model: str,
    tests: Sequence[KnowledgeTest],
    versions: Sequence[str],
    device: str,
    progress: Progress | None,
) -> Rows[KnowledgeRun]:
    """Runs tests on each of some versions; see `KnowledgeTestCommands.run`."""
    require_distinct(tests)
    if not versions:
        raise UsageError("there is no version to test; name at least one, such as 'current'")
    # All of them, before a model is loaded.
    resolved = [models.resolve_version(model, version) for version in versions]
    tested = TestedModel(store, models, model, resolved[0], device)
    asked = tested.asked(tests)
    runs = []
    for version, asked_as in zip(resolved, versions, strict=True):
        tested.go(version)
        runs.append(tested.run(asked, asked_as, progress))
    return Rows(runs, KnowledgeRun)
