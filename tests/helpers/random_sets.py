"""Stores whose refined sets are drawn at random: what the aggregate queries are counted on."""

from __future__ import annotations

import random
from collections.abc import Sequence

from kndb.database import Database
from kndb.records.attribution import KnowledgeNeuron, RelationRefinement
from kndb.store.refinements import add_refinement

LAYERS, NEURONS = 4, 20
SIZES = (0, 0, 1, 2, 5, 12)


def add_facts(database: Database, of_relation: Sequence[str], objects: Sequence[str]) -> None:
    """Writes facts 1, 2, … of these relations with these objects; and relation P9, of which there is none."""
    with database.store.writing() as connection:
        execute = connection.exec_driver_sql
        for number, key in enumerate([*dict.fromkeys(sorted(of_relation)), "P9"], 1):
            execute("INSERT INTO relation VALUES (?, ?, ?)", (number, key, f"label of {key}"))
        for number, (key, name) in enumerate(zip(of_relation, objects, strict=True), 1):
            execute(
                "INSERT INTO fact SELECT ?, id, ?, ?, NULL, 's' FROM relation WHERE key = ?",
                (number, f"s{number}", name, key),
            )


def add_model(database: Database, number: int = 1, *, layers: int = LAYERS, neurons: int = NEURONS) -> None:
    """Writes a model with a complete run; both have the number given."""
    with database.store.writing() as connection:
        execute = connection.exec_driver_sql
        execute(
            "INSERT INTO model VALUES (?, ?, 'x', ?, 'bert', ?, ?, 'v', 'now', NULL)",
            (number, f"model-{number}", f"fingerprint-{number}", layers, neurons),
        )
        execute(
            "INSERT INTO run VALUES (?, ?, 'v', 'integrated-gradients', '{\"steps\": 3}', 'complete', 'now', 'now')",
            (number, number),
        )


def draw(chance: random.Random, facts: int, sizes: Sequence[int] = SIZES) -> dict[int, set[tuple[int, int]]]:
    """A set of (layer, neuron) for each fact, of about one of the sizes; low numbers are common."""
    sets = {}
    for fact in range(1, facts + 1):
        flat = chance.sample(range(LAYERS * NEURONS), chance.choice(sizes))
        sets[fact] = {(place // NEURONS, int(place % NEURONS * chance.random())) for place in flat}
    return sets


def refine(
    database: Database,
    sets: dict[int, set[tuple[int, int]]],
    *,
    run: int = 1,
    settings: dict[str, object] | None = None,
) -> int:
    """Writes a refinement in which these facts, no others, are attributed and have these sets."""
    with database.store.writing() as connection:
        found = connection.exec_driver_sql("SELECT fact.id, key FROM fact JOIN relation ON relation.id = relation_id")
        keys = {fact: key for fact, key in found if fact in sets}
        outcomes = []
        for number, key in connection.exec_driver_sql("SELECT id, key FROM relation").all():
            facts = [fact for fact in sets if keys[fact] == key]
            rows = [KnowledgeNeuron(fact, *place, 3, 0.5) for fact in facts for place in sorted(sets[fact])]
            if facts:
                having = sum(bool(sets[fact]) for fact in facts)
                outcome = RelationRefinement(key, 0.7, 1, len(facts), having, len(rows) / len(facts))
                outcomes.append((number, outcome, rows))
        return add_refinement(connection, run, settings or {}, outcomes)
