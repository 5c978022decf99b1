"""Comparing ways to edit: what it needs from the store, and its results, stored cell by cell: method × seed × size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from ...advice import option
from ...analysis.trial_summaries import compared_part
from ...errors import UsageError
from ...models.generation import require_causal
from ...records.attribution import RefinementChoice
from ...records.bench_methods import BenchMethod, as_trial, needs_neurons, of_one_token
from ...records.edit_settings import TrialSettings
from ...records.edits import TrialResult
from ...records.facts import by_fact
from ...records.progress import Progress
from ...records.work import WorkEngine
from ...store import facts as store_facts
from ...store.choosing import answering
from ...store.edits import trials as store_trials
from ...store.engine import Store
from ..models import ModelCommands, ModelVersion
from .compared_facts import ComparedFacts
from .comparison import Comparison
from .known_facts import KnownShares
from .together import layers_by_depth, layers_of
from .trial_measures import unedited_of


def compare_methods(
    store: Store,
    models: ModelCommands,
    model: str,
    methods: Sequence[BenchMethod],
    settings: TrialSettings | None,
    *,
    sizes: Sequence[int],
    seeds: Sequence[int],
    refinement: RefinementChoice,
    progress: Progress | None,
    engine: WorkEngine | None = None,
) -> int:
    """Measures what is not measured yet, and gives the trial's number; see `EditTrialCommands.compare`."""
    _require(methods, sizes)
    chosen_sizes = sorted(set(sizes))
    wanted = settings or TrialSettings(facts=max(sizes))
    version = models.load(model) if layers_by_depth(models.get(model).layers) else None
    by_depth = version is not None and bool(layers_of(version))
    with store.reading() as connection:
        wanted = replace(wanted, relations=tuple(store_facts.named_relations(connection, wanted.relations)))
        of_neurons = any(needs_neurons(method, by_depth=by_depth) for method in methods)
        chosen = answering(connection, refinement, model=model, relations=wanted.relations).id if of_neurons else None
        facts = len(store_facts.find_facts(connection))
    version = version or models.load(model)
    if wanted.generate:
        require_causal(version.network)
    drawn = [replace(wanted, seed=seed) for seed in dict.fromkeys(seeds or (wanted.seed,))]
    stored: dict[str, Any] = {
        **wanted.as_json(),
        **{name: getattr(wanted, name) for name in ("share", "known", "generate")},
        # Trials of when held-out prompts did not have to be answered have other facts, and none of theirs goes on.
        **({"known_prompts": "all"} if wanted.known else {}),
        "methods": [as_trial(method) for method in methods],
        "sizes": chosen_sizes,
        "seeds": [one.seed for one in drawn],
        "refinement": chosen,
        # With more known facts, others would be drawn.
        "known_facts": facts,
    }
    about = (version.record.id, version.version, "bench", stored)
    with store.reading() as connection:
        begun = store_trials.find(connection, *about)
        done = set() if begun is None else _cells_of(connection, begun.id)
    compared = Compared(version.record.name, version.version, chosen, tuple(methods), known=bool(wanted.known))
    draw = draws_of(store, version, compared)
    for one in drawn:
        parts = [compared_part(method.method, one.seed) for method in methods]
        if not {(part, size) for part in parts for size in chosen_sizes} <= done:
            draw(one).require_known(min(one.facts, max(sizes)))
    with store.writing() as connection:
        number = store_trials.begin(connection, *about).id
    if engine is not None and engine.remote:
        from .trial_workers import compare_by_workers

        cells = [
            ComparedCell(one, method, size)
            for one in drawn
            for method in methods
            for size in chosen_sizes
            if size <= len(draw(one).targets) and (compared_part(method.method, one.seed), size) not in done
        ]
        compare_by_workers(store, number, compared, cells, engine, progress)
    else:
        comparisons = Comparisons(store, models, version, chosen, draw)
        measured, total = 0, len(drawn) * len(methods) * len(chosen_sizes)
        for one in drawn:
            for method in methods:
                part = compared_part(method.method, one.seed)
                there = [size for of_part, size in done if of_part == part]
                if not set(chosen_sizes) <= set(there):
                    comparison = comparisons.of(one)
                    kept = [size for size in chosen_sizes if size <= len(comparison.facts.targets)]
                    for size, found in comparison.cells(method, kept, there):
                        if found is not None:
                            with store.writing() as connection:
                                store_trials.add_result(connection, number, TrialResult(part, size, None, found))
                        if progress is not None:
                            progress(measured + kept.index(size) + 1, total)
                measured += len(chosen_sizes)
    with store.writing() as connection:
        store_trials.finish(connection, number)
    return number


@dataclass(frozen=True)
class ComparedCell:
    """A cell of the table: so many facts of a draw, edited by a method."""

    drawn: TrialSettings
    method: BenchMethod
    size: int


class Comparisons:
    """The comparisons of several draws on one model in memory, each made when it is asked for, and only the last kept.

    Args:
        store: the store.
        models: loads models.
        version: the model version.
        refinement: whose knowledge neurons; None if no method needs any.
        draw: gives the facts of a draw.
    """

    def __init__(
        self,
        store: Store,
        models: ModelCommands,
        version: ModelVersion,
        refinement: int | None,
        draw: Callable[[TrialSettings], ComparedFacts],
    ) -> None:
        self._store, self._models, self._version, self._refinement = store, models, version, refinement
        self._draw = draw
        self._unedited = unedited_of(store, models, version)
        self._control: ModelVersion | None = None
        self._last: tuple[TrialSettings, Comparison] | None = None

    def of(self, drawn: TrialSettings) -> Comparison:
        """The comparison of a draw."""
        if self._last is None or self._last[0] != drawn:
            about = (self._store, self._models, self._version, self._unedited, self._beside, self._refinement)
            self._last = drawn, Comparison(*about, self._draw(drawn), drawn)
        return self._last[1]

    def _beside(self) -> ModelVersion:
        """The same model version once more."""
        if self._control is None:
            self._control = self._models.load(self._version.record.name, self._version.version)
        return self._control


@dataclass(frozen=True)
class Compared:
    """What workers need to know of a comparison, beside its cells.

    Attributes:
        model: the model's name; `version`: the version's id.
        refinement: whose knowledge neurons; None if no method needs any.
        methods: all of the comparison: what one needs decides the facts of all.
        known: whether the model's answers decide which facts are drawn.
    """

    model: str
    version: str
    refinement: int | None
    methods: tuple[BenchMethod, ...]
    known: bool


def draws_of(store: Store, version: ModelVersion, compared: Compared) -> Callable[[TrialSettings], ComparedFacts]:
    """Gives the facts of a draw, the same in every process, as long as nobody adds any."""
    with store.reading() as connection:
        of_fact = by_fact(store_facts.prompts(connection)) if compared.known else {}
    shares = KnownShares(version, of_fact)
    return cache(partial(_facts_of, store, version, compared.refinement, compared.methods, shares))


def _require(methods: Sequence[BenchMethod], sizes: Sequence[int]) -> None:
    names = [method.method for method in methods]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"{option('method')} must name each method once (got {', '.join(names) or 'none'})")
    if not sizes or min(sizes) < 1:
        raise UsageError(f"{option('sizes')} must be at least 1 (got {', '.join(map(str, sizes)) or 'none'})")


def _cells_of(connection: Any, trial: int) -> set[tuple[str, int]]:
    """What is measured of a trial: method and seed, and size."""
    return {(result.part, result.position) for result in store_trials.results(connection, trial)}


def _facts_of(
    store: Store,
    version: ModelVersion,
    refinement: int | None,
    methods: Sequence[BenchMethod],
    shares: KnownShares,
    settings: TrialSettings,
) -> ComparedFacts:
    """The facts of a draw; what one of the methods needs decides for all of them."""
    one_token = any(map(of_one_token, methods))
    return ComparedFacts(store, version, refinement, settings, one_token=one_token, shares=shares)
