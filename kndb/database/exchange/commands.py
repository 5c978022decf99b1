"""Use cases of exchange: results of others into the store, and the store's own out of it and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...advice import Placeholder, option
from ...content import MOST_BYTES as MOST_BYTES
from ...content import at_most, require_size
from ...errors import InputError, UsageError
from ...exchange import eleutherai, neuron_csv, neuron_tables
from ...exchange.description import description_path
from ...exchange.description import read as read_description
from ...exchange.sets import NeuronSet, Sizes
from ...files import sha256
from ...records.attribution import IMPORTED, RefinementChoice
from ...records.facts import IngestReport
from ...records.models import Model
from ...records.progress import Progress
from ...store import exchange as store_exchange
from ...store import facts as store_facts
from ...store import models as store_models
from ...store import runs as store_runs
from ...store.clock import now
from ...store.engine import Store
from ...store.exchange import Transaction
from ...store.fact_index import fact_index
from . import exports
from . import facts as import_facts
from . import neurons as import_neurons
from . import own as import_own
from .exports import Export

NEURON_FORMATS = ("auto", "eleutherai", "csv", "kndb")
"""What files of neurons can be; `auto` goes by what they look like."""

FACTS_BY = ("external-id", "number")
"""How a CSV file of neurons may name facts."""

_OWN_SETTINGS = ("source", "files", "imported")
_CHANGED_NEURONS = (
    f"Export it again; or import a CSV file as one of others: {option('input_format', 'csv')} and "
    f"{option('model_name', Placeholder('NAME'))}"
)


@dataclass(frozen=True)
class ScoreImport:
    """What an import of scores did.

    Attributes:
        run: the run that holds the results.
        model: the model's name.
        prompts: prompts whose results were added; `scores`: their scores.
        present: prompts that had a result in the run before, which stays.
        unjoined: facts in the file that the store lacks: left out.
        missing_prompts: prompts in the file that the store lacks, of facts that it has: left out.
        already_there: whether nothing was added.
    """

    run: int
    model: str
    prompts: int
    scores: int
    present: int
    unjoined: tuple[str, ...]
    missing_prompts: tuple[str, ...]
    already_there: bool


@dataclass(frozen=True)
class NeuronImport:
    """What an import of neurons did.

    Attributes:
        refinement: the refinement that holds the sets; `run` is its run.
        model: the model's name.
        facts: facts with a set in the files, empty ones included; `neurons`: (fact, neuron) pairs.
        unjoined: names in the files that no fact of the store has: left out.
        superseded: names of facts that another name in the files stood for first, with another set: left out.
        already_there: whether the store had all of it; then nothing was written.
    """

    refinement: int
    run: int
    model: str
    facts: int
    neurons: int
    unjoined: tuple[str, ...]
    superseded: tuple[str, ...]
    already_there: bool


class ExchangeCommands:
    """Import results of others; export the store's own, and import them elsewhere."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def import_neurons(
        self,
        paths: Sequence[str | Path],
        *,
        input_format: str = "auto",
        model_name: str | None = None,
        layers: int | None = None,
        neurons: int | None = None,
        facts_by: str = "external-id",
        settings: Mapping[str, object] | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> NeuronImport:
        """Stores sets of knowledge neurons that were found elsewhere as a refinement; all of them or nothing.

        The same files with the same settings again add nothing, unless the store has more of their facts by now: then
        there is a further refinement of the same run.

        Args:
            paths: the files, one or more.
            input_format: one of `NEURON_FORMATS`.
            model_name: the model that they are about: a registered one, or one that is then known by its results
                alone. Files of kndb's own name it themselves.
            layers: the model's layers; needed for a model that the store does not have.
            neurons: FFN neurons per layer; likewise.
            facts_by: one of `FACTS_BY`; `number` is for CSV only.
            settings: what is known of how the sets were made, for example `{"threshold": 0.3}`.
            most_bytes: a file with more of unpacked text is refused.

        Raises:
            UsageError: for options that make no sense.
            InputError: if a file is not what it should be.
            NotFoundError: if the store has none of the facts.
            ModelError: if the model has other sizes.
        """
        files = [Path(path) for path in paths]
        if not files:
            raise UsageError("name at least one file to import")
        for path in files:
            if not path.exists():
                raise InputError(f"{path}: there is no such file of neurons")
        with _bounded(files, most_bytes):
            return self._import_neurons(files, input_format, model_name, (layers, neurons), facts_by, settings or {})

    def _import_neurons(
        self,
        files: Sequence[Path],
        input_format: str,
        model_name: str | None,
        sizes_given: tuple[int | None, int | None],
        facts_by: str,
        settings: Mapping[str, object],
    ) -> NeuronImport:
        if facts_by not in FACTS_BY:
            raise UsageError(f"{option('facts_by')} must be one of {', '.join(FACTS_BY)} (got {facts_by})")
        chosen = _chosen_format(files, input_format)
        if facts_by == "number" and chosen != "csv":
            raise UsageError(f"{option('facts_by', 'number')} is for CSV files (the format is {chosen})")
        if chosen == "kndb":
            if sizes_given != (None, None) or settings:
                options = f"{option('layers')}, {option('neurons')} and {option('settings')}"
                raise UsageError(f"files of kndb's own say how they were made; leave out {options}")
            return self._import_own_neurons(import_own.require_one(list(files), "kndb's own"), model_name)
        if model_name is None:
            raise UsageError(
                f"say which model the files are about, for example: {option('model_name', 'bert-base-uncased')}"
            )
        given = _checked_settings(settings)
        sizes = self._sizes(model_name, *sizes_given)
        if chosen == "csv":
            sets = neuron_csv.read_files(files, sizes, by_number=facts_by == "number")
        else:
            sets = eleutherai.read_files(files, sizes)
        described = {
            "source": chosen,
            "files": [{"name": path.name, "sha256": sha256(path)} for path in files],
            **given,
        }
        with self._store.writing() as connection:
            model = store_models.add_imported_model(
                connection, name=model_name, layers=sizes.layers, neurons=sizes.neurons
            )
            return _store_foreign(connection, model, sets, described, {"imported": True, **given})

    def _import_own_neurons(self, path: Path, model_name: str | None) -> NeuronImport:
        description = read_description(path, "neurons", _CHANGED_NEURONS)
        assert description.model is not None
        assert description.run is not None
        assert description.refinement is not None
        sets = neuron_tables.read_file(path, Sizes(description.model.layers, description.model.neurons))
        with self._store.writing() as connection, import_own.sound_rows(connection, path):
            model = import_own.target_model(connection, description.model, model_name)
            relations = {relation.key: relation.id for relation in store_facts.relations(connection)}
            found, unjoined = import_own.described_sets(fact_index(connection), description, sets, relations)
            run_id, _ = import_own.target_run(connection, model, description.run)
            refinement, already_there = store_exchange.store_sets(
                connection, run_id, description.refinement.settings, found, description.refinement.created_at
            )
        return NeuronImport(
            refinement=refinement,
            run=run_id,
            model=model.name,
            facts=sum(outcome.facts for _, outcome, _ in found),
            neurons=sum(len(rows) for _, _, rows in found),
            unjoined=unjoined,
            superseded=(),
            already_there=already_there,
        )

    def import_scores(
        self,
        path: str | Path,
        *,
        model_name: str | None = None,
        progress: Progress | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> ScoreImport:
        """Stores the run, results and scores of a file that `kndb export scores` wrote; all of it or nothing.

        A run of the same model, version, method and settings gets the results that it lacks and keeps its own.

        Args:
            path: the file, with its description beside it.
            model_name: another name for the model.
            progress: told of the rows read.
            most_bytes: a file with more of unpacked text is refused.

        Raises:
            InputError: if the file or its description is not what was exported.
            NotFoundError: if the store has none of the prompts.
            ModelError: if the store's model of that name is another one.
        """
        file = Path(path)
        with _bounded([file], most_bytes):
            return self._import_scores(file, model_name, progress)

    def _import_scores(self, file: Path, model_name: str | None, progress: Progress | None) -> ScoreImport:
        description = read_description(file, "scores", "Export it again")
        assert description.model is not None
        assert description.run is not None
        sizes = Sizes(description.model.layers, description.model.neurons)
        with self._store.writing() as connection, import_own.sound_rows(connection, file):
            model = import_own.target_model(connection, description.model, model_name)
            run_id, _ = import_own.target_run(connection, model, description.run)
            before = store_runs.run(connection, run_id)
            reader = import_own.ScoreReader(connection, run_id, fact_index(connection))
            reader.read(file, sizes, description.rows, progress)
            if not reader.results and not reader.present:
                raise import_neurons.nothing_joined(reader.unjoined or reader.missing)
            if reader.results:
                store_exchange.close_run(connection, before, description.run.status, description.run.finished_at)
                store_runs.choose_facts_of_results(connection, run_id)
                import_own.require_fitting_errors(connection, run_id, file)
        return ScoreImport(
            run=run_id,
            model=model.name,
            prompts=reader.results,
            scores=reader.scores,
            present=reader.present,
            unjoined=tuple(reader.unjoined),
            missing_prompts=tuple(reader.missing),
            already_there=not reader.results,
        )

    def export_neurons(
        self,
        to: str | Path,
        *,
        refinement: RefinementChoice = None,
        run: int | None = None,
        model: str | None = None,
        relations: Sequence[str] = (),
        force: bool = False,
        safe_csv: bool = False,
    ) -> Export:
        """Writes the sets of a refinement to a file, and beside it the description that `import_neurons` reads.

        Args:
            to: the file, `.csv`, `.jsonl` or `.parquet`.
            refinement: which one; see `QueryCommands.choose`.
            run: the newest refinement of this run.
            model: only refinements of this model.
            relations: only these relations' keys; none named means all.
            force: replace a file that is there.
            safe_csv: write CSV for spreadsheets, without formulas; nothing reads it back.

        Raises:
            UsageError: if the file can't be made, or both `refinement` and `run` are named.
            NotFoundError: if there is no such refinement, or it has nothing of a relation named.
        """
        exports.require_free(Path(to), force=force, safe_csv=safe_csv)
        return exports.export_neurons(self._store, Path(to), refinement, run, model, relations, safe_csv=safe_csv)

    def export_scores(
        self,
        to: str | Path,
        *,
        run: int | None = None,
        model: str | None = None,
        relations: Sequence[str] = (),
        force: bool = False,
        safe_csv: bool = False,
        progress: Progress | None = None,
    ) -> Export:
        """Writes the results and scores of a run to a file, and beside it the description that `import_scores` reads.

        Args:
            to: the file, `.csv`, `.jsonl` or `.parquet`.
            run: which run; by default the newest that was attributed, of `model` if one is named.
            model: the newest of this model.
            relations: only these relations' keys; none named means all.
            force: replace a file that is there.
            safe_csv: write CSV for spreadsheets, without formulas; nothing reads it back.
            progress: told of the rows written.

        Raises:
            UsageError: if the file can't be made.
            NotFoundError: if there is no such run, or it has no results.
        """
        exports.require_free(Path(to), force=force, safe_csv=safe_csv)
        return exports.export_scores(self._store, Path(to), run, model, relations, progress, safe_csv=safe_csv)

    def export_facts(
        self, to: str | Path, *, relations: Sequence[str] = (), force: bool = False, safe_csv: bool = False
    ) -> Export:
        """Writes templates and facts to a file, as an own list that `kndb ingest` (Parquet: `import_facts`) reads.

        Args:
            to: the file, `.csv`, `.jsonl` or `.parquet`.
            relations: only these relations' keys; none named means all.
            force: replace a file that is there.
            safe_csv: write CSV for spreadsheets, without formulas; nothing reads it back.

        Raises:
            UsageError: if the file can't be made.
            NotFoundError: if there is nothing to write, or no such relation.
        """
        exports.require_free(Path(to), force=force, safe_csv=safe_csv)
        return exports.export_facts(self._store, Path(to), relations, safe_csv=safe_csv)

    def import_facts(
        self,
        paths: Sequence[str | Path],
        *,
        relations: Sequence[str] = (),
        skip_invalid: bool = False,
        most_bytes: int = MOST_BYTES,
    ) -> IngestReport:
        """Reads files that `kndb export facts` wrote, or other own lists, and stores what is new; all or nothing.

        Args:
            paths: CSV, JSON-lines or Parquet files.
            relations: only these relations' keys; none named means all.
            skip_invalid: leave invalid rows out, and list them, instead of stopping.
            most_bytes: files with more of unpacked text, all together, are refused.

        Raises:
            InputError: for a file that is not what it should be.
        """
        _require_limit(most_bytes)
        files = [Path(path) for path in paths]
        return import_facts.store_facts(self._store, files, relations, skip_invalid, most_bytes)

    def _sizes(self, model_name: str, layers: int | None, neurons: int | None) -> Sizes:
        """The model's sizes: the registered one's, or those given."""
        for name, value in (("layers", layers), ("neurons", neurons)):
            if value is not None and value < 1:
                raise UsageError(f"{option(name)} must be at least 1 (got {value})")
        if not model_name.strip() or not model_name.isprintable():
            raise UsageError(f"{model_name!r} can't name a model; use text that can be printed")
        with self._store.reading() as connection:
            sizes = store_models.imported_sizes(connection, name=model_name, layers=layers, neurons=neurons)
        return Sizes(*sizes)


def _require_limit(most_bytes: int) -> None:
    if most_bytes < 1:
        raise UsageError(f"{option('most_bytes')} must be at least 1 (got {most_bytes})")


@contextmanager
def _bounded(files: Sequence[Path], most_bytes: int) -> Iterator[None]:
    """While open, files of more bytes are refused; these at once, before they are hashed."""
    _require_limit(most_bytes)
    with at_most(most_bytes):
        for path in files:
            if path.is_file():
                require_size(path)
        yield


def _store_foreign(
    connection: Transaction,
    model: Model,
    sets: Sequence[NeuronSet],
    run_settings: Mapping[str, object],
    settings: Mapping[str, object],
) -> NeuronImport:
    joined = import_neurons.join(fact_index(connection), sets)
    unjoined = tuple(str(one.fact) for one in joined.unjoined)
    if not joined.facts:
        by_id = all(one.fact.number is None for one in joined.unjoined)
        raise import_neurons.nothing_joined(unjoined, by_id=by_id)
    run_id = store_exchange.find_imported_run(connection, model.id, run_settings)
    if run_id is None:
        moment = now()
        run_id = store_runs.add_run(
            connection,
            model.id,
            version=store_exchange.imported_version(connection, model),
            method=IMPORTED,
            settings=run_settings,
            status="complete",
            created_at=moment,
            finished_at=moment,
        )
    relations = import_neurons.relation_sets(joined)
    refinement, already_there = store_exchange.store_sets(connection, run_id, settings, relations)
    return NeuronImport(
        refinement=refinement,
        run=run_id,
        model=model.name,
        facts=len(joined.facts),
        neurons=sum(len(rows) for _, _, rows in relations),
        unjoined=unjoined,
        superseded=tuple(str(one.fact) for one in joined.superseded),
        already_there=already_there,
    )


def _chosen_format(files: Sequence[Path], input_format: str) -> str:
    if input_format not in NEURON_FORMATS:
        raise UsageError(f"{option('input_format')} must be one of {', '.join(NEURON_FORMATS)} (got {input_format})")
    if input_format != "auto":
        return input_format
    found = {_format_of(path) for path in files}
    if len(found) > 1:
        raise UsageError(f"the files are of the formats {' and '.join(sorted(found))}; import them one after the other")
    return found.pop()


def _format_of(path: Path) -> str:
    if description_path(path).exists():
        return "kndb"
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".csv"):
        return "csv"
    if name.endswith(".json"):
        return "eleutherai"
    raise InputError(
        f"{path}: its name does not say what it is: it ends in .json or .csv, or has {path.name}.meta.json beside it "
        f"as an export writes it; or say it with {option('input_format')}"
    )


def _checked_settings(settings: Mapping[str, object]) -> dict[str, object]:
    for name in settings:
        if name in _OWN_SETTINGS or not name.strip():
            raise UsageError(
                f"{option('settings')} can't have the name {name!r}: kndb itself stores that; choose another name"
            )
    return dict(settings)
