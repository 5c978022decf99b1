"""The database object: a store, and one namespace for each group of use cases."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..records.maintenance import CheckReport
from ..store.engine import Store, open_store
from ..store.schema import upgrade

if TYPE_CHECKING:
    from .attribution.commands import AttributionCommands
    from .edits.commands import EditCommands
    from .edits.trials import EditTrialCommands
    from .exchange.commands import ExchangeCommands
    from .facts import FactCommands
    from .maintenance import MaintenanceCommands
    from .models import ModelCommands
    from .plots import PlotCommands
    from .probes.commands import ProbeCommands
    from .query.commands import QueryCommands
    from .reports.commands import ReportCommands
    from .testing.commands import KnowledgeTestCommands
    from .versions.checkouts import CheckoutCommands
    from .versions.snapshots import SnapshotCommands

DEFAULT_LOCATION = "kndb.db"
LOCATION_VARIABLE = "KNDB_DB"


def default_location() -> str:
    """Where the database is if nobody says: the environment's KNDB_DB, else `kndb.db` in this folder."""
    return os.environ.get(LOCATION_VARIABLE) or DEFAULT_LOCATION


def open_database(
    location: str | Path | None = None, *, create: bool = True, objects: str | Path | None = None
) -> Database:
    """Opens a database.

    Args:
        location: a path, `sqlite:///PATH` or `postgresql://USER@HOST/NAME` (extra `postgres`); None takes the
            environment's KNDB_DB, else `./kndb.db`.
        create: whether a missing file, or an empty database on a server, becomes a new database.
        objects: the folder of edit objects of a database on a server; None takes the environment's KNDB_OBJECTS. A file
            has its own beside it.

    Raises:
        StoreMissingError: if there is none and `create` is false.
        SchemaVersionError: if its schema is of another revision: `kndb db upgrade`.
        StoreError: if it can't be opened.
    """
    named = location if location is not None else default_location()
    return Database(open_store(named, create=create, objects=objects))


def upgrade_database(location: str | Path) -> str:
    """Brings a database to this kndb's schema revision, all or nothing, and gives the revision.

    Raises:
        StoreMissingError: if there is none.
        SchemaVersionError: if it is newer than this kndb, or no database of kndb's.
    """
    return upgrade(location)


def check_database(location: str | Path, *, repair: bool = False, objects: str | Path | None = None) -> CheckReport:
    """Looks for damage in a database, whatever its schema revision.

    Args:
        location: a path, `sqlite:///PATH` or `postgresql://…`.
        repair: remove files that no edit names, and no count of statistics; nothing else is touched.
        objects: as for `open_database`.

    Raises:
        StoreMissingError: if there is none.
        StoreError: if it can't be read, or is no SQLite database.
    """
    from .maintenance import check

    with Store(location, objects=objects) as store:
        store.backend.require()
        return check(store, repair=repair)


def broken_references(location: str | Path) -> tuple[str, ...]:
    """Names rows of a database that refer to rows which don't exist: those of the tables without results of prompts.

    Args:
        location: a path or `sqlite:///PATH`.

    Raises:
        StoreError: if it can't be read, or is no SQLite database.
    """
    from ..store import maintenance

    with Store(location) as store:
        store.backend.require()
        return maintenance.broken_references(store)


def copy_database(
    source: str | Path,
    target: str | Path,
    *,
    source_objects: str | Path | None = None,
    target_objects: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Copies a store into another database, of the same system or another, with its edit objects.

    The copy is one state of the store, whoever writes meanwhile, and is there whole or not at all; all rows keep their
    numbers. Kept statistics are not copied: they can be counted again.

    Args:
        source: a path, `sqlite:///PATH` or `postgresql://…`.
        target: likewise: a file that is not there yet, or an empty database on a server.
        source_objects: the folder of the source's edit objects, if it is on a server; None takes KNDB_OBJECTS.
        target_objects: the same for the target.
        progress: called with the number of rows that were copied, and of all.

    Returns:
        The number of rows of each table.

    Raises:
        UsageError: if both are one database, or would share a folder of edit objects.
        StoreMissingError: if there is no source.
        StoreError: if the target holds anything, or can't be written.
        StoreDamagedError: if an edit's object is missing or damaged.
    """
    from ..store.backends.finding import backend_at
    from ..store.copying import copy_store

    made = backend_at(target, target_objects)
    with open_store(source, create=False, objects=source_objects) as store:
        return copy_store(store, made, progress)


class Database:
    """An open database; a context manager that closes it.

    Attributes:
        store: the store below.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def __repr__(self) -> str:
        return f"Database({self.store.shown!r})"

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the store's connections."""
        self.store.close()

    @cached_property
    def facts(self) -> FactCommands:
        """Ingest fact lists; list relations and facts."""
        from .facts import FactCommands

        return FactCommands(self.store)

    @cached_property
    def models(self) -> ModelCommands:
        """Register, load and ask checkpoints."""
        from .models import ModelCommands

        return ModelCommands(self.store)

    @cached_property
    def attribution(self) -> AttributionCommands:
        """Attribute prompts and refine scores to knowledge neurons."""
        from .attribution.commands import AttributionCommands

        return AttributionCommands(self.store, self.models)

    @cached_property
    def query(self) -> QueryCommands:
        """Ask which neurons facts and relations share."""
        from .query.commands import QueryCommands

        return QueryCommands(self.store)

    @cached_property
    def probes(self) -> ProbeCommands:
        """Scale or read the activations of knowledge neurons; stored."""
        from .probes.commands import ProbeCommands

        return ProbeCommands(self.store, self.models)

    @cached_property
    def edits(self) -> EditCommands:
        """Plan, apply, revert and evaluate edits."""
        from .edits.commands import EditCommands

        return EditCommands(self.store, self.models)

    @cached_property
    def trials(self) -> EditTrialCommands:
        """Try edits of many facts in memory: a bench, or a sweep over settings."""
        from .edits.trials import EditTrialCommands

        return EditTrialCommands(self.store, self.models)

    @cached_property
    def tests(self) -> KnowledgeTestCommands:
        """Run knowledge tests on versions, make them from edits, find the step that broke one."""
        from .testing.commands import KnowledgeTestCommands

        return KnowledgeTestCommands(self.store, self.models)

    @cached_property
    def snapshots(self) -> SnapshotCommands:
        """Name versions, go back to them, export them."""
        from .versions.snapshots import SnapshotCommands

        return SnapshotCommands(self.store, self.models)

    @cached_property
    def checkouts(self) -> CheckoutCommands:
        """Make working copies of a checkpoint, and switch them between versions in place."""
        from .versions.checkouts import CheckoutCommands

        return CheckoutCommands(self)

    @cached_property
    def exchange(self) -> ExchangeCommands:
        """Import results of others; export the store's own, and import them elsewhere."""
        from .exchange.commands import ExchangeCommands

        return ExchangeCommands(self.store)

    @cached_property
    def plots(self) -> PlotCommands:
        """Draw figures of what queries and probes find."""
        from .plots import PlotCommands

        return PlotCommands(self)

    @cached_property
    def reports(self) -> ReportCommands:
        """Write a model's report: one HTML file."""
        from .reports.commands import ReportCommands

        return ReportCommands(self)

    @cached_property
    def maintenance(self) -> MaintenanceCommands:
        """Check, back up and describe the store."""
        from .maintenance import MaintenanceCommands

        return MaintenanceCommands(self.store)

    def load_model(self, name: str, version: str = "current") -> Any:
        """The transformers model of a registered name, patched to a version; the base checkpoint stays as it is.

        Args:
            name: a registered model, or a lab model.
            version: `current`, `base`, a version id or an unambiguous start of one, or a snapshot's name.

        Raises:
            NotFoundError: if there is no such model or version.
            FingerprintError: if the checkpoint's files changed since it was registered.
        """
        return self.models.load(name, version).model
