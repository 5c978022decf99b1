"""What a refinement covers: its model, and the relations of which it refined facts.

Queries that sum up a refinement begin here: naming no relations means all that the refinement covers, and a relation
of which it has no attributed facts adds nothing to any of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, text

from ...records.models import Model
from .. import models
from ..refinements import no_refinement
from ..tables import ModelRow, RefinementRow, RunRow

_COVERED = """
SELECT relation.id, relation.key, relation.label, refinement_relation.facts, refinement_relation.facts_with_neurons
FROM refinement_relation JOIN relation ON relation.id = refinement_relation.relation_id
WHERE refinement_relation.refinement_id = :refinement
ORDER BY relation.key
"""


@dataclass(frozen=True)
class Covered:
    """A relation of which a refinement has facts.

    Attributes:
        id: the relation's key in the store.
        facts: its attributed facts.
        facts_with_neurons: those whose refined set is not empty.
    """

    id: int
    key: str
    label: str | None
    facts: int
    facts_with_neurons: int


def covered(connection: Connection, refinement_id: int, relation_ids: Iterable[int] = ()) -> list[Covered]:
    """The chosen relations of which a refinement has attributed facts, by key.

    Args:
        connection: a connection in a transaction.
        refinement_id: the refinement.
        relation_ids: the relations' keys in the store; none means all.

    Raises:
        NotFoundError: if there is no such refinement.
    """
    chosen = set(relation_ids)
    rows = [Covered(*row) for row in connection.execute(text(_COVERED), {"refinement": refinement_id})]
    if not rows:
        refined_model(connection, refinement_id)
    return [row for row in rows if row.facts and (not chosen or row.id in chosen)]


def refined_model(connection: Connection, refinement_id: int) -> Model:
    """The model whose neurons a refinement has.

    Raises:
        NotFoundError: if there is no such refinement.
    """
    name = connection.scalar(
        select(ModelRow.name)
        .join(RunRow, RunRow.model_id == ModelRow.id)
        .join(RefinementRow, RefinementRow.run_id == RunRow.id)
        .where(RefinementRow.id == refinement_id)
    )
    if name is None:
        raise no_refinement(connection, refinement_id)
    return models.model(connection, name)


def selection(refinement_id: int, relations: Sequence[Covered]) -> dict[str, object]:
    """The values `:refinement` and `:relations` of a statement; the latter a JSON list for `kndb_numbers`."""
    return {"refinement": refinement_id, "relations": json.dumps([relation.id for relation in relations])}
