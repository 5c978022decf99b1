"""Use cases of questions."""

from __future__ import annotations

from collections.abc import Sequence

from ...advice import call, option
from ...errors import UsageError
from ...records.attribution import ChosenRefinement, KnowledgeNeuron, Refinement, RefinementChoice, Run, SharedNeuron
from ...records.display import Rows
from ...records.models import Model, Neuron
from ...records.progress import Progress
from ...records.queries import (
    Collateral,
    Comparison,
    Consistency,
    FactFindings,
    FactList,
    HeldNeuron,
    LayerCount,
    NearRelation,
    NeuronCounts,
    NeuronFindings,
    Overlap,
)
from ...records.run_findings import RunFindings
from ...store import facts as store_facts
from ...store import models as store_models
from ...store import refinements, runs
from ...store.choosing import answering, choose, find
from ...store.edits import collateral as store_collateral
from ...store.edits import edit as store_edits
from ...store.engine import Store
from ...store.queries import comparisons, distributions, listings
from ...store.queries import neurons as queries
from ...store.queries import overlap as store_overlap
from ...store.queries.coverage import refined_model
from ...store.queries.reading_sql import read_sql
from ...store.queries.run_findings import run_findings
from ...store.queries.sql_limits import USUAL_LIMITS, SqlLimits
from ..edits.edited_sentences import sentences_of_edit
from . import details as query_details


class QueryCommands:
    """Ask which neurons facts and relations share."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # --- which refinement ----------------------------------------------------------------------------------

    def refinement(
        self,
        choice: RefinementChoice = None,
        model: str | None = None,
        *,
        method: str | None = None,
        edit: int | None = None,
        relations: Sequence[str] = (),
        facts: Sequence[int] = (),
    ) -> Refinement:
        """The refinement that answers a question; for arguments, errors and the rule see `choose`."""
        return self.choose(choice, model, method=method, edit=edit, relations=relations, facts=facts).refinement

    def choose(
        self,
        choice: RefinementChoice = None,
        model: str | None = None,
        *,
        method: str | None = None,
        edit: int | None = None,
        relations: Sequence[str] = (),
        facts: Sequence[int] = (),
    ) -> ChosenRefinement:
        """The refinement that answers a question, and how it came to be chosen.

        It is the newest complete one by integrated gradients that holds the facts asked about; `kndb.store.choosing`
        has the whole rule.

        Args:
            choice: a refinement, its number, the name of a method, or None.
            model: only refinements of this model.
            method: only those by this method.
            edit: only those of this edit's model, unless another is named.
            relations: the relations that the question is about.
            facts: the numbers of the facts that it is about.

        Raises:
            NotFoundError: if there is none, or no such edit, model or relation.
            UsageError: if the refinement named is of another model or by another method than the one named.
        """
        with self._store.reading() as connection:
            if edit is not None and model is None and (choice is None or isinstance(choice, str)):
                model = store_edits.edit(connection, edit).model
            return choose(connection, choice, model=model, method=method, relations=relations, facts=facts)

    def default_refinements(self) -> dict[str, int]:
        """For each model, the number of the refinement that answers questions which name neither it nor any fact."""
        with self._store.reading() as connection:
            found = (find(connection, model=model.name) for model in store_models.models(connection))
            return {one.refinement.model: one.refinement.id for one in found if one is not None}

    def runs(self, model: str | None = None) -> Rows[Run]:
        """All attribution runs, or those of one model.

        Raises:
            NotFoundError: if there is no such model.
        """
        with self._store.reading() as connection:
            if model is not None:
                store_models.model(connection, model)
            return Rows(runs.runs(connection, model), Run)

    def run(self, run: int, *, worst: int = 20) -> RunFindings:
        """What a run knows of itself: prompts, skipped ones with reasons, and how exact its scores are.

        Args:
            run: its number.
            worst: how many of the prompts with the largest completeness errors are listed, at least 0.

        Raises:
            NotFoundError: if there is no such run.
            UsageError: for a negative `worst`.
        """
        if worst < 0:
            raise UsageError(f"{option('worst')} must be at least 0 (got {worst})")
        with self._store.reading() as connection:
            return run_findings(connection, run, worst)

    def finished(self, run: int) -> str | None:
        """When a run got the last of its results; None while it has not. Counts nothing.

        Raises:
            NotFoundError: if there is no such run.
        """
        with self._store.reading() as connection:
            return runs.finished(connection, run)

    def refinements(self, model: str | None = None) -> Rows[Refinement]:
        """All refinements, or those of one model's runs.

        Raises:
            NotFoundError: if there is no such model.
        """
        with self._store.reading() as connection:
            if model is not None:
                store_models.model(connection, model)
            return Rows(refinements.refinements(connection, model), Refinement)

    # --- sums over facts -----------------------------------------------------------------------------------

    def shared(
        self,
        relations: Sequence[str] = (),
        *,
        refinement: RefinementChoice = None,
        model: str | None = None,
        across: int | None = None,
        top: int | None = None,
        min_share: float = 0.0,
    ) -> Rows[SharedNeuron]:
        """The neurons that facts of some relations hold, the most widely held first.

        Args:
            relations: the relations' keys; none means all, if `across` is given.
            refinement: whose refined sets; see `choose`.
            model: only refinements of this model.
            across: only neurons held by facts of at least so many of these relations, at least 1.
            top: at most so many rows.
            min_share: only neurons held by at least this share of the facts with a refined set, 0 to 1.

        Raises:
            NotFoundError: for an unknown relation or refinement.
            UsageError: for an option out of its range, or neither relations nor `across`.
        """
        if not relations and across is None:
            raise UsageError(
                f"name at least one relation, or how many have to share a neuron, for example: "
                f"{call('query.shared', relations=['P176'])}, or: {call('query.shared', across=3)}"
            )
        for name, number in (("across", across), ("top", top)):
            if number is not None and number < 1:
                raise UsageError(f"{option(name)} must be at least 1 (got {number})")
        given = len(set(relations))
        if across is not None and relations and across > given:
            raise UsageError(f"{option('across', across)} needs at least {across} relations ({given} given)")
        if not 0 <= min_share <= 1:
            raise UsageError(f"{option('min_share')} must be from 0 to 1 (got {min_share})")
        with self._store.reading() as connection:
            ids = store_facts.require_relations(connection, relations)
            chosen = answering(connection, refinement, model=model, relations=relations).id
            found = queries.shared_neurons(connection, chosen, ids, across=across or 1, top=top, min_share=min_share)
            return Rows(found, SharedNeuron)

    def overlap(
        self, relations: Sequence[str] = (), *, refinement: RefinementChoice = None, model: str | None = None
    ) -> Overlap:
        """How many neurons two facts share on average, for each pair of relations; exact.

        Args:
            relations: the relations' keys; none means all.
            refinement: whose refined sets; see `choose`.
            model: only refinements of this model.

        Raises:
            NotFoundError: for an unknown relation or refinement.
        """
        with self._store.reading() as connection:
            ids = store_facts.require_relations(connection, relations)
            chosen = answering(connection, refinement, model=model, relations=relations).id
            return store_overlap.overlap(connection, chosen, ids)

    def layers(
        self,
        relations: Sequence[str] = (),
        *,
        refinement: RefinementChoice = None,
        model: str | None = None,
        by_relation: bool = False,
    ) -> Rows[LayerCount]:
        """How many knowledge neurons each layer has; layers without any are listed too.

        Args:
            relations: the relations' keys; none means all.
            refinement: whose refined sets; see `choose`.
            model: only refinements of this model.
            by_relation: one row per relation and layer, in place of one per layer over all relations.

        Raises:
            NotFoundError: for an unknown relation or refinement.
        """
        with self._store.reading() as connection:
            ids = store_facts.require_relations(connection, relations)
            chosen = answering(connection, refinement, model=model, relations=relations).id
            return Rows(distributions.layers(connection, chosen, ids, by_relation=by_relation), LayerCount)

    def counts(
        self, relations: Sequence[str] = (), *, refinement: RefinementChoice = None, model: str | None = None
    ) -> Rows[NeuronCounts]:
        """How many knowledge neurons facts have: one row per relation by key, and a last one over all of them.

        Facts whose refined set is empty count with size 0. A relation of which the refinement has no attributed facts
        has no row.

        Args:
            relations: the relations' keys; none means all.
            refinement: whose refined sets; see `choose`.
            model: only refinements of this model.

        Raises:
            NotFoundError: for an unknown relation or refinement.
        """
        with self._store.reading() as connection:
            ids = store_facts.require_relations(connection, relations)
            chosen = answering(connection, refinement, model=model, relations=relations).id
            return Rows(distributions.counts(connection, chosen, ids), NeuronCounts)

    def compare(
        self,
        refinement_a: Refinement | int | str,
        refinement_b: Refinement | int | str,
        relations: Sequence[str] = (),
        *,
        model: str | None = None,
    ) -> Comparison:
        """Two refinements side by side, over the facts that have a set in either.

        Args:
            refinement_a: the one: a refinement, its number, or a method's name.
            refinement_b: the other, likewise; of any version, or another model of the same size: neurons are the same
                if layer and number are.
            relations: the relations' keys; none means all.
            model: only refinements of this model, where they are named by their methods.

        Raises:
            NotFoundError: for an unknown relation or refinement.
            UsageError: if the models have other numbers of layers or neurons.
        """
        with self._store.reading() as connection:
            ids = store_facts.require_relations(connection, relations)
            a, b = (
                choose(
                    connection, one, model=model if isinstance(one, str) else None, relations=relations
                ).refinement.id
                for one in (refinement_a, refinement_b)
            )
            return comparisons.compare(connection, a, b, ids)

    def collateral(
        self,
        target: int | str | Neuron | Sequence[Neuron | str],
        *,
        refinement: RefinementChoice = None,
        model: str | None = None,
    ) -> Collateral:
        """The facts and relations that hold the value slots which an edit touches, or would touch.

        The facts that an edit is for are told apart: `edited`.

        Args:
            target: an edit's number, or neurons, at least one.
            refinement: whose refined sets; see `choose`.
            model: only refinements of this model.

        Raises:
            NotFoundError: for an unknown edit or refinement.
            UsageError: for no neurons, one that the refinement's model does not have, or a refinement of another model
                than the edit's.
        """
        with self._store.reading() as connection:
            edited: frozenset[int] = frozenset()
            edit = store_edits.edit(connection, target) if isinstance(target, int) else None
            if edit is not None and model is None and (refinement is None or isinstance(refinement, str)):
                model = edit.model
            chosen = answering(connection, refinement, model=model).id
            if isinstance(target, int) and edit is not None:
                neurons: Sequence[Neuron] = store_collateral.edit_neurons(connection, target, chosen)
                edited = sentences_of_edit(connection, edit).facts
            elif not isinstance(target, int):
                neurons = [_neuron(one) for one in ([target] if isinstance(target, (str, Neuron)) else target)]
            if not neurons:
                raise UsageError(f"name at least one neuron, for example: {call('query.collateral', ['L9.N2827'])}")
            return store_collateral.collateral(connection, chosen, neurons, edited)

    # --- lists to look through -----------------------------------------------------------------------------

    def facts(
        self,
        relations: Sequence[str] = (),
        *,
        text: str | None = None,
        refinement: int | None = None,
        sort: str = "id",
        descending: bool = False,
        start: int = 0,
        count: int | None = None,
    ) -> FactList:
        """Facts in an order, with the sizes of their refined sets, some of them from a place on.

        Args:
            relations: the relations' keys; none means all.
            text: only facts whose subject or object holds this text, in any case.
            refinement: the number of the refinement whose sets are counted; None counts none.
            sort: `id`, `relation`, `subject`, `object` or `neurons`; or `match`: facts of which the text is the subject
                come first, then the object, then those that begin with it, then those of which a word does.
            descending: the largest first.
            start: how many to pass over.
            count: at most so many; None for all.

        Raises:
            NotFoundError: for an unknown relation or refinement.
            UsageError: for an option out of its range.
        """
        if sort not in listings.ORDERS:
            raise UsageError(f"{option('sort')} must be one of {', '.join(listings.ORDERS)} (got {sort!r})")
        if start < 0:
            raise UsageError(f"{option('start')} must be at least 0 (got {start})")
        if count is not None and count < 1:
            raise UsageError(f"{option('count')} must be at least 1 (got {count})")
        with self._store.reading() as connection:
            ids = store_facts.require_relations(connection, relations)
            if refinement is not None:
                refined_model(connection, refinement)
            found, total = listings.listed_facts(
                connection, refinement, ids, text, sort=sort, descending=descending, start=start, count=count
            )
            return FactList(tuple(found), start, total)

    def held_neurons(
        self, relations: Sequence[str] = (), *, refinement: RefinementChoice = None, model: str | None = None
    ) -> Rows[HeldNeuron]:
        """Every neuron that facts of some relations hold, by layer and number, with how many facts do.

        Args:
            relations: the relations' keys; none means all.
            refinement: whose refined sets; see `choose`.
            model: only refinements of this model.

        Raises:
            NotFoundError: for an unknown relation or refinement.
        """
        with self._store.reading() as connection:
            ids = store_facts.require_relations(connection, relations)
            chosen = answering(connection, refinement, model=model, relations=relations).id
            return Rows(listings.held_neurons(connection, chosen, ids), HeldNeuron)

    def beside(
        self, neuron: Neuron | str, *, refinement: RefinementChoice = None, model: str | None = None
    ) -> tuple[Neuron | None, Neuron | None]:
        """The neurons that some fact holds before and after one, by layer and number; None where there is none.

        Raises:
            NotFoundError: if there is no such refinement.
        """
        with self._store.reading() as connection:
            chosen = answering(connection, refinement, model=model).id
            return listings.beside(connection, chosen, _neuron(neuron))

    def near_relations(
        self, relation: str, *, refinement: RefinementChoice = None, model: str | None = None
    ) -> Rows[NearRelation]:
        """How many neurons a fact of a relation and one of another share on average, the nearest relation first.

        The means are those of `overlap`, for one row of its matrix.

        Args:
            relation: the relation's key.
            refinement: whose refined sets; see `choose`.
            model: only refinements of this model.

        Raises:
            NotFoundError: for an unknown relation or refinement.
        """
        with self._store.reading() as connection:
            (number,) = store_facts.require_relations(connection, [relation])
            chosen = answering(connection, refinement, model=model, relations=[relation]).id
            return Rows(listings.near_relations(connection, chosen, number), NearRelation)

    # --- one fact ------------------------------------------------------------------------------------------

    def neurons_of_fact(
        self, fact_id: int, *, refinement: RefinementChoice = None, model: str | None = None
    ) -> Rows[KnowledgeNeuron]:
        """The refined set of one fact.

        Args:
            fact_id: the fact's number.
            refinement: whose refined sets; see `choose`.
            model: only refinements of this model.

        Raises:
            NotFoundError: if there is no such fact or refinement.
        """
        with self._store.reading() as connection:
            store_facts.fact(connection, fact_id)
            chosen = answering(connection, refinement, model=model, facts=[fact_id]).id
            return Rows(queries.neurons_of_fact(connection, chosen, fact_id), KnowledgeNeuron)

    def neuron_counts(self, refinement: RefinementChoice = None, model: str | None = None) -> tuple[int, float]:
        """The number of (fact, neuron) pairs of a refinement, and neurons per attributed fact.

        Raises:
            NotFoundError: if there is no such refinement.
        """
        with self._store.reading() as connection:
            return queries.neuron_counts(connection, answering(connection, refinement, model=model).id)

    def set_sizes(self, *, refinement: int) -> dict[int, int]:
        """How many knowledge neurons each fact has, by the fact's number; facts without any are left out.

        Raises:
            NotFoundError: if there is no such refinement.
        """
        with self._store.reading() as connection:
            return distributions.set_sizes(connection, refinement)

    # --- one neuron, one fact, paraphrases, SQL -------------------------------------------------------------------

    def neuron(
        self, neuron: Neuron | str, *, refinement: RefinementChoice = None, model: str | None = None
    ) -> NeuronFindings:
        """All that a refinement and the edits of its model know of one neuron; see also `ModelCommands.token_effects`.

        Args:
            neuron: the neuron, or its name, such as L9.N2827.
            refinement: whose refined sets; see `choose`.
            model: only refinements of this model.

        Raises:
            NotFoundError: if there is no such refinement.
            UsageError: if the refinement's model has no such neuron.
        """
        with self._store.reading() as connection:
            chosen = answering(connection, refinement, model=model).id
            return query_details.neuron_findings(connection, chosen, _neuron(neuron))

    def model_of(self, refinement: RefinementChoice) -> Model:
        """The model that a refinement's run attributed.

        Raises:
            NotFoundError: if there is no such refinement.
        """
        with self._store.reading() as connection:
            return refined_model(connection, answering(connection, refinement).id)

    def fact(
        self, fact_id: int, *, refinement: RefinementChoice = None, model: str | None = None, nearest: int = 10
    ) -> FactFindings:
        """All that a refinement and its run know of one fact.

        Prompts, coarse sets and votes are of the run as it is now, the refined set is the refinement's: if the run
        went on since, they may differ.

        Args:
            fact_id: the fact's number.
            refinement: whose refined sets, coarse sets and votes; see `choose`.
            model: only refinements of this model.
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
            fact = store_facts.fact(connection, fact_id)
            chosen = answering(connection, refinement, model=model, facts=[fact_id])
            return query_details.fact_findings(connection, chosen, fact, nearest)

    def consistency(
        self,
        relations: Sequence[str] = (),
        *,
        refinement: RefinementChoice = None,
        model: str | None = None,
        progress: Progress | None = None,
    ) -> Rows[Consistency]:
        """How alike the coarse sets of a fact's paraphrases are, relation by relation.

        A fact's consistency is that of `fact`. Facts without one (fewer than two attributed prompts, or only empty
        sets) don't count.

        Args:
            relations: the relations' keys; none named means all that the refinement has.
            refinement: whose coarse sets; see `choose`.
            model: only refinements of this model.
            progress: told of each relation.

        Returns:
            A row for each relation that has such facts, by key, then one for all of them; nothing if there are none.

        Raises:
            NotFoundError: if there is no such refinement or relation.
            AttributionError: if the refinement was imported without scores.
        """
        with self._store.reading() as connection:
            chosen = answering(connection, refinement, model=model, relations=relations)
            return Rows(query_details.consistency(connection, chosen, relations, progress), Consistency)

    def sql(
        self,
        query: str,
        *,
        time_limit: float = USUAL_LIMITS.time_limit,
        most_rows: int = USUAL_LIMITS.most_rows,
        most_bytes: int = USUAL_LIMITS.most_bytes,
    ) -> tuple[list[str], list[tuple[object, ...]]]:
        """Runs one SQL statement that only reads; see `kndb.store.queries.reading_sql`.

        Args:
            query: the statement.
            time_limit: seconds that it may take.
            most_rows: rows that the answer may have.
            most_bytes: bytes that its values may have: of texts in UTF-8 and of blobs; 8 for a number.

        Returns:
            The columns' names, no two alike, and the rows.

        Raises:
            UsageError: if the statement would do more than read, SQLite can't run it, or it goes beyond a limit.
            SchemaVersionError: if another kndb has upgraded the database since it was opened.
        """
        with self._store.reading():
            pass  # The statement has a connection of its own, for a database of any revision.
        return read_sql(self._store.backend, query, SqlLimits(time_limit, most_rows, most_bytes))


def _neuron(named: Neuron | str) -> Neuron:
    return Neuron.parse(named) if isinstance(named, str) else named
