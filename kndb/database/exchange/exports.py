"""Writing tables of results and facts to files, each with its description; whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...advice import Placeholder, call, option
from ...errors import NotFoundError, UsageError
from ...exchange import tables
from ...exchange.columns import FACTS, NEURONS, SCORES, Column
from ...exchange.description import Description, describe_model, describe_refinement, describe_run, description_path
from ...exchange.description import text as description_text
from ...files import output_errors, replacing, sha256
from ...records.attribution import IMPORTED, Refinement, RefinementChoice, Run
from ...records.csv_cells import safe_text
from ...records.facts import Relation
from ...records.progress import Progress
from ...store import exports
from ...store import models as store_models
from ...store import refinements as store_refinements
from ...store import runs as store_runs
from ...store.choosing import answering
from ...store.engine import Store
from ...store.exchange import Transaction
from ...store.facts import named_relations


@dataclass(frozen=True)
class Export:
    """A file that was written.

    Attributes:
        file: the data; `description`: the file beside it that says what it is.
        kind: `neurons`, `scores` or `facts`.
        rows: rows of data.
        sha256: of the data file.
    """

    file: str
    description: str
    kind: str
    rows: int
    sha256: str


def export_neurons(
    store: Store,
    path: Path,
    refinement: RefinementChoice,
    run: int | None,
    model: str | None,
    relations: Sequence[str],
    *,
    safe_csv: bool,
) -> Export:
    """Writes a refinement's sets; see `ExchangeCommands.export_neurons`."""
    with store.reading() as connection:
        named = named_relations(connection, relations)
        found = _refinement(connection, refinement, run, model, list(named))
        keys = [outcome.relation for outcome in found.relations]
        _require_results(found.title, keys, list(named))
        chosen = [relation for relation in _chosen(connection, relations) if relation.key in keys]
        of_run = store_runs.run(connection, found.run_id)
        description = Description(
            kind="neurons",
            rows=0,
            sha256="",
            model=describe_model(store_models.model(connection, of_run.model)),
            run=describe_run(of_run),
            refinement=describe_refinement(found, [relation.key for relation in chosen]),
            safe_csv=safe_csv,
        )
        return write(path, NEURONS, exports.neuron_rows(connection, found.id, chosen), description)


def export_scores(
    store: Store,
    path: Path,
    run: int | None,
    model: str | None,
    relations: Sequence[str],
    progress: Progress | None,
    *,
    safe_csv: bool,
) -> Export:
    """Writes a run's results and scores; see `ExchangeCommands.export_scores`."""
    with store.reading() as connection:
        chosen = _chosen(connection, relations)
        found = _run(connection, run, model)
        total = exports.count_results(connection, found.id, chosen)
        if not total:
            of = f" of {', '.join(relations)}" if relations else ""
            raise NotFoundError(
                f"run {found.id} ({found.method}) has no results of prompts{of}; choose another from: "
                f"{call('query.runs', model=model)}"
            )
        description = Description(
            kind="scores",
            rows=0,
            sha256="",
            model=describe_model(store_models.model(connection, found.model)),
            run=describe_run(found),
            safe_csv=safe_csv,
        )
        rows = exports.result_rows(connection, found.id, chosen)
        return write(path, SCORES, rows, description, total=total, progress=progress)


def export_facts(store: Store, path: Path, relations: Sequence[str], *, safe_csv: bool) -> Export:
    """Writes facts, templates and prompts; see `ExchangeCommands.export_facts`."""
    with store.reading() as connection:
        chosen = _chosen(connection, relations)
        if not chosen:
            raise NotFoundError(
                f"the store has no facts yet; add some with: {call('facts.ingest', Placeholder('PATH'))}"
            )
        return write(path, FACTS, exports.fact_rows(connection, chosen), Description("facts", 0, "", safe_csv=safe_csv))


def _chosen(connection: Transaction, relations: Sequence[str]) -> list[Relation]:
    return exports.chosen_relations(connection, list(named_relations(connection, relations)))


def _refinement(
    connection: Transaction,
    refinement: RefinementChoice,
    run: int | None,
    model: str | None,
    relations: Sequence[str],
) -> Refinement:
    if refinement is not None and run is not None:
        raise UsageError(f"{option('refinement')} and {option('run')} both name a refinement; give one of them")
    if run is None:
        return answering(connection, refinement, model=model, relations=relations)
    run_id = _run(connection, run, model).id
    of_run = [one for one in store_refinements.refinements(connection) if one.run_id == run_id]
    if not of_run:
        raise NotFoundError(f"run {run} is not refined yet; do it with: {call('attribution.refine', run=run)}")
    return of_run[-1]


def _run(connection: Transaction, run: int | None, model: str | None) -> Run:
    if model is not None:
        store_models.model(connection, model)
    if run is not None:
        chosen = store_runs.run(connection, run)
        if model not in (None, chosen.model):
            raise UsageError(
                f"{option('run', run)} is of model {chosen.model!r}, not {model!r}; choose from: "
                f"{call('query.runs', model=model)}"
            )
        return chosen
    found = [one for one in store_runs.runs(connection, model) if one.method != IMPORTED]
    if not found:
        of = "" if model is None else f" of model {model!r}"
        make = call("attribution.run", model=model or Placeholder("NAME"))
        raise NotFoundError(f"there is no run{of} with scores yet; make one with: {make}")
    return found[-1]


def _require_results(what: str, keys: Sequence[str], relations: Sequence[str]) -> None:
    missing = [key for key in relations if key not in keys]
    if missing:
        raise NotFoundError(f"{what} has no results of relation {missing[0]}; it has {', '.join(keys)}")


def require_free(path: Path, *, force: bool, safe_csv: bool) -> None:
    """Checks that a file can be made.

    Raises:
        UsageError: if its name says no format, or not CSV where that is to be safe; if it is there already (without
            `force`), or its folder is not.
    """
    tables.require_suffix(path)
    if safe_csv and path.suffix.lower() != ".csv":
        raise UsageError(f"{option('safe_csv', True)} is of CSV: {path} must end in .csv, or leave the option out")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}; create it first")
    for place in (path, description_path(path)):
        if place.is_dir():
            raise UsageError(f"{place} is a folder; name a file")
        if place.exists() and not force:
            raise UsageError(f"{place} exists already; replace it with {option('force', True)}")


def write(
    path: Path,
    columns: Sequence[Column],
    rows: Iterator[Mapping[str, Any]],
    description: Description,
    *,
    total: int | None = None,
    progress: Progress | None = None,
) -> Export:
    """Writes rows and their description; see `require_free` for what has to hold before.

    Args:
        path: the data file.
        columns: its columns.
        rows: its rows; they are read as they are written.
        description: what to say of them; the number of rows and the sha256 are filled in.
        total: the number of rows, for `progress`.
        progress: told of the rows written.

    Raises:
        OutputError: if a file can't be written.
    """
    beside = description_path(path)
    rows = map(_safe, rows) if description.safe_csv else rows
    told = rows if progress is None or total is None else _telling(rows, total, progress)
    with output_errors(path):
        with replacing(path) as temporary:
            count = tables.write(temporary, path.suffix, columns, told)
            digest = sha256(temporary)
        whole = replace(description, rows=count, sha256=digest)
        with replacing(beside) as temporary:
            names = [column.name for column in columns]
            temporary.write_text(description_text(whole, path.name, names), encoding="utf-8")
    return Export(str(path), str(beside), description.kind, count, digest)


def _safe(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: safe_text(value) if isinstance(value, str) else value for name, value in row.items()}


def _telling(rows: Iterator[Mapping[str, Any]], total: int, progress: Progress) -> Iterator[Mapping[str, Any]]:
    for number, row in enumerate(rows, 1):
        yield row
        if number % 500 == 0 or number == total:
            progress(number, total)
