"""Use cases of questions."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UsageError
from ..records import KnowledgeNeuron, Refinement, SharedNeuron
from ..store import facts as store_facts
from ..store import queries, refinements
from ..store.engine import Store


class QueryCommands:
    """Ask which neurons facts and relations share."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def refinement(self, number: int | None = None, model: str | None = None) -> Refinement:
        """The refinement of a number, or the newest, of one model if one is named.

        Raises:
            NotFoundError: if there is none.
        """
        with self._store.reading() as connection:
            if number is not None:
                return refinements.refinement(connection, number)
            return refinements.latest_refinement(connection, model)

    def shared(
        self, relations: Sequence[str], *, refinement: int, top: int | None = None, min_share: float = 0.0
    ) -> list[SharedNeuron]:
        """The neurons that facts of some relations hold, the most widely held first.

        Args:
            relations: the relations' keys, at least one.
            refinement: whose refined sets.
            top: at most so many rows.
            min_share: only neurons held by at least this share of the facts with a refined set, 0 to 1.

        Raises:
            NotFoundError: for an unknown relation.
            UsageError: for an option out of its range.
        """
        if not relations:
            raise UsageError("name at least one relation, for example: kndb query shared --relation P176")
        if top is not None and top < 1:
            raise UsageError(f"found top {top}; expected at least 1")
        if not 0 <= min_share <= 1:
            raise UsageError(f"found min-share {min_share}; expected a number from 0 to 1")
        with self._store.reading() as connection:
            ids = store_facts.require_relations(connection, relations)
            return queries.shared_neurons(connection, refinement, ids, top=top, min_share=min_share)

    def neurons_of_fact(self, fact_id: int, *, refinement: int) -> list[KnowledgeNeuron]:
        """The refined set of one fact."""
        with self._store.reading() as connection:
            return queries.neurons_of_fact(connection, refinement, fact_id)

    def neuron_counts(self, refinement: int) -> tuple[int, float]:
        """The number of (fact, neuron) pairs of a refinement, and neurons per attributed fact."""
        with self._store.reading() as connection:
            return queries.neuron_counts(connection, refinement)
