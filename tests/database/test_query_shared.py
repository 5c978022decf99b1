"""`query shared` against a count in plain Python over the rows of `knowledge_neuron`."""

import random
from collections import Counter
from fractions import Fraction

import pytest
from backends import BOTH, Places
from random_sets import add_facts, add_model, draw, refine

from kndb.errors import NotFoundError, UsageError
from kndb.store.facts import require_relations
from kndb.store.queries.neurons import shares


@pytest.fixture(scope="module", params=BOTH)
def crowded(request, tmp_path_factory):
    """A database of four relations and two refinements, whose sets are drawn at random."""
    chance = random.Random(5)
    places = Places(request.param, tmp_path_factory.mktemp("crowded"))
    database = places.new().database()
    add_facts(database, [chance.choice(["P36", "P37", "P37", "P176"]) for _ in range(100)], ["o"] * 100)
    add_model(database)
    assert [refine(database, draw(chance, 100)) for _ in range(2)] == [1, 2]
    yield database
    database.close()
    places.close()


def counted(database, sql, refinement, keys, min_share=0, across=1):
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
        holding = sum(relations[key] > 0 for key in set(keys))
        if holding >= across and Fraction(facts, len(chosen)) >= Fraction(str(min_share)):
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


@pytest.mark.parametrize("refinement", [1, 2])
@pytest.mark.parametrize("keys", [("P36", "P37"), ("P176", "P36", "P37", "P9"), ("P9", "P36"), ()], ids=",".join)
@pytest.mark.parametrize("min_share", [0, 0.1])
def test_across_relations(crowded, sql, refinement, keys, min_share):
    everything = ("P176", "P36", "P37", "P9")
    for across in range(1, len(keys or everything) + 1):
        expected = counted(crowded, sql, refinement, keys or everything, min_share, across)
        found = crowded.query.shared(keys, refinement=refinement, across=across, min_share=min_share)
        assert plain(found) == expected
        assert (
            plain(crowded.query.shared(keys, refinement=refinement, across=across, min_share=min_share, top=2))
            == (expected[:2])
        )
        if across == 2 and keys != ("P9", "P36"):
            assert len(expected) > 0
    assert not expected or keys == ("P36", "P37")  # nobody holds what P9 has none of


def test_shares_of_relations_are_those_of_the_rows(crowded):
    with crowded.store.reading() as connection:
        ids = require_relations(connection, ["P36", "P37"])
        found = shares(connection, 1, ids)
    rows = crowded.query.shared(["P36", "P37"], refinement=1)
    assert found == {(row.layer, row.neuron): row.share for row in rows}


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
    with pytest.raises(UsageError, match="name at least one relation"):
        crowded.query.shared([], refinement=1)
    with pytest.raises(UsageError, match="across must be at least 1"):
        crowded.query.shared(["P36"], refinement=1, across=0)
    with pytest.raises(UsageError, match=r"across=2 needs at least 2 relations \(1 given\)"):
        crowded.query.shared(["P36", "P36"], refinement=1, across=2)
    with pytest.raises(NotFoundError, match=r"no refinement 9; there are 1 and 2\."):
        crowded.query.shared(["P36"], refinement=9)
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
