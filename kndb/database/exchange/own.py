"""Importing what kndb itself exported: the same model, run, refinement and results, under this store's numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from ...advice import option
from ...errors import InputError, ModelError, UsageError
from ...exchange import tables
from ...exchange.columns import SCORES, Row
from ...exchange.description import DescribedModel, DescribedRun, Description
from ...exchange.neuron_tables import fact_name
from ...exchange.sets import FactName, NeuronSet, Sizes
from ...records.attribution import IMPORTED, PromptResult, RelationRefinement, ResultBatch, ScoreColumns
from ...records.models import Model
from ...records.progress import Progress
from ...store import exchange as store_exchange
from ...store import models as store_models
from ...store import runs as store_runs
from ...store.exchange import RelationSets, Transaction
from ...store.fact_index import FactIndex, StoredFact
from ...store.json_checks import check_json
from ...store.row_checks import check_rows
from ...store.run_errors import check_run_errors
from ...store.tables import Table
from . import neurons as import_neurons

_BATCH = 500
"""Prompts whose results are written at once."""

_RESULT_COLUMNS = tuple(column.name for column in SCORES[6:-1] if column.name not in ("predicted", "layers_above"))
"""The columns that a prompt's result takes as they are."""


def target_model(connection: Transaction, described: DescribedModel, name: str | None) -> Model:
    """The model that described results are of in this store; made without a checkpoint if there is none.

    Args:
        connection: a write transaction.
        described: the model as the description has it.
        name: another name for it.

    Raises:
        ModelError: if the store's model of that name is another checkpoint, or has other sizes.
    """
    chosen = name or described.name
    model = store_models.add_imported_model(connection, name=chosen, layers=described.layers, neurons=described.neurons)
    if described.fingerprint and model.fingerprint and described.fingerprint != model.fingerprint:
        raise ModelError(
            f"these results are of a checkpoint with fingerprint {described.fingerprint[:12]}, and the store's model "
            f"{chosen!r} has {model.fingerprint[:12]}; import them under a {option('model_name')} of their own"
        )
    return model


def target_run(connection: Transaction, model: Model, described: DescribedRun) -> tuple[int, bool]:
    """The run of that model with the described version, method and settings, and whether the store had it."""
    if described.method == IMPORTED:
        present = store_exchange.find_imported_run(connection, model.id, described.settings)
    else:
        present = store_runs.find_run(connection, model.id, described.version, described.method, described.settings)
    if present is not None:
        return present, True
    added = store_runs.add_run(
        connection,
        model.id,
        version=described.version,
        method=described.method,
        settings=described.settings,
        status=described.status,
        created_at=described.created_at,
        finished_at=described.finished_at,
    )
    return added, False


# --- neurons ----------------------------------------------------------------------------------------------------


def described_sets(
    index: FactIndex, description: Description, sets: list[NeuronSet], relations: Mapping[str, int]
) -> tuple[list[RelationSets], tuple[str, ...]]:
    """What a refinement becomes in a store that may lack some of its facts.

    Where all facts of a relation are there, its outcome is the described one. Where some are not, they are taken out
    of its counts; those with an empty set are not named in the file, so they stay counted.

    Args:
        index: the store's facts.
        description: the file's.
        sets: the file's sets, none of them empty.
        relations: the store's relations: number by key.

    Returns:
        Outcome and sets of each relation that the store has, and the names of the facts that it lacks.
    """
    assert description.refinement is not None
    joined = import_neurons.join(index, sets)
    missing: dict[str | None, int] = {}
    for one in joined.unjoined:
        missing[one.fact.relation] = missing.get(one.fact.relation, 0) + 1
    pairs: dict[str, list[tuple[StoredFact, NeuronSet]]] = {}
    for fact, one in joined.facts.items():
        pairs.setdefault(fact.relation, []).append((fact, one))
    found: list[RelationSets] = []
    for outcome in description.refinement.relations:
        if outcome.relation in relations and outcome.facts > missing.get(outcome.relation, 0):
            kept = pairs.get(outcome.relation, [])
            adjusted = _without(outcome, missing.get(outcome.relation, 0), [one for _, one in kept])
            found.append((relations[outcome.relation], adjusted, import_neurons.rows(kept)))
    names = tuple(str(one.fact) for one in joined.unjoined)
    if not found:
        raise import_neurons.nothing_joined(names)
    return found, names


def _without(outcome: RelationRefinement, missing: int, kept: list[NeuronSet]) -> RelationRefinement:
    if not missing:
        return outcome
    facts = outcome.facts - missing
    size = sum(len(one.neurons) for one in kept)
    return replace(outcome, facts=facts, facts_with_neurons=len(kept), mean_size=size / facts)


# --- scores -----------------------------------------------------------------------------------------------------


class ScoreReader:
    """Writes the results and scores of an exported file to a run, some prompts at a time.

    Attributes:
        results: results written; `scores`: scores written.
        present: prompts that had a result in the run before, which stays.
        unjoined: names of facts that the store lacks; `missing`: prompts that it lacks of facts that it has.
    """

    def __init__(self, connection: Transaction, run_id: int, index: FactIndex) -> None:
        self._connection = connection
        self._run = run_id
        self._index = index
        self._had = store_exchange.prompts_with_results(connection, run_id)
        self._seen: set[int] = set()
        self._prompts: tuple[int | None, dict[tuple[int, str], int]] = (None, {})
        self.results = self.scores = self.present = 0
        self.unjoined: list[str] = []
        self.missing: list[str] = []

    def read(self, path: Path, sizes: Sizes, rows: int, progress: Progress | None) -> None:
        """Reads a file, from its first row to its last.

        Raises:
            InputError: if it is not what kndb exports.
        """
        batch: list[tuple[int, str, Row]] = []
        done = 0
        for name, group in groupby(_named(path), key=lambda item: item[0]):
            fact = import_neurons.find_fact(self._index, name, str(path))
            for _, where, row in group:
                done += 1
                prompt_id = None if fact is None else self._prompt(fact, row["prompt"])
                if prompt_id is not None:
                    self._take(prompt_id, where, row, batch, sizes)
                elif fact is not None:
                    self.missing.append(f"{fact.relation}: {row['prompt']}")
                if progress is not None and done % _BATCH == 0:
                    progress(done, rows)
            if fact is None:
                self.unjoined.append(str(name))
        self._write(batch, sizes)

    def _take(self, prompt_id: int, where: str, row: Row, batch: list[tuple[int, str, Row]], sizes: Sizes) -> None:
        if prompt_id in self._seen:
            raise InputError(
                f"{where}: the prompt {row['prompt']!r} of this fact is here twice; leave one of the rows out"
            )
        self._seen.add(prompt_id)
        if prompt_id in self._had:
            self.present += 1
            return
        batch.append((prompt_id, where, row))
        if len(batch) >= _BATCH:
            self._write(batch, sizes)
            batch.clear()

    def _prompt(self, fact: StoredFact, text: str) -> int | None:
        """The fact's prompt of a text. Those of one relation are held at a time, as the file goes by relation."""
        relation_id, prompts = self._prompts
        if relation_id != fact.relation_id:
            prompts = store_exchange.prompts_by_text(self._connection, fact.relation_id)
            self._prompts = (fact.relation_id, prompts)
        return prompts.get((fact.id, text))

    def _write(self, batch: list[tuple[int, str, Row]], sizes: Sizes) -> None:
        if not batch:
            return
        prompts: list[int] = []
        layers: list[int] = []
        neurons: list[int] = []
        scores: list[float] = []
        for prompt_id, where, row in batch:
            noted = [] if row["worst_layer"] is None else [row["worst_layer"]]
            for layer in (*noted, *(layer for layer, _ in row["layers_above"] or ())):
                fault = sizes.fault(layer, 0)
                if fault is not None:
                    raise InputError(f"{where}: {fault}")
            seen = set()
            for layer, neuron, score in row["scores"] or ():
                fault = sizes.fault(layer, neuron)
                if fault is not None or (layer, neuron) in seen:
                    raise InputError(f"{where}: {fault or f'it has L{layer}.N{neuron} twice'}")
                seen.add((layer, neuron))
                prompts.append(prompt_id)
                layers.append(layer)
                neurons.append(neuron)
                scores.append(float(score))
        results = tuple(_result(prompt_id, row) for prompt_id, _, row in batch)
        store_runs.save_results(
            self._connection, self._run, ResultBatch(results, ScoreColumns(prompts, layers, neurons, scores))
        )
        self.results += len(results)
        self.scores += len(scores)


def _named(path: Path) -> Iterator[tuple[FactName, str, Row]]:
    for line, row in tables.read(path, SCORES):
        where = f"{path}:{line}"
        if row["prompt"] is None:
            raise InputError(f"{where}: the prompt is missing; each row must have one")
        yield fact_name(where, row), where, row


def _result(prompt_id: int, row: Row) -> PromptResult:
    values = {name: row[name] for name in _RESULT_COLUMNS}
    # CSV does not tell an empty token from none; with a probability there was one.
    nothing = None if row["predicted_probability"] is None else ""
    predicted = nothing if row["predicted"] is None else row["predicted"]
    layers = {layer: float(error) for layer, error in row["layers_above"] or ()}
    return PromptResult(prompt_id, predicted=predicted, layers_above=layers, **values)


def require_fitting_errors(connection: Transaction, run_id: int, path: Path) -> None:
    """Checks that the errors noted for layers fit the run's settings as the file's description has them.

    Raises:
        InputError: if they do not: the store would not be sound.
    """
    for problem in check_run_errors(connection):
        if problem.startswith(f"run {run_id}: "):
            raise InputError(
                f"{path}: its rows do not fit the settings in its description ({problem}); export it again"
            )


_DESCRIBED = ("model", "run", "refinement", "refinement_relation", "prompt_result")
"""Tables whose rows take values as a file has them; neurons and scores are compared with the model when read."""


@contextmanager
def sound_rows(connection: Transaction, path: Path) -> Iterator[None]:
    """Checks that what an import writes is what `kndb db check` calls sound.

    Raises:
        InputError: at the end, if it is not.
    """
    before = _flaws(connection)
    yield
    found = [flaw for flaw in _flaws(connection) if flaw not in before]
    if found:
        raise InputError(f"{path}: it or its description has what no store can hold ({found[0]}); export it again")


def _flaws(connection: Transaction) -> list[str]:
    rows = check_rows(connection, _DESCRIBED)
    others = {name for name in Table.metadata.tables if name not in _DESCRIBED}
    return [one.text for one in (*rows, *check_json(connection, {one.table for one in rows} | others))]


def require_one(paths: list[Path], what: str) -> Path:
    """The one file of an import that takes its description from beside it.

    Raises:
        UsageError: if there are several.
    """
    if len(paths) != 1:
        raise UsageError(f"each file of {what} is imported by itself ({len(paths)} given)")
    return paths[0]
