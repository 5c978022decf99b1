"""All facts of a store by number, identifier and triple, for files that name them in one of these ways."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

_FACTS = """
SELECT fact.id, fact.relation_id, relation.key, fact.subject, fact.object, fact.external_id
FROM fact JOIN relation ON relation.id = fact.relation_id ORDER BY fact.id
"""


@dataclass(frozen=True)
class StoredFact:
    """What finding and naming a fact needs."""

    id: int
    relation_id: int
    relation: str
    subject: str | None
    object: str


class FactIndex:
    """Finds facts.

    Args:
        facts: all facts, each with its own identifier if it has one.
        aliases: further identifiers, each with a fact's number.
    """

    def __init__(self, facts: Iterable[tuple[StoredFact, str | None]], aliases: Iterable[tuple[str, int]] = ()) -> None:
        self._facts: dict[int, StoredFact] = {}
        self._by_id: dict[str, dict[int, None]] = {}
        self._by_triple: dict[tuple[str, str, str], StoredFact] = {}
        for fact, external_id in facts:
            self._facts[fact.id] = fact
            if external_id is not None:
                self._by_id.setdefault(external_id, {})[fact.id] = None
            if fact.subject is not None:
                self._by_triple[fact.relation, fact.subject, fact.object] = fact
        for external_id, number in aliases:
            self._by_id.setdefault(external_id, {})[number] = None

    def by_number(self, number: int) -> StoredFact | None:
        """The fact of a number in the store."""
        return self._facts.get(number)

    def by_triple(self, relation: str, subject: str, object_: str) -> StoredFact | None:
        """The fact of a relation, subject and object."""
        return self._by_triple.get((relation, subject, object_))

    def by_id(self, external_id: str) -> list[StoredFact]:
        """The facts of an identifier, aliases included; sources may use one for several."""
        return [self._facts[number] for number in self._by_id.get(external_id, ())]


def fact_index(connection: Connection) -> FactIndex:
    """Reads the index of all facts of a store."""
    rows = connection.exec_driver_sql(_FACTS)
    aliases = connection.exec_driver_sql("SELECT external_id, fact_id FROM fact_alias")
    return FactIndex(((StoredFact(*values), external_id) for *values, external_id in rows), map(tuple, aliases))
