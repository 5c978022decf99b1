"""Which step of a model's history broke knowledge tests: by halving it, or by asking each of its versions.

A search takes for granted that tests which passed and then broke did not pass again on the way. What it reports it has
seen in any case: the tests pass right before the step, and fail right after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...advice import Placeholder, call
from ...errors import KnowledgeTestError
from ...records.display import many
from ...records.knowledge_tests import (
    FAILED,
    PASSED,
    BisectReport,
    HistoryMatrix,
    KnowledgeRun,
    KnowledgeTest,
    require_distinct,
)
from ...records.progress import Progress
from ...store.engine import Store
from ..models import ModelCommands
from .history import described, stretch
from .questions import AskedTest
from .versions import TestedModel

_FILE = Placeholder("FILE")


@dataclass
class _Probes:
    """The runs of tests on versions; each version is asked once."""

    tested: TestedModel
    tests: Sequence[AskedTest]
    expected: int
    progress: Progress | None
    runs: dict[str, KnowledgeRun] = field(default_factory=dict)

    def at(self, version: str) -> KnowledgeRun:
        """What the tests find at a version."""
        if version not in self.runs:
            self.tested.go(version)
            self.runs[version] = self.tested.run(self.tests, version)
            if self.progress is not None:
                self.progress(len(self.runs), max(self.expected, len(self.runs)))
        return self.runs[version]

    def fails(self, version: str, names: frozenset[str]) -> bool:
        """Whether one of these tests does not pass at a version."""
        return any(one.status != PASSED for one in self.at(version).outcomes if one.name in names)


def bisect(
    store: Store,
    models: ModelCommands,
    model: str,
    tests: Sequence[KnowledgeTest],
    good: str,
    bad: str,
    device: str,
    progress: Progress | None,
) -> BisectReport:
    """Finds the step that broke tests by halving; see `KnowledgeTestCommands.bisect`."""
    require_distinct(tests)
    record = models.get(model)
    found = stretch(store, record, good, bad)
    tested = TestedModel(store, models, model, found.versions[0], device)
    probes = _Probes(tested, tested.asked(tests), 2 + (len(found.entries) - 1).bit_length(), progress)
    before = probes.at(found.versions[0])
    passing = _passing(before, good, model)
    broken = _broken(probes.at(found.versions[-1]), passing, good, bad, model)
    low, high = 0, len(found.versions) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if probes.fails(found.versions[middle], broken):
            high = middle
        else:
            low = middle
    after = probes.at(found.versions[high])
    here = tuple(one for one in after.outcomes if one.name in broken and one.status != PASSED)
    with store.reading() as connection:
        step = described(connection, found.entries[high - 1], found.actions[high - 1])
    return BisectReport(
        model=model,
        good=found.versions[0],
        bad=found.versions[-1],
        step=step,
        broken=here,
        broke_later=tuple(test.name for test in tests if test.name in broken - {one.name for one in here}),
        left_out=tuple(one.name for one in before.outcomes if one.name not in passing),
        steps=len(found.entries),
        probes=len(probes.runs),
    )


def _passing(run: KnowledgeRun, good: str, model: str) -> frozenset[str]:
    passing = frozenset(one.name for one in run.outcomes if one.status == PASSED)
    if not passing:
        raise KnowledgeTestError(
            f"none of {many(len(run.outcomes), 'test')} passes at {good} ({run.version}), where the search begins: "
            f"{_first(run)}. Name a version at which they pass; see what they find at one with: "
            f"{call('tests.run', model=model, tests=_FILE, versions=[good])}"
        )
    return passing


def _broken(run: KnowledgeRun, passing: frozenset[str], good: str, bad: str, model: str) -> frozenset[str]:
    broken = frozenset(one.name for one in run.outcomes if one.name in passing and one.status == FAILED)
    if not broken:
        raise KnowledgeTestError(
            f"no test broke: all {len(passing)} that pass at {good} pass at {bad} ({run.version}), too. What became of "
            f"them on the way: {call('tests.walk', model=model, tests=_FILE, good=good, bad=bad)}"
        )
    return broken


def _first(run: KnowledgeRun) -> str:
    outcome = run.outcomes[0]
    return f"{outcome.name}: {outcome.why}"


def walk(
    store: Store,
    models: ModelCommands,
    model: str,
    tests: Sequence[KnowledgeTest],
    good: str,
    bad: str,
    device: str,
    progress: Progress | None,
) -> HistoryMatrix:
    """Runs tests at each version of a stretch of a history; see `KnowledgeTestCommands.walk`."""
    require_distinct(tests)
    found = stretch(store, models.get(model), good, bad, whole=True)
    tested = TestedModel(store, models, model, found.versions[0], device)
    probes = _Probes(tested, tested.asked(tests), len(set(found.versions)), progress)
    runs = [probes.at(version) for version in found.versions]
    with store.reading() as connection:
        steps = [described(connection, *one) for one in zip(found.entries, found.actions, strict=True)]
    return HistoryMatrix(
        model=model,
        versions=found.versions,
        steps=tuple(steps),
        names=tuple(test.name for test in tests),
        statuses=tuple(tuple(run.outcomes[place].status for run in runs) for place in range(len(tests))),
        probes=len(probes.runs),
    )
