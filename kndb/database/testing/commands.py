"""`db.tests`: run knowledge tests, make them from edits, and find the step of a history that broke one.

Imports no torch until a model is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...advice import option
from ...content import MOST_BYTES, at_most, require_seekable
from ...errors import InputError, OutputError, UsageError
from ...exchange import junit
from ...exchange import knowledge_tests as test_files
from ...facts.detection import table_delimiter
from ...records.display import Rows
from ...records.knowledge_tests import (
    BisectReport,
    HistoryMatrix,
    KnowledgeRun,
    KnowledgeTest,
    WrittenTests,
    require_distinct,
)
from ...records.progress import Progress
from ...store.engine import Store
from ..models import ModelCommands

Tests = str | Path | Sequence[KnowledgeTest]
"""A file of tests, or tests."""


class KnowledgeTestCommands:
    """Run knowledge tests, make them from edits, and find what broke them."""

    def __init__(self, store: Store, models: ModelCommands) -> None:
        self._store = store
        self._models = models

    def read(self, path: str | Path, *, most_bytes: int = MOST_BYTES) -> Rows[KnowledgeTest]:
        """Reads a file of tests: JSON lines, or a table with a header (CSV or TSV), gzipped or not.

        Args:
            path: the file; `kndb docs knowledge-tests` says what it holds.
            most_bytes: a file with more of unpacked text is refused.

        Raises:
            InputError: if it can't be read, has no test, or a row is none; each such row is in `rejected`.
        """
        path = Path(path)
        if not path.is_file() and not path.exists():
            raise InputError(f"{path}: there is no such file")
        if path.is_dir():
            raise InputError(f"{path}: this is a folder; name a file of tests")
        if most_bytes < 1:
            raise UsageError(f"{option('most_bytes')} must be at least 1 (got {most_bytes})")
        require_seekable(path, named=False)
        with at_most(most_bytes):
            return Rows(test_files.read(path, table_delimiter(path, test_files.FIELDS)), KnowledgeTest)

    def run(
        self,
        model: str,
        tests: Tests,
        *,
        versions: Sequence[str] = ("current",),
        device: str = "auto",
        progress: Progress | None = None,
    ) -> Rows[KnowledgeRun]:
        """Runs tests on each of some versions of a model: in memory, whatever version is the current one.

        Args:
            model: a registered model, or a lab model.
            tests: a file (see `read`), or tests.
            versions: each `current`, `base`, a version id or an unambiguous start of one, or a snapshot's name.
            device: where to compute.
            progress: told how many questions were asked on a version, and how many there are.

        Returns:
            A run for each version, in order. A test that fails is no error: look at `ok`, or at `outcomes`.

        Raises:
            InputError: if the file is not one of tests.
            NotFoundError: if there is no such model or version.
            UsageError: if there is no test or no version, or two tests share a name.
        """
        from .running import run

        if isinstance(versions, str):
            raise UsageError(f"versions must be a list, such as [{versions!r}] (got the text {versions!r})")
        return run(self._store, self._models, model, self._tests(tests), versions, device, progress)

    def of_edits(
        self,
        model: str,
        *,
        version: str = "current",
        neighbours: int = 2,
        seed: int = 0,
        device: str = "auto",
        progress: Progress | None = None,
    ) -> WrittenTests:
        """Makes tests from the edits of a version, all of which pass on it.

        Each prompt of an edited fact, held-out ones included, must be answered with the fact's new answer; and other
        facts of the same relations, drawn at random among those that the model answers rightly, with their objects.

        Args:
            model: a registered model.
            version: as for `run`.
            neighbours: how many such other facts for each edited one, at least 0.
            seed: of the draw.
            device: where to compute.
            progress: told how many questions were asked, and how many there are.

        Returns:
            The tests, and in words what is not among them.

        Raises:
            UsageError: if the version has no edit, or `neighbours` is negative.
            NotFoundError: if there is no such model or version.
        """
        from .from_edits import tests_of_edits

        return tests_of_edits(self._store, self._models, model, version, neighbours, seed, device, progress)

    def write(self, path: str | Path, tests: Sequence[KnowledgeTest], *, force: bool = False) -> None:
        """Writes tests to a file that `read` reads: JSON lines, the whole file or nothing.

        Args:
            path: the file to make.
            tests: at least one.
            force: replace a file that is there.

        Raises:
            UsageError: if there is no test, or two share a name.
            OutputError: if it can't be written, or is there already.
        """
        path = Path(path)
        require_distinct(tests)
        if path.exists() and not force:
            raise OutputError(f"{path} is there already; name another file, or replace it with {option('force', True)}")
        test_files.write(path, list(tests))

    def write_junit(self, path: str | Path, runs: Sequence[KnowledgeRun]) -> None:
        """Writes runs as JUnit's XML, a test suite for each; replaces a file that is there.

        Raises:
            OutputError: if it can't be written.
        """
        junit.write(Path(path), runs)

    def bisect(
        self,
        model: str,
        tests: Tests,
        *,
        good: str = "base",
        bad: str = "current",
        device: str = "auto",
        progress: Progress | None = None,
    ) -> BisectReport:
        """Finds the step of a model's history that broke tests, by halving: ⌈log₂ n⌉ + 2 versions are asked at most.

        The tests are those that pass at `good` and fail at `bad`. The model is loaded once, and taken from version to
        version in memory.

        Args:
            model: a registered model.
            tests: a file (see `read`), or tests.
            good: a version at which tests pass; as for `run`.
            bad: a later one of the model's history, at which some of them fail.
            device: where to compute.
            progress: told how many versions were asked, and how many may be.

        Raises:
            KnowledgeTestError: if no test passes at `good`, or none of those fails at `bad`.
            UsageError: if `bad` does not come after `good` in the history, or has the same weights.
            NotFoundError: if there is no such model or version.
        """
        from .bisect import bisect

        return bisect(self._store, self._models, model, self._tests(tests), good, bad, device, progress)

    def walk(
        self,
        model: str,
        tests: Tests,
        *,
        good: str = "base",
        bad: str = "current",
        device: str = "auto",
        progress: Progress | None = None,
    ) -> HistoryMatrix:
        """Runs tests at each version of a stretch of a model's history; see `bisect`, which asks far fewer.

        The stretch begins where the history was first at `good`, and ends where it was last at `bad`.

        Raises:
            UsageError: if `bad` does not come after `good` in the history.
            NotFoundError: if there is no such model or version.
        """
        from .bisect import walk

        return walk(self._store, self._models, model, self._tests(tests), good, bad, device, progress)

    def _tests(self, tests: Tests) -> Sequence[KnowledgeTest]:
        return self.read(tests) if isinstance(tests, (str, Path)) else tests
