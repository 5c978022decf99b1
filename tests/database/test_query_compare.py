"""`query compare` and `query collateral` against sets in plain Python; the numbers that messages name."""

import random
from math import isclose

import pytest
from random_sets import LAYERS, NEURONS, add_facts, add_model, draw, refine

from kndb.database import open_database
from kndb.errors import NotFoundError, UsageError
from kndb.records.models import Neuron
from kndb.store.numbers import there_are

FACTS = 60
EDIT = "INSERT INTO edit VALUES (?, ?, 'erase', '{}', ?, 'path', 'v', NULL, NULL, 'now', NULL, NULL, NULL)"
SLOT = "INSERT INTO edit_neuron VALUES (?, ?, ?, 'weight', 'old', 'new', 'old')"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A database with refinements 1 to 3 of two models of the same size, 4 of a larger one; and what was drawn."""
    chance = random.Random(8)
    keys = [chance.choice(["P36", "P37", "P37", "P176"]) for _ in range(FACTS)]
    database = open_database(tmp_path_factory.mktemp("compare") / "kndb.db")
    add_facts(database, keys, [f"o{number}" for number in range(FACTS)])
    add_model(database, 1)
    add_model(database, 2)
    add_model(database, 3, layers=LAYERS + 1)
    one = draw(chance, FACTS)
    near = {fact: {place for place in places if chance.random() < 0.7} for fact, places in one.items()}
    other = draw(chance, FACTS - 10)
    sets = {1: one, 2: near, 3: other, 4: other}
    for number, run in ((1, 1), (2, 1), (3, 2), (4, 3)):
        assert refine(database, sets[number], run=run, settings={"threshold": number / 10}) == number
    with database.store.writing() as connection:
        for edit, model in ((1, 1), (2, 2)):
            connection.exec_driver_sql(EDIT, (edit, model, f"hash {edit}"))
            for place in [(0, 0), (1, 0), (2, 3)][: 4 - edit]:
                connection.exec_driver_sql(SLOT, (edit, *place))
    yield database, keys, sets
    database.close()


@pytest.mark.parametrize(("a", "b"), [(1, 2), (2, 1), (1, 3), (3, 3)])
@pytest.mark.parametrize("chosen", [(), ("P36",), ("P37", "P176"), ("P9",)], ids=",".join)
def test_compare(drawn, a, b, chosen):
    database, keys, sets = drawn
    pairs = {
        fact: (sets[a].get(fact, set()), sets[b].get(fact, set()))
        for fact in range(1, FACTS + 1)
        if keys[fact - 1] in (chosen or keys)
    }
    pairs = {fact: pair for fact, pair in pairs.items() if any(pair)}
    found = database.query.compare(a, b, chosen)
    expected = [
        (fact, keys[fact - 1], len(one), len(other), len(one & other), len(one & other) / len(one | other))
        for fact, (one, other) in pairs.items()
    ]
    rows = [(row.fact, row.relation, row.size_a, row.size_b, row.shared, row.jaccard) for row in found.facts]
    assert rows == sorted(expected, key=lambda row: (row[1], row[0]))
    names = sorted({keys[fact - 1] for fact in pairs})
    assert [row.relation for row in found.relations] == ([*names, None] if names else [])
    for row in found.relations:
        of_row = [pair for fact, pair in pairs.items() if row.relation in (None, keys[fact - 1])]
        number = len(of_row)
        assert row.facts == number
        assert row.facts_in_both == sum(bool(one) and bool(other) for one, other in of_row)
        assert row.identical == sum(one == other for one, other in of_row)
        assert isclose(row.mean_size_a, sum(len(one) for one, _ in of_row) / number)
        assert isclose(row.mean_size_b, sum(len(other) for _, other in of_row) / number)
        assert isclose(row.mean_shared, sum(len(one & other) for one, other in of_row) / number)
        assert isclose(row.mean_jaccard, sum(len(one & other) / len(one | other) for one, other in of_row) / number)
    assert bool(found.facts) == (chosen != ("P9",))


def test_compare_says_how_each_was_made(drawn):
    found = drawn[0].query.compare(1, 3)
    assert found.settings_a == {
        "refinement": 1,
        "model": "model-1",
        "fingerprint": "fingerprint-1",
        "version": "v",
        "run": 1,
        "method": "integrated-gradients",
        "run_settings": {"steps": 3},
        "refinement_settings": {"threshold": 0.1},
    }
    assert (found.settings_b["model"], found.settings_b["refinement_settings"]) == ("model-2", {"threshold": 0.3})


def test_compare_refuses_models_of_other_sizes(drawn):
    with pytest.raises(UsageError, match=r"'model-1' \(4 layers of 20 neurons\).*'model-3' \(5 of 20\)"):
        drawn[0].query.compare(1, 4)
    with pytest.raises(NotFoundError, match="no refinement 5; there are 1, 2, 3 and 4"):
        drawn[0].query.compare(1, 5)


@pytest.mark.parametrize("refinement", [1, 3])
@pytest.mark.parametrize(
    "places", [[(0, 0)], [(0, 0), (0, 0), (1, 2), (2, 1)], [(3, 19)], [(layer, 0) for layer in range(LAYERS)]]
)
def test_collateral_of_neurons(drawn, refinement, places):
    check_collateral(drawn, refinement, [Neuron(*place) for place in places], places)


def test_collateral_of_an_edit(drawn):
    check_collateral(drawn, 1, 1, [(0, 0), (1, 0), (2, 3)])
    check_collateral(drawn, 3, 2, [(0, 0), (1, 0)])


def check_collateral(drawn, refinement, target, places):
    database, keys, sets = drawn
    held = sets[refinement]
    found = database.query.collateral(target, refinement=refinement)
    assert found.neurons == tuple(f"L{layer}.N{neuron}" for layer, neuron in sorted(set(places)))
    touched = {fact: sorted(held[fact] & set(places)) for fact in held if held[fact] & set(places)}
    facts = sorted(touched, key=lambda fact: (-len(touched[fact]), fact))
    assert [(row.fact, row.relation, row.object, row.neurons) for row in found.facts] == [
        (
            fact,
            keys[fact - 1],
            f"o{fact - 1}",
            tuple(f"L{layer}.N{neuron}" for layer, neuron in touched[fact]),
        )
        for fact in facts
    ]
    rows = []
    for key in {keys[fact - 1] for fact in touched}:
        of_key = [fact for fact in touched if keys[fact - 1] == key]
        having = sum(bool(held[fact]) for fact in held if keys[fact - 1] == key)
        neurons = {place for fact in of_key for place in touched[fact]}
        rows.append((key, f"label of {key}", len(of_key), len(of_key) / having, len(neurons)))
    rows.sort(key=lambda row: (-row[2], row[0]))
    assert [(row.relation, row.label, row.facts, row.share, row.neurons) for row in found.relations] == rows


def test_collateral_refuses(drawn):
    query = drawn[0].query
    for outside in (Neuron(LAYERS, 0), Neuron(0, NEURONS)):
        with pytest.raises(UsageError, match=rf"{outside}.*L3.N19"):
            query.collateral([Neuron(0, 0), outside], refinement=1)
    with pytest.raises(UsageError, match="at least one neuron"):
        query.collateral([], refinement=1)
    with pytest.raises(NotFoundError, match="no edit 3"):
        query.collateral(3, refinement=1)
    with pytest.raises(UsageError, match="edit 2 is of model 'model-2', refinement 1 of 'model-1'"):
        query.collateral(2, refinement=1)


def test_the_refinement_of_a_question(drawn):
    query = drawn[0].query
    assert query.refinement().id == 2  # It holds more facts than those of the other models.
    assert [query.refinement(model=f"model-{number}").id for number in (1, 2, 3)] == [2, 3, 4]
    assert [query.refinement(edit=number).id for number in (1, 2)] == [2, 3]
    assert query.refinement(edit=1, model="model-2").id == 3
    assert query.refinement(1, edit=2).id == 1
    with pytest.raises(NotFoundError, match="no edit 3"):
        query.refinement(edit=3)
    assert query.refinement(1, model="model-1").id == 1
    with pytest.raises(UsageError, match="refinement=1 is of model 'model-1', not 'model-2'"):
        query.refinement(1, model="model-2")
    for number in (None, 1):
        with pytest.raises(NotFoundError, match="did you mean model-"):
            query.refinement(number, model="modell-1")


def test_numbers_that_there_are():
    assert there_are([], 1) == "there is none"
    assert there_are([4], 1) == "there is 4"
    assert there_are([3, 1, 2], 9) == "there are 1, 2 and 3"
    assert there_are(range(1, 11), 11) == "the nearest are 8, 9 and 10"
    assert there_are([1, 5, 6, 8, 20, 30], 7) == "the nearest are 5, 6 and 8"


def test_names_where_values_belong(attributed, family):
    """A neuron's name is a neuron; a text in place of a list is refused, not taken letter by letter."""
    database = attributed(family)
    database.attribution.refine()
    held = database.query.shared(["P36"])[0]
    name = f"L{held.layer}.N{held.neuron}"
    assert database.query.neuron(name) == database.query.neuron(Neuron(held.layer, held.neuron))
    assert database.query.collateral([name]) == database.query.collateral([Neuron(held.layer, held.neuron)])
    assert database.query.collateral(name) == database.query.collateral([name])
    for asked in (lambda: database.query.shared("P36"), lambda: database.facts.find("P36")):
        with pytest.raises(UsageError, match=r"relations must be a list of keys, such as \['P36'\]"):
            asked()
    with pytest.raises(UsageError, match="must be a number, such as 3"):
        database.facts.get("3")
