"""`query layers` and `query counts` against counts in plain Python, and numpy's quartiles."""

import random
from collections import Counter
from math import isclose

import numpy as np
import pytest
from random_sets import LAYERS, add_facts, add_model, draw, refine

from kndb.database import open_database
from kndb.errors import NotFoundError
from kndb.store.queries.distributions import quartile

KEYS = ("P176", "P36", "P37")
CHOICES = [(), ("P36",), ("P37", "P36"), ("P9",), ("P176", "P9")]


@pytest.fixture(scope="module", params=[1, 2])
def drawn(request, tmp_path_factory):
    """A database of 70 facts, most of them attributed, in two refinements; and what was drawn."""
    chance = random.Random(request.param)
    keys = [chance.choice(["P36", "P37", "P37", "P176"]) for _ in range(70)]
    database = open_database(tmp_path_factory.mktemp("distributions") / "kndb.db")
    add_facts(database, keys, ["o"] * 70)
    add_model(database)
    sets = []
    for _ in range(2):
        drawn_sets = draw(chance, 70)
        attributed = chance.sample(sorted(drawn_sets), 55)
        # The last layer is left empty, and P176 has no neurons at all.
        sets.append(
            {
                fact: set()
                if keys[fact - 1] == "P176"
                else {place for place in drawn_sets[fact] if place[0] < LAYERS - 1}
                for fact in attributed
            }
        )
        refine(database, sets[-1])
    yield database, keys, sets
    database.close()


@pytest.mark.parametrize("refinement", [1, 2])
@pytest.mark.parametrize("chosen", CHOICES, ids=",".join)
def test_layers(drawn, refinement, chosen):
    database, keys, sets = drawn
    held = sets[refinement - 1]

    def expected(name, wanted):
        places = [place for fact, places in held.items() if keys[fact - 1] in wanted for place in places]
        pairs = Counter(layer for layer, _ in places)
        different = Counter(layer for layer, _ in set(places))
        total = max(1, len(places))
        return [(name, layer, pairs[layer], pairs[layer] / total, different[layer]) for layer in range(LAYERS)]

    def plain(rows):
        return [(row.relation, row.layer, row.pairs, row.share, row.neurons) for row in rows]

    assert plain(database.query.layers(chosen, refinement=refinement)) == expected(None, chosen or KEYS)
    apart = [row for key in sorted(set(chosen or KEYS) & set(KEYS)) for row in expected(key, (key,))]
    assert plain(database.query.layers(chosen, refinement=refinement, by_relation=True)) == apart


@pytest.mark.parametrize("refinement", [1, 2])
@pytest.mark.parametrize("chosen", CHOICES, ids=",".join)
def test_counts(drawn, refinement, chosen):
    database, keys, sets = drawn
    held = sets[refinement - 1]
    present = sorted(set(chosen or KEYS) & set(KEYS))
    found = database.query.counts(chosen, refinement=refinement)
    assert [row.relation for row in found] == ([*present, None] if present else [])
    for row in found:
        of_row = [held[fact] for fact in held if keys[fact - 1] in ((row.relation,) if row.relation else present)]
        sizes = [len(places) for places in of_row]
        assert (row.facts, row.facts_with_none) == (len(sizes), sizes.count(0))
        assert (row.neurons, row.largest) == (len(set().union(*of_row)), max(sizes))
        assert isclose(row.mean, np.mean(sizes))
        quartiles = (row.first_quartile, row.median, row.third_quartile)
        assert quartiles == pytest.approx(np.percentile(sizes, [25, 50, 75]))


@pytest.mark.parametrize("seed", range(30))
def test_quartiles_are_numpys(seed):
    chance = random.Random(seed)
    sizes = [chance.randrange(8) for _ in range(chance.randrange(1, 14))]
    for quarter in (1, 2, 3):
        assert quartile(Counter(sizes), quarter) == pytest.approx(np.percentile(sizes, 25 * quarter))


@pytest.mark.parametrize("name", ["layers", "counts"])
def test_what_can_not_be_asked(drawn, name):
    ask = getattr(drawn[0].query, name)
    with pytest.raises(NotFoundError, match="'P99'"):
        ask(["P99"], refinement=1)
    with pytest.raises(NotFoundError, match="no refinement 3; there are 1 and 2"):
        ask(refinement=3)


@pytest.mark.parametrize("refinement", [1, 2])
def test_the_size_of_each_set(drawn, refinement):
    database, _, sets = drawn
    expected = {fact: len(places) for fact, places in sets[refinement - 1].items() if places}
    assert database.query.set_sizes(refinement=refinement) == expected
    with pytest.raises(NotFoundError):
        database.query.set_sizes(refinement=9)
