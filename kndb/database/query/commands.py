"""Use cases of questions."""

from __future__ import annotations

from collections.abc import Sequence

from ...advice import call, option
from ...errors import UsageError
from ...records.attribution import KnowledgeNeuron, Refinement, Run, SharedNeuron
from ...records.models import Model, Neuron
from ...records.progress import Progress
from ...records.queries import (
    Collateral,
    Comparison,
    Consistency,
    FactFindings,
    LayerCount,
    NeuronCounts,
    NeuronFindings,
    Overlap,
)
from ...store import facts as store_facts
from ...store import models as store_models
from ...store import refinements, runs
from ...store.edits import collateral as store_collateral
from ...store.edits import edit as store_edits
from ...store.engine import Store
from ...store.queries import comparisons, distributions
from ...store.queries import neurons as queries
from ...store.queries import overlap as store_overlap
from ...store.queries.coverage import refined_model
from ...store.queries.reading_sql import read_sql
from ..edits.edited_sentences import sentences_of_edit
from . import details as query_details


class QueryCommands:
    """Ask which neurons facts and relations share."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def refinement(self, number: int | None = None, model: str | None = None, *, edit: int | None = None) -> Refinement:
        """The refinement of a number; or the newest: of one model if one is named, else of an edit's model.

        Raises:
            NotFoundError: if there is none, or no such edit or model.
            UsageError: if the refinement of that number is of another model than the one named.
        """
        with self._store.reading() as connection:
            if number is None and model is None and edit is not None:
                model = store_edits.edit(connection, edit).model
            return refinements.chosen_refinement(connection, number, model)

    def runs(self, model: str | None = None) -> list[Run]:
        """All attribution runs, or those of one model.

        Raises:
            NotFoundError: if there is no such model.
        """
        with self._store.reading() as connection:
            if model is not None:
                store_models.model(connection, model)
            return runs.runs(connection, model)

    def refinements(self, model: str | None = None) -> list[Refinement]:
        """All refinements, or those of one model's runs.

        Raises:
            NotFoundError: if there is no such model.
        """
        with self._store.reading() as connection:
            if model is not None:
                store_models.model(connection, model)
            return refinements.refinements(connection, model)

    # --- sums over facts -----------------------------------------------------------------------------------

    def shared(
        self,
        relations: Sequence[str] = (),
        *,
        refinement: int,
        across: int | None = None,
        top: int | None = None,
        min_share: float = 0.0,
    ) -> list[SharedNeuron]:
        """The neurons that facts of some relations hold, the most widely held first.

        Args:
            relations: the relations' keys; none means all, if `across` is given.
            refinement: whose refined sets.
            across: only neurons held by facts of at least so many of these relations, at least 1.
            top: at most so many rows.
            min_share: only neurons held by at least this share of the facts with a refined set, 0 to 1.

        Raises:
            NotFoundError: for an unknown relation or refinement.
            UsageError: for an option out of its range, or neither relations nor `across`.
        """
        if not relations and across is None:
            raise UsageError(
                f"name relations, or a number of them: {call('query.shared', relations=['P176'])}, or: "
                f"{call('query.shared', across=3)}"
            )
        if across is not None and across < 1:
            raise UsageError(f"{option('across')} must be at least 1 (got {across})")
        if across is not None and relations and across > len(set(relations)):
            given = len(set(relations))
            raise UsageError(f"{option('across', across)} needs at least {across} relations ({given} given)")
        if top is not None and top < 1:
            raise UsageError(f"{option('top')} must be at least 1 (got {top})")
        if not 0 <= min_share <= 1:
            raise UsageError(f"{option('min_share')} must be from 0 to 1 (got {min_share})")
        with self._store.reading() as connection:
            ids = store_facts.require_relations(connection, relations)
            return queries.shared_neurons(connection, refinement, ids, across=across or 1, top=top, min_share=min_share)

    def overlap(self, relations: Sequence[str] = (), *, refinement: int) -> Overlap:
        """How many neurons two facts share on average, for each pair of relations; exact.

        Args:
            relations: the relations' keys; none means all.
            refinement: whose refined sets.

        Raises:
            NotFoundError: for an unknown relation or refinement.
        """
        with self._store.reading() as connection:
            ids = store_facts.require_relations(connection, relations)
            return store_overlap.overlap(connection, refinement, ids)

    def layers(self, relations: Sequence[str] = (), *, refinement: int, by_relation: bool = False) -> list[LayerCount]:
        """How many knowledge neurons each layer has; layers without any are listed too.

        Args:
            relations: the relations' keys; none means all.
            refinement: whose refined sets.
            by_relation: one row per relation and layer, in place of one per layer over all relations.

        Raises:
            NotFoundError: for an unknown relation or refinement.
        """
        with self._store.reading() as connection:
            ids = store_facts.require_relations(connection, relations)
            return distributions.layers(connection, refinement, ids, by_relation=by_relation)

    def counts(self, relations: Sequence[str] = (), *, refinement: int) -> list[NeuronCounts]:
        """How many knowledge neurons facts have: one row per relation by key, and a last one over all of them.

        Facts whose refined set is empty count with size 0. A relation of which the refinement has no attributed facts
        has no row.

        Args:
            relations: the relations' keys; none means all.
            refinement: whose refined sets.

        Raises:
            NotFoundError: for an unknown relation or refinement.
        """
        with self._store.reading() as connection:
            ids = store_facts.require_relations(connection, relations)
            return distributions.counts(connection, refinement, ids)

    def compare(self, refinement_a: int, refinement_b: int, relations: Sequence[str] = ()) -> Comparison:
        """Two refinements side by side, over the facts that have a set in either.

        Args:
            refinement_a: the one.
            refinement_b: the other; of any version, or another model of the same size: neurons are the same if layer
                and number are.
            relations: the relations' keys; none means all.

        Raises:
            NotFoundError: for an unknown relation or refinement.
            UsageError: if the models have other numbers of layers or neurons.
        """
        with self._store.reading() as connection:
            ids = store_facts.require_relations(connection, relations)
            return comparisons.compare(connection, refinement_a, refinement_b, ids)

    def collateral(self, target: int | Sequence[Neuron], *, refinement: int) -> Collateral:
        """The facts and relations that hold the value slots which an edit touches, or would touch.

        The facts that an edit is for are told apart: `edited`.

        Args:
            target: an edit's number, or neurons, at least one.
            refinement: whose refined sets.

        Raises:
            NotFoundError: for an unknown edit or refinement.
            UsageError: for no neurons, one that the refinement's model does not have, or a refinement of another model
                than the edit's.
        """
        with self._store.reading() as connection:
            edited: frozenset[int] = frozenset()
            if isinstance(target, int):
                neurons: Sequence[Neuron] = store_collateral.edit_neurons(connection, target, refinement)
                edited = sentences_of_edit(connection, store_edits.edit(connection, target)).facts
            else:
                neurons = target
            if not neurons:
                raise UsageError("name at least one neuron, such as L9.N2827")
            return store_collateral.collateral(connection, refinement, neurons, edited)

    # --- one fact ------------------------------------------------------------------------------------------

    def neurons_of_fact(self, fact_id: int, *, refinement: int) -> list[KnowledgeNeuron]:
        """The refined set of one fact."""
        with self._store.reading() as connection:
            return queries.neurons_of_fact(connection, refinement, fact_id)

    def neuron_counts(self, refinement: int) -> tuple[int, float]:
        """The number of (fact, neuron) pairs of a refinement, and neurons per attributed fact."""
        with self._store.reading() as connection:
            return queries.neuron_counts(connection, refinement)

    def set_sizes(self, *, refinement: int) -> dict[int, int]:
        """How many knowledge neurons each fact has, by the fact's number; facts without any are left out.

        Raises:
            NotFoundError: if there is no such refinement.
        """
        with self._store.reading() as connection:
            return distributions.set_sizes(connection, refinement)

    # --- one neuron, one fact, paraphrases, SQL -------------------------------------------------------------------

    def neuron(self, neuron: Neuron, *, refinement: int) -> NeuronFindings:
        """All that a refinement and the edits of its model know of one neuron; see also `ModelCommands.token_effects`.

        Raises:
            NotFoundError: if there is no such refinement.
            UsageError: if the refinement's model has no such neuron.
        """
        with self._store.reading() as connection:
            return query_details.neuron_findings(connection, refinement, neuron)

    def model_of(self, refinement: int) -> Model:
        """The model that a refinement's run attributed.

        Raises:
            NotFoundError: if there is no such refinement.
        """
        with self._store.reading() as connection:
            return refined_model(connection, refinement)

    def fact(self, fact_id: int, *, refinement: int, nearest: int = 10) -> FactFindings:
        """All that a refinement and its run know of one fact.

        Prompts, coarse sets and votes are of the run as it is now, the refined set is the refinement's: if the run
        went on since, they may differ.

        Args:
            fact_id: the fact's number.
            refinement: whose refined sets, coarse sets and votes.
            nearest: how many of the facts that share most neurons with it, at least 1.

        Returns:
            Its prompts by number; the votes of every neuron in a coarse set, the most first; the nearest facts by
            shared neurons, then Jaccard index, then number; and the mean Jaccard index over all pairs of its prompts'
            coarse sets, pairs of two empty ones left out. Of an imported refinement without scores, votes are
            those of the refined set alone, and there is no consistency.

        Raises:
            NotFoundError: if there is no such fact or refinement.
            UsageError: for an option out of its range.
        """
        with self._store.reading() as connection:
            return query_details.fact_findings(connection, refinement, fact_id, nearest)

    def consistency(
        self, relations: Sequence[str] = (), *, refinement: int, progress: Progress | None = None
    ) -> list[Consistency]:
        """How alike the coarse sets of a fact's paraphrases are, relation by relation.

        A fact's consistency is that of `fact`. Facts without one (fewer than two attributed prompts, or only empty
        sets) don't count.

        Args:
            relations: the relations' keys; none named means all that the refinement has.
            refinement: whose coarse sets.
            progress: told of each relation.

        Returns:
            A row for each relation that has such facts, by key, then one for all of them; nothing if there are none.

        Raises:
            NotFoundError: if there is no such refinement or relation.
            AttributionError: if the refinement was imported without scores.
        """
        with self._store.reading() as connection:
            return query_details.consistency(connection, refinement, relations, progress)

    def sql(self, query: str) -> tuple[list[str], list[tuple[object, ...]]]:
        """Runs one SQL statement that only reads; see `kndb.store.queries.reading_sql`.

        Returns:
            The columns' names, no two alike, and the rows.

        Raises:
            UsageError: if the statement would do more than read, or SQLite can't run it.
        """
        return read_sql(self._store.path, query)
