"""`query overlap` against the intersections of all pairs of facts, one by one."""

import random
from itertools import combinations
from math import isclose

import pytest
from backends import POSTGRESQL, SQLITE, Places
from random_sets import add_facts, add_model, draw, refine

from kndb.database import open_database
from kndb.errors import NotFoundError

KEYS = ("P36", "P37", "P176", "P9")


@pytest.fixture(scope="module", params=[(1, SQLITE), (2, SQLITE), (3, SQLITE), (2, POSTGRESQL)])
def drawn(request, tmp_path_factory):
    """A database of 60 facts with few objects, two refinements, and what was drawn for them."""
    seed, backend = request.param
    chance = random.Random(seed)
    keys = [chance.choice(["P36", "P37", "P37", "P176"]) for _ in range(59)] + ["P5"]
    objects = [chance.choice(["Rome", "Paris", "rome", "Ümlaut, with comma"]) for _ in keys]
    places = Places(backend, tmp_path_factory.mktemp("overlap"))
    database = places.new().database()
    add_facts(database, keys, objects)
    add_model(database)
    sets = [draw(chance, 60) for _ in range(2)]
    for held in sets:
        held[60] = {(1, 1)}  # the only fact of P5
        refine(database, held)
    yield database, keys, objects, sets
    database.close()
    places.close()


def mean(values):
    return sum(values) / len(values) if values else None


def same(found, expected):
    return found == expected if found is None or expected is None else isclose(found, expected, rel_tol=1e-12)


def pairs_of(drawn, refinement, chosen):
    """For each two relations the sizes of |A ∩ B|, and whether the objects are the same, over all pairs of facts."""
    _, keys, objects, sets = drawn
    held = sets[refinement - 1]
    facts = [fact for fact in held if held[fact] and keys[fact - 1] in chosen]
    cells = {}
    for one, other in combinations(facts, 2):
        names = tuple(sorted((keys[one - 1], keys[other - 1])))
        alike = objects[one - 1] == objects[other - 1]
        cells.setdefault(names, []).append((len(held[one] & held[other]), alike))
    return sorted({keys[fact - 1] for fact in facts}), cells


@pytest.mark.parametrize("refinement", [1, 2])
@pytest.mark.parametrize("chosen", [(), ("P36",), ("P37", "P36"), ("P5", "P176"), ("P9",)], ids=",".join)
def test_against_all_pairs(drawn, refinement, chosen):
    relations, cells = pairs_of(drawn, refinement, chosen or {*KEYS, "P5"})
    found = drawn[0].query.overlap(chosen, refinement=refinement)
    assert found.relations == tuple(relations)
    expected_names = [(a, b) for place, a in enumerate(relations) for b in relations[place:]]
    assert [(cell.relation, cell.other) for cell in found.cells] == expected_names
    for cell in found.cells:
        sizes = cells.get((cell.relation, cell.other), [])
        alike = [size for size, same_object in sizes if same_object]
        different = [size for size, same_object in sizes if not same_object]
        assert (cell.pairs, cell.same_object_pairs, cell.different_object_pairs) == (
            len(sizes),
            len(alike),
            len(different),
        )
        assert same(cell.mean, mean([size for size, _ in sizes]))
        assert same(cell.same_object_mean, mean(alike))
        assert same(cell.different_object_mean, mean(different))
    if not chosen:
        assert sum(cell.same_object_pairs for cell in found.cells) > 100


@pytest.mark.parametrize("chosen", [(), ("P36",), ("P37", "P36", "P5")], ids=",".join)
def test_summary_against_all_pairs(drawn, chosen):
    _, cells = pairs_of(drawn, 1, chosen or {*KEYS, "P5"})
    found = drawn[0].query.overlap(chosen, refinement=1).summary
    assert [line.where for line in found] == ["within", "across"]
    for line in found:
        of_line = [sizes for names, sizes in cells.items() if (names[0] == names[1]) == (line.where == "within")]
        pooled = [pair for sizes in of_line for pair in sizes]
        assert (line.cells, line.pairs) == (len(of_line), len(pooled))
        assert same(line.pooled_mean, mean([size for size, _ in pooled]))
        assert same(line.mean_of_means, mean([mean([size for size, _ in sizes]) for sizes in of_line]))
        for alike, pairs, value in (
            (True, line.same_object_pairs, line.same_object_mean),
            (False, line.different_object_pairs, line.different_object_mean),
        ):
            chosen_sizes = [size for size, same_object in pooled if same_object is alike]
            assert pairs == len(chosen_sizes)
            assert same(value, mean(chosen_sizes))


def test_the_order_of_relations_in_the_store_does_not_matter(tmp_path):
    """P9 is older in the store than P10, but comes after it by key."""
    with open_database(tmp_path / "kndb.db") as database:
        with database.store.writing() as connection:
            for number, key in enumerate(("P9", "P10"), 1):
                connection.exec_driver_sql("INSERT INTO relation VALUES (?, ?, NULL)", (number, key))
                connection.exec_driver_sql("INSERT INTO fact VALUES (?, ?, 's', 'o', NULL, 's')", (number, number))
        add_model(database)
        refine(database, {1: {(0, 1), (0, 2), (3, 1)}, 2: {(0, 2), (3, 1), (3, 2)}})
        (cell,) = [cell for cell in database.query.overlap(refinement=1).cells if cell.relation != cell.other]
    assert (cell.relation, cell.other, cell.pairs, cell.mean) == ("P10", "P9", 1, 2.0)
    assert (cell.same_object_pairs, cell.same_object_mean, cell.different_object_mean) == (1, 2.0, None)


def test_what_can_not_be_asked(drawn):
    with pytest.raises(NotFoundError, match="'P99'"):
        drawn[0].query.overlap(["P99"], refinement=1)
    with pytest.raises(NotFoundError, match="no refinement 3; there are 1 and 2"):
        drawn[0].query.overlap(refinement=3)
