"""From the sets of neurons that files hold to a refinement: whose facts they are, and how each relation came out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ...advice import Placeholder, call, option
from ...errors import InputError, NotFoundError
from ...exchange.sets import FactName, NeuronSet
from ...records.attribution import KnowledgeNeuron, RelationRefinement
from ...store.exchange import RelationSets
from ...store.fact_index import FactIndex, StoredFact

_SHOWN = 3


@dataclass
class JoinedSets:
    """Sets whose facts the store has, and the names of those that were left out.

    Attributes:
        facts: each fact with its set.
        unjoined: names that no fact of the store has.
        superseded: names of facts that another name stood for first, with another set.
    """

    facts: dict[StoredFact, NeuronSet] = field(default_factory=dict)
    unjoined: list[NeuronSet] = field(default_factory=list)
    superseded: list[NeuronSet] = field(default_factory=list)


def join(index: FactIndex, sets: Iterable[NeuronSet]) -> JoinedSets:
    """Finds the fact of each set. Of several sets of one fact the first counts.

    Raises:
        InputError: if an identifier stands for several facts.
    """
    joined = JoinedSets()
    for one in sets:
        fact = find_fact(index, one.fact, one.file)
        if fact is None:
            joined.unjoined.append(one)
        elif joined.facts.setdefault(fact, one).neurons != one.neurons:
            joined.superseded.append(one)
    return joined


def nothing_joined(names: Sequence[str], *, by_id: bool = False) -> NotFoundError:
    """The error that the store has none of the facts that files name; `by_id` if they name them by sources' ids."""
    found = f"the store has none of the facts in the files: {few(names)}" if names else "the files name no fact"
    # All of them numbers: it may be a file by the store's own numbers, read as if these were the sources' ids.
    number = f". If these are the store's own numbers, say {option('facts_by', 'number')}"
    hint = number if by_id and _all_numbers(names) else ""
    return NotFoundError(
        f"{found}. Ingest the relations that they belong to with: {call('facts.ingest', Placeholder('PATH'))}, then "
        f"import again{hint}"
    )


def _all_numbers(names: Sequence[str]) -> bool:
    return bool(names) and all(name.isdecimal() for name in names)


def find_fact(index: FactIndex, name: FactName, file: str) -> StoredFact | None:
    """The fact of the store that a name in a file stands for; None if there is none.

    Raises:
        InputError: if it stands for several.
    """
    if name.number is not None:
        return index.by_number(name.number)
    found = [] if name.id is None else index.by_id(name.id)
    if len(found) > 1:
        found = [fact for fact in found if _agrees(name, fact)]
    if len(found) == 1:
        return found[0]
    if name.relation is not None and name.subject is not None and name.object is not None:
        return index.by_triple(name.relation, name.subject, name.object)
    shared = [] if name.id is None else index.by_id(name.id)
    if not shared:
        return None
    facts = ", ".join(f"⟨{fact.subject or '(not named)'}, {fact.relation}, {fact.object}⟩" for fact in shared[:2])
    raise InputError(
        f"{file}: the id {name.id!r} stands for {len(shared)} facts of the store, among them {facts}. A CSV file can "
        f"say which: by a column 'relation', or by the store's numbers with {option('facts_by', 'number')}"
    )


def _agrees(name: FactName, fact: StoredFact) -> bool:
    pairs = ((name.relation, fact.relation), (name.subject, fact.subject), (name.object, fact.object))
    return all(given in (None, stored) for given, stored in pairs)


def relation_sets(joined: JoinedSets) -> list[RelationSets]:
    """For each relation of the facts, how the sets came out, and the sets."""
    by_relation: dict[tuple[int, str], list[tuple[StoredFact, NeuronSet]]] = {}
    for fact, one in joined.facts.items():
        by_relation.setdefault((fact.relation_id, fact.relation), []).append((fact, one))
    return [(number, outcome(key, pairs), rows(pairs)) for (number, key), pairs in sorted(by_relation.items())]


def outcome(relation: str, pairs: Sequence[tuple[StoredFact, NeuronSet]]) -> RelationRefinement:
    """How the sets of a relation's facts came out; share and passes are not known."""
    sizes = [len(one.neurons) for _, one in pairs]
    return RelationRefinement(
        relation=relation,
        share=None,
        passes=None,
        facts=len(sizes),
        facts_with_neurons=sum(size > 0 for size in sizes),
        mean_size=sum(sizes) / len(sizes),
    )


def rows(pairs: Sequence[tuple[StoredFact, NeuronSet]]) -> list[KnowledgeNeuron]:
    """The sets as the store keeps them, by fact."""
    ordered = sorted(pairs, key=lambda pair: pair[0].id)
    return [KnowledgeNeuron(fact.id, *neuron) for fact, one in ordered for neuron in one.neurons]


def few(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
