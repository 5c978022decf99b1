"""Use cases of fact lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..advice import call, option
from ..errors import InputError, UsageError
from ..exchange.description import described_kind, require_exact
from ..facts import MOST_BYTES as MOST_BYTES
from ..facts import at_most, read
from ..facts import passed_over as passed_over
from ..records.display import Rows
from ..records.facts import Fact, FactFile, IngestReport, Relation, TemplateRecord
from ..store import evaluation_prompts
from ..store import facts as store_facts
from ..store import ingest as store_ingest
from ..store.engine import Store
from ..store.ingest import MOST_PROMPTS as MOST_PROMPTS


class FactCommands:
    """Ingest fact lists; list relations and facts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def ingest(
        self,
        paths: Sequence[str | Path],
        *,
        input_format: str = "auto",
        relations: Sequence[str] = (),
        skip_invalid: bool = False,
        most_bytes: int = MOST_BYTES,
        languages: Sequence[str] = (),
        most_prompts: int = MOST_PROMPTS,
    ) -> IngestReport:
        """Reads fact lists and stores what is new; all of it or nothing.

        Args:
            paths: files or folders.
            input_format: one of `kndb.facts.FORMATS`.
            relations: only these relations' keys; none named means all.
            skip_invalid: leave invalid lines out, and list them, instead of stopping.
            most_bytes: files with more of unpacked text, all together, are refused.
            languages: only these, of lists that are sorted by language; none named means all.
            most_prompts: lists that make more new prompts are refused.

        Raises:
            InputError: for a line that can't be used; nothing is stored.
        """
        files = read_files(paths, input_format, relations, skip_invalid, most_bytes, languages)
        return self.store_files(files, most_prompts)

    def store_files(self, files: Sequence[FactFile], most_prompts: int = MOST_PROMPTS) -> IngestReport:
        """Stores what is new in files that were read already."""
        if most_prompts < 1:
            raise UsageError(f"{option('most_prompts')} must be at least 1 (got {most_prompts})")
        with self._store.writing() as connection:
            return store_ingest.ingest(connection, files, most_prompts)

    def relations(self) -> Rows[Relation]:
        """All relations, by key."""
        with self._store.reading() as connection:
            return Rows(store_facts.relations(connection), Relation)

    def labels(self) -> dict[str, str | None]:
        """Each relation's label, by key, in the order of the keys; None where it has none."""
        with self._store.reading() as connection:
            return store_facts.labels(connection)

    def state(self) -> tuple[int, ...]:
        """What is another once facts or prompts were added: their highest numbers. Counts nothing."""
        with self._store.reading() as connection:
            return store_facts.state(connection)

    def templates(self, relation: str) -> Rows[TemplateRecord]:
        """A relation's templates in the order in which they were added, those that are held out last.

        Raises:
            NotFoundError: if there is no such relation.
        """
        with self._store.reading() as connection:
            return Rows(store_facts.templates(connection, relation), TemplateRecord)

    def find(
        self,
        relations: Sequence[str] = (),
        subject: str | None = None,
        object_: str | None = None,
        limit: int | None = None,
    ) -> Rows[Fact]:
        """Facts of some relations (none named: all) whose subject and object hold the given texts.

        Raises:
            NotFoundError: for a relation that is not in the store.
            UsageError: for a limit under 1.
        """
        if limit is not None and limit < 1:
            raise UsageError(f"{option('limit')} must be at least 1 (got {limit})")
        with self._store.reading() as connection:
            found = store_facts.find_facts(connection, relations, subject, object_, limit)
            counts = evaluation_prompts.counts(connection, [fact.id for fact in found])
            return Rows([replace(fact, evaluation_prompts=counts.get(fact.id, {})) for fact in found], Fact)

    def get(self, fact_id: int) -> Fact:
        """One fact.

        Raises:
            NotFoundError: if there is none of that number.
        """
        with self._store.reading() as connection:
            return store_facts.fact(connection, fact_id)


def read_files(
    paths: Sequence[str | Path],
    input_format: str = "auto",
    relations: Sequence[str] = (),
    skip_invalid: bool = False,
    most_bytes: int = MOST_BYTES,
    languages: Sequence[str] = (),
) -> list[FactFile]:
    """Reads fact lists without storing them; the arguments are those of `FactCommands.ingest`."""
    if most_bytes < 1:
        raise UsageError(f"{option('most_bytes')} must be at least 1 (got {most_bytes})")
    for path in map(Path, paths):
        _require_no_results(path)
    with at_most(most_bytes):
        return [file for path in paths for file in read(Path(path), input_format, relations, skip_invalid, languages)]


def _require_no_results(path: Path) -> None:
    """Refuses what kndb exported of results: their rows name facts, too, and would be taken for a list of them."""
    require_exact(path)
    kind = described_kind(path)
    if kind == "neurons":
        raise InputError(f"{path} holds neurons, not facts; read it with: {call('exchange.import_neurons', [path])}")
    if kind == "scores":
        raise InputError(f"{path} holds scores, not facts; read it with: {call('exchange.import_scores', path)}")
