"""`query shared` against a count in plain Python over the rows of `knowledge_neuron`."""

import random
from collections import Counter
from fractions import Fraction

import pytest

from kndb.database import open_database
from kndb.errors import NotFoundError, UsageError

RELATIONS = ("P36", "P37", "P176", "P9")


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A database of four relations and two refinements, whose rows are drawn at random."""
    chance = random.Random(5)
    database = open_database(tmp_path_factory.mktemp("crowded") / "kndb.db")
    with database.store.writing() as connection:
        execute = connection.exec_driver_sql
        model = "INSERT INTO model VALUES (1, 'tiny', 'x', 'f', 'bert', 4, 20, 'v', 'now')"
        execute(model)
        execute("INSERT INTO run VALUES (1, 1, 'v', 'integrated-gradients', '{}', 'complete', 'now', 'now')")
        for number, key in enumerate(RELATIONS, 1):
            execute("INSERT INTO relation VALUES (?, ?, NULL)", (number, key))
        for refinement in (1, 2):
            execute("INSERT INTO refinement VALUES (?, 1, '{}', 'now')", (refinement,))
        for fact in range(1, 101):
            relation = chance.choice([1, 2, 2, 3])  # P9 has no facts
            execute("INSERT INTO fact VALUES (?, ?, ?, 'o', NULL, 's')", (fact, relation, f"s{fact}"))
            for refinement in (1, 2):
                for neuron in chance.sample(range(80), chance.choice([0, 0, 1, 2, 5, 12])):
                    # Low numbers are common: some neurons are held by nearly all.
                    place = (neuron // 20, int(neuron % 20 * chance.random()))
                    row = (refinement, fact, *place, 3, chance.random())
                    execute("INSERT OR IGNORE INTO knowledge_neuron VALUES (?, ?, ?, ?, ?, ?)", row)
    yield database
    database.close()


def counted(database, sql, refinement, keys, min_share=0):
    """Rows (layer, neuron, facts, share, relations) as the definition says, in plain Python."""
    relation_of = dict(sql(database, "SELECT fact.id, key FROM fact JOIN relation ON relation.id = relation_id"))
    rows = sql(database, "SELECT refinement_id, fact_id, layer, neuron FROM knowledge_neuron")
    held = {(fact, layer, neuron) for number, fact, layer, neuron in rows if number == refinement}
    chosen = {fact for fact, _, _ in held if relation_of[fact] in keys}
    by_neuron = {}
    for fact, layer, neuron in held:
        by_neuron.setdefault((layer, neuron), Counter())[relation_of[fact]] += 1
    found = []
    for place, relations in by_neuron.items():
        facts = sum(relations[key] for key in keys)
        if facts and Fraction(facts, len(chosen)) >= Fraction(str(min_share)):
            found.append((*place, facts, facts / len(chosen), dict(relations)))
    return sorted(found, key=lambda row: (-row[2], row[0], row[1]))


def plain(rows):
    return [(row.layer, row.neuron, row.facts, row.share, dict(row.relations)) for row in rows]


@pytest.mark.parametrize("refinement", [1, 2])
@pytest.mark.parametrize(
    "keys", [("P36",), ("P37",), ("P36", "P37"), ("P176", "P36", "P37", "P9"), ("P9",)], ids=",".join
)
@pytest.mark.parametrize("min_share", [0, 0.02, 0.1, 0.25, 1])
def test_against_a_count(crowded, sql, refinement, keys, min_share):
    expected = counted(crowded, sql, refinement, keys, min_share)
    found = crowded.query.shared(keys, refinement=refinement, min_share=min_share)
    assert plain(found) == expected
    for top in (1, 7, 10_000):
        assert plain(crowded.query.shared(keys, refinement=refinement, top=top, min_share=min_share)) == expected[:top]
    if keys == ("P36", "P37") and min_share == 0:
        assert len(expected) > 20
        assert len({row[2] for row in expected}) > 3


def test_a_share_that_is_met_exactly(crowded, sql):
    rows = counted(crowded, sql, 1, ["P37"])
    for row in rows[:10]:
        found = crowded.query.shared(["P37"], refinement=1, min_share=row[3])
        assert len(found) == sum(other[3] >= row[3] for other in rows)


def test_holders_are_listed_the_most_first(crowded):
    for row in crowded.query.shared(["P36"], refinement=1):
        numbers = list(row.relations.values())
        assert numbers == sorted(numbers, reverse=True)


def test_a_relation_named_twice_counts_once(crowded):
    once = crowded.query.shared(["P36"], refinement=1)
    assert crowded.query.shared(["P36", "P36"], refinement=1) == once


def test_counts(crowded, sql):
    (rows,) = sql(crowded, "SELECT count(*) FROM knowledge_neuron WHERE refinement_id = 1")
    assert crowded.query.neuron_counts(1)[0] == rows[0]


def test_what_can_not_be_asked(crowded):
    with pytest.raises(UsageError, match="at least one relation"):
        crowded.query.shared([], refinement=1)
    with pytest.raises(NotFoundError, match="'P99'"):
        crowded.query.shared(["P36", "P99"], refinement=1)


def test_on_a_model_that_knows_its_facts(attributed, sql, family):
    database = attributed(family)
    refinement = database.attribution.refine()
    for keys in (["P36"], ["P37"], ["P36", "P37"]):
        expected = counted(database, sql, refinement.id, keys, 0.3)
        assert plain(database.query.shared(keys, refinement=refinement.id, min_share=0.3)) == expected
    assert expected
    for fact in database.facts.find():
        held = sql(database, "SELECT layer, neuron FROM knowledge_neuron WHERE fact_id = ? ORDER BY 1, 2", fact.id)
        found = database.query.neurons_of_fact(fact.id, refinement=refinement.id)
        assert [(row.layer, row.neuron) for row in found] == held
