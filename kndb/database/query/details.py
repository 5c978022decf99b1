"""The detail queries of `query.py`: one neuron, one fact, the consistency of paraphrases. Joins store and analysis.

All functions take a connection of the store in a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ...advice import option
from ...analysis.consistency import distribution, mean_jaccard
from ...analysis.refinement import prompts_needed
from ...analysis.votes import Place, votes
from ...errors import AttributionError, UsageError
from ...records.attribution import Refinement, attribute_and_refine, error_limit
from ...records.facts import Fact
from ...records.models import Neuron
from ...records.progress import Progress
from ...records.queries import Consistency, FactFindings, FactScores, NeuronFindings
from ...store import coarse_sets, facts, models, refinements, runs
from ...store.coarse_sets import Coarse, CoarseRow
from ...store.queries import fact_findings as store_fact
from ...store.queries import neuron_findings as store_neuron
from ...store.queries import neurons as queries
from ...store.queries.coverage import refined_model

Sets = dict[int, dict[Place, float]]
"""For each attributed prompt, the neurons of its coarse set with their scores."""


def neuron_findings(connection: Any, refinement_id: int, neuron: Neuron) -> NeuronFindings:
    """See `QueryCommands.neuron`."""
    models.require_neuron(refined_model(connection, refinement_id), neuron)
    return store_neuron.neuron_findings(connection, refinement_id, neuron)


def fact_findings(connection: Any, refinement: Refinement, fact: Fact, nearest: int) -> FactFindings:
    """See `QueryCommands.fact`."""
    if nearest < 1:
        raise UsageError(f"{option('nearest')} must be at least 1 (got {nearest})")
    refinement_id, fact_id = refinement.id, fact.id
    coarse = _coarse(connection, refinement)
    sets: Sets = {} if coarse is None else _sets(coarse_sets.coarse_sets_of_fact(connection, coarse, fact_id))
    refined = queries.neurons_of_fact(connection, refinement_id, fact_id)
    share = store_fact.share_of_fact(connection, refinement_id, fact_id)
    sizes = {prompt: len(members) for prompt, members in sets.items()}
    settings = runs.run_settings(connection, refinement.run_id)
    limit = error_limit(settings)
    return FactFindings(
        fact=fact,
        share=share,
        consistency=mean_jaccard([members.keys() for members in sets.values()]),
        neurons=len(refined),
        prompts=store_fact.prompts_of_fact(connection, refinement.run_id, fact_id, limit, sizes),
        votes=votes(sets, refined, _needed(refinement, share, len(sets))),
        nearest=store_fact.nearest_facts(connection, refinement_id, fact_id, nearest),
        error_limit=limit,
        tolerance_asked=settings.get("tolerance") is not None,
    )


def fact_scores(connection: Any, refinement_id: int, fact_id: int) -> FactScores | None:
    """A fact's scores in a refinement's run, each as a share of its prompt's largest; None where none were imported."""
    refinement = refinements.refinement(connection, refinement_id)
    coarse = _coarse(connection, refinement)
    if coarse is None:
        return None
    stored = _sets(coarse_sets.coarse_sets_of_fact(connection, replace(coarse, threshold=0.0), fact_id))
    shares: dict[Place, list[float]] = {}
    for members in stored.values():
        # The largest score is stored, and of negative ones the lowest: both are the largest by size.
        largest = max((abs(score) for score in members.values()), default=0.0)
        for place, score in members.items():
            shares.setdefault(place, []).append(abs(score) / largest)
    floor = runs.run_settings(connection, refinement.run_id).get("floor")
    return FactScores(
        threshold=coarse.threshold,
        floor=float(floor) if isinstance(floor, (int, float)) else 0.0,
        shares={place: tuple(found) for place, found in shares.items()},
    )


def consistency(
    connection: Any, refinement: Refinement, keys: Sequence[str], progress: Progress | None
) -> list[Consistency]:
    """See `QueryCommands.consistency`."""
    named = set(facts.require_relations(connection, keys))
    coarse = _coarse(connection, refinement)
    if coarse is None:
        raise AttributionError(
            f"refinement {refinement.id} was imported without the scores that its sets came from, and consistency is "
            f"that of the scores' coarse sets; name one of a run with scores, or make one with: "
            f"{attribute_and_refine(refinement.model)}"
        )
    covered = [outcome.relation for outcome in refinement.relations]
    chosen = [
        (relation_id, key)
        for relation_id, key in zip(facts.require_relations(connection, covered), covered, strict=True)
        if not named or relation_id in named
    ]
    found, every = [], []
    for done, (relation_id, key) in enumerate(chosen, 1):
        values = _consistencies(coarse_sets.coarse_sets_of_relation(connection, coarse, relation_id))
        if values:
            found.append(distribution(key, values))
            every += values
        if progress is not None:
            progress(done, len(chosen))
    return [*found, distribution(None, every)] if every else []


def _coarse(connection: Any, refinement: Refinement) -> Coarse | None:
    """How a refinement chose its coarse sets; None for one that was imported without scores."""
    threshold = refinement.settings.get("threshold")
    if not isinstance(threshold, (int, float)) or not coarse_sets.has_scores(connection, refinement.run_id):
        return None
    return Coarse(refinement.run_id, threshold, bool(refinement.settings.get("negative", False)))


def _needed(refinement: Refinement, share: float | None, prompts: int) -> float | None:
    least = refinement.settings.get("min_prompts")
    if share is None or not prompts or not isinstance(least, int):
        return None
    return round(prompts_needed(share, prompts, least), 8)  # 6.3, where the rule has 6.299999999


def _sets(rows: Iterable[CoarseRow]) -> Sets:
    sets: Sets = {}
    for _, prompt, layer, neuron, score in rows:
        members = sets.setdefault(prompt, {})
        if layer is not None and neuron is not None and score is not None:
            members[layer, neuron] = score
    return sets


def _consistencies(rows: Iterable[CoarseRow]) -> list[float]:
    """The consistency of each fact that has one; rows come fact by fact, and one fact's are held at a time."""
    found: list[float] = []
    sets: dict[int, set[tuple[int, int]]] = {}
    last: int | None = None

    def close() -> None:
        value = mean_jaccard(sets.values())
        if value is not None:
            found.append(value)
        sets.clear()

    for fact, prompt, layer, neuron, _ in rows:
        if fact != last:
            close()
            last = fact
        members = sets.setdefault(prompt, set())
        if layer is not None and neuron is not None:
            members.add((layer, neuron))
    close()
    return found
