"""Lists to look through, against plain Python over the same sets."""

import json
from collections import Counter

import pytest
from backends import BOTH

from kndb.errors import NotFoundError, UsageError
from kndb.records.models import Neuron

BACKENDS = BOTH


@pytest.fixture
def database(refined_folders, db_places):
    with db_places.copy_of(refined_folders["bert"], "listings").database() as opened:
        yield opened


def plain_sets(database):
    """Each fact's relation and refined set, one question a fact."""
    return {
        fact.id: (fact.relation, {(row.layer, row.neuron) for row in database.query.neurons_of_fact(fact.id)})
        for fact in database.facts.find()
    }


def test_facts_are_sorted_counted_and_cut_as_plain_python_does(database):
    facts, sets = database.facts.find(), plain_sets(database)
    refinement = database.query.refinement().id
    keys = {
        "id": lambda fact: fact.id,
        "relation": lambda fact: fact.relation,
        "subject": lambda fact: fact.subject,
        "object": lambda fact: fact.object,
        "neurons": lambda fact: len(sets[fact.id][1]),
    }
    for sort, key in keys.items():
        for descending in (False, True):
            found = database.query.facts(refinement=refinement, sort=sort, descending=descending, start=3, count=5)
            wanted = sorted(facts, key=lambda fact: fact.id)
            wanted.sort(key=key, reverse=descending)
            assert [row.fact for row in found.facts] == [fact.id for fact in wanted][3:8], (sort, descending)
            assert [row.neurons for row in found.facts] == [len(sets[row.fact][1]) or None for row in found.facts]
            assert (found.total, found.start) == (len(facts), 3)


def test_facts_are_chosen_by_relation_and_text(database):
    facts = database.facts.find()
    found = database.query.facts(["P36"], text="ROM")
    wanted = [fact.id for fact in facts if fact.relation == "P36" and "rom" in f"{fact.subject} {fact.object}".lower()]
    assert [row.fact for row in found.facts] == wanted
    assert wanted
    assert all(row.neurons is None for row in found.facts)
    assert database.query.facts(text="nothing like this").facts == ()


def test_facts_refuse_what_can_not_be(database):
    for wrong in ({"sort": "colour"}, {"start": -1}, {"count": 0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            database.query.facts(**wrong)
    with pytest.raises(NotFoundError):
        database.query.facts(refinement=99)
    with pytest.raises(NotFoundError):
        database.query.facts(["P9999"])


def test_held_neurons_are_those_of_the_sets(database):
    sets = plain_sets(database)
    for relations in ([], ["P37"]):
        holders, of_relations = Counter(), {}
        for relation, held in sets.values():
            if not relations or relation in relations:
                holders.update(held)
                for place in held:
                    of_relations.setdefault(place, set()).add(relation)
        found = database.query.held_neurons(relations)
        assert [(row.layer, row.neuron) for row in found] == sorted(holders)
        assert {(row.layer, row.neuron): row.facts for row in found} == dict(holders)
        assert all(row.relations == len(of_relations[row.layer, row.neuron]) for row in found)


def test_the_neurons_beside_one_are_the_nearest_held(database):
    held = sorted({place for _, members in plain_sets(database).values() for place in members})
    for place in [*held, (0, 0), (1, 63)]:
        before = max((one for one in held if one < place), default=None)
        after = min((one for one in held if one > place), default=None)
        found = database.query.beside(Neuron(*place))
        assert found == tuple(None if one is None else Neuron(*one) for one in (before, after))


def test_near_relations_are_a_row_of_the_overlap_matrix(database):
    cells = {(cell.relation, cell.other): cell.mean for cell in database.query.overlap().cells}
    (found,) = database.query.near_relations("P36")
    assert found.relation == "P37"
    assert found.mean == pytest.approx(cells["P36", "P37"])
    sets = plain_sets(database).values()
    union = {key: set().union(*(held for relation, held in sets if relation == key)) for key in ("P36", "P37")}
    assert found.neurons == len(union["P36"] & union["P37"])
    with pytest.raises(NotFoundError):
        database.query.near_relations("P9999")


def test_labels_and_templates_are_those_of_the_list(database, small_templates):
    assert database.facts.labels() == {"P36": "capital", "P37": "official language"}
    for key, texts in small_templates.items():
        found = database.facts.templates(key)
        assert [row.text for row in found if not row.held_out] == list(texts)
        assert [row.held_out for row in found] == [False] * len(texts) + [True]
    with pytest.raises(NotFoundError):
        database.facts.templates("P9999")


def test_a_relation_without_sets_has_nothing_near(database, tmp_path):
    extra = tmp_path / "extra.jsonl"
    extra.write_text(json.dumps({"relation": "P1", "subject": "a", "object": "b"}) + "\n", encoding="utf-8")
    database.facts.ingest([extra])
    assert database.query.near_relations("P1") == []


def test_what_a_text_is_the_name_of_comes_first(database):
    facts = database.facts.find()

    def closeness(fact, text):
        names = [(fact.subject or "").casefold(), fact.object.casefold()]
        tests = (
            names[0] == text,
            names[1] == text,
            any(name.startswith(text) for name in names),
            any(f" {text}" in name for name in names),
            any(text in name for name in names),
        )
        return tests.index(True) if any(tests) else None

    for text in ("rome", "fr", "a", "e"):
        places = {fact.id: closeness(fact, text) for fact in facts}
        wanted = sorted((number for number in places if places[number] is not None), key=lambda one: (places[one], one))
        for start, count in ((0, None), (2, 3)):
            found = database.query.facts(text=text.upper(), sort="match", start=start, count=count)
            assert [row.fact for row in found.facts] == wanted[start:][:count]
            assert found.total == len(wanted)
        turned = database.query.facts(text=text, sort="match", descending=True)
        assert [row.fact for row in turned.facts] == wanted[::-1]
