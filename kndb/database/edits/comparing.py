"""Comparing ways to edit: what it needs from the store, and its results, stored cell by cell: method × seed × size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
from ...store import facts as store_facts
from ...store import versions as store_versions
from ...store.choosing import answering
from ...store.edits import trials as store_trials
from ...store.engine import Store
from ..models import ModelCommands, ModelVersion
from .compared_facts import ComparedFacts
from .comparison import Comparison
from .known_facts import KnownShares
from .together import layers_by_depth, layers_of


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
        of_fact = by_fact(store_facts.prompts(connection)) if wanted.known else {}
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
    draw = cache(partial(_facts_of, store, version, chosen, methods, KnownShares(version, of_fact)))
    for one in drawn:
        parts = [compared_part(method.method, one.seed) for method in methods]
        if not {(part, size) for part in parts for size in chosen_sizes} <= done:
            draw(one).require_known(min(one.facts, max(sizes)))
    with store.writing() as connection:
        number = store_trials.begin(connection, *about).id
    unedited = _unedited(store, models, version)
    control = cache(lambda: models.load(model, version.version))
    measured, total = 0, len(drawn) * len(methods) * len(chosen_sizes)
    for one in drawn:
        run = cache(lambda one=one: Comparison(store, models, version, unedited, control, chosen, draw(one), one))
        for method in methods:
            part = compared_part(method.method, one.seed)
            there = [size for of_part, size in done if of_part == part]
            if not set(chosen_sizes) <= set(there):
                kept = [size for size in chosen_sizes if size <= len(run().facts.targets)]
                for size, found in run().cells(method, kept, there):
                    if found is not None:
                        with store.writing() as connection:
                            store_trials.add_result(connection, number, TrialResult(part, size, None, found))
                    if progress is not None:
                        progress(measured + kept.index(size) + 1, total)
            measured += len(chosen_sizes)
    with store.writing() as connection:
        store_trials.finish(connection, number)
    return number


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


def _unedited(store: Store, models: ModelCommands, version: ModelVersion) -> ModelVersion | None:
    """The model without any edit; None if the version is just that."""
    with store.reading() as connection:
        base = store_versions.current_model(connection, version.record.id).base
    return None if version.version == base else models.load(version.record.name, "base")
