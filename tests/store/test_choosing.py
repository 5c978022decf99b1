"""Which refinement answers a question: a table of cases, and random stores against a chooser in plain Python."""

import logging
import random

import pytest
from backends import BOTH, SQLITE, examples
from refined_worlds import FACTS, RELATIONS, World, chosen
from sqlalchemy import event

from kndb.errors import NotFoundError, UsageError
from kndb.store import choosing, refinements

BACKENDS = BOTH

IG, ACTIVATION, RANDOM = "integrated-gradients", "activation", "random"
ALL = tuple(FACTS)
P1, P2, P3 = (tuple(fact for fact in FACTS if FACTS[fact] == key) for key in RELATIONS)


@pytest.fixture
def world(store):
    return World(store)


def ask(world, choice=None, **question):
    with world.store.reading() as connection:
        return choosing.choose(connection, choice, **question)


def number(world, choice=None, **question):
    return ask(world, choice, **question).refinement.id


# What is in the store (a function that fills it, refinements numbered from 1), the question, who answers.
CASES = {
    "the only one": (lambda w: w.refine(w.run(ALL)), {}, 1),
    "of two, the newer": (lambda w: [w.refine(w.run(ALL)) for _ in range(2)], {"relations": ["P1"]}, 2),
    "of two of one run, the newer": (lambda w: [w.refine(run) for run in [w.run(ALL)] * 2], {"facts": [1]}, 2),
    "not the newer activation baseline": (
        lambda w: (w.refine(w.run(ALL)), w.refine(w.run(ALL, method=ACTIVATION))),
        {"relations": ["P1"]},
        1,
    ),
    "not newer random scores": (
        lambda w: (w.refine(w.run(ALL)), w.refine(w.run(ALL, method=RANDOM))),
        {"facts": [4]},
        1,
    ),
    "not newer negative scores": (
        lambda w: (w.refine(w.run(ALL)), w.refine(w.run(ALL), negative=True)),
        {"relations": ["P1"]},
        1,
    ),
    "not a newer import of the relation": (lambda w: (w.refine(w.run(ALL)), w.imports(P1)), {"facts": [1]}, 1),
    "not a newer run that is not complete": (
        lambda w: (w.refine(w.run(ALL)), w.refine(w.run(ALL, complete=False))),
        {"relations": ["P1"]},
        1,
    ),
    "not one made before its run was complete, though it is by now": (
        lambda w: (w.refine(w.run(ALL)), w.refine(w.run(ALL), incomplete=True)),
        {"relations": ["P1"]},
        1,
    ),
    "relations attributed in runs of their own: the first's": (
        lambda w: (w.refine(w.run(P1)), w.refine(w.run(P2))),
        {"relations": ["P1"]},
        1,
    ),
    "relations attributed in runs of their own: the second's": (
        lambda w: (w.refine(w.run(P1)), w.refine(w.run(P2))),
        {"relations": ["P2"]},
        2,
    ),
    "relations attributed in runs of their own: a fact's": (
        lambda w: (w.refine(w.run(P1)), w.refine(w.run(P2))),
        {"facts": [P1[0]]},
        1,
    ),
    "relations of two runs asked together: the one that holds most": (
        lambda w: (w.refine(w.run(P1)), w.refine(w.run(P2))),
        {"relations": ["P1", "P2"]},
        1,
    ),
    "a later run of one fact: not for its relation": (
        lambda w: (w.refine(w.run(P1)), w.refine(w.run(P1[:1]))),
        {"relations": ["P1"]},
        1,
    ),
    "a later run of one fact: for the fact": (
        lambda w: (w.refine(w.run(P1)), w.refine(w.run(P1[:1]))),
        {"facts": [P1[0]]},
        2,
    ),
    "a later run of one fact: not for another": (
        lambda w: (w.refine(w.run(P1)), w.refine(w.run(P1[:1]))),
        {"facts": [P1[1]]},
        1,
    ),
    "a later run of one fact: not where no fact is named": (
        lambda w: (w.refine(w.run(ALL)), w.refine(w.run(P1[:1]))),
        {},
        1,
    ),
    "a fact without neurons is held": (
        lambda w: (w.refine(w.run(P1)), w.refine(w.run(P1), with_neurons=())),
        {"facts": [P1[0]]},
        2,
    ),
    "a relation of facts without neurons is held": (
        lambda w: (w.refine(w.run(P1)), w.refine(w.run(P1), with_neurons=())),
        {"relations": ["P1"]},
        2,
    ),
    "a fact of a relation that is asked too counts once": (
        lambda w: (w.refine(w.run(P1[:1])), w.refine(w.run(P1[1:2]))),
        {"relations": ["P1"], "facts": [P1[0]]},
        2,
    ),
    "a fact that was skipped is not held": (
        lambda w: (w.refine(w.run(P1)), w.refine(w.run(P1[:1], skipped=P1[1:]), with_neurons=())),
        {"facts": [P1[1]]},
        1,
    ),
    "skipped facts do not hide one without neurons": (
        lambda w: (w.refine(w.run(P1)), w.refine(w.run(P1[:1], skipped=P1[1:]), with_neurons=())),
        {"facts": [P1[0]]},
        2,
    ),
    "a run that went on after it was refined": (
        lambda w: (w.refine(w.run(P1)), [w.refine(run) and w.run(P2, again=run) for run in [w.run(P1)]]),
        {"relations": ["P2"]},
        2,  # Nobody holds P2: the newest says so.
    ),
    "some of the facts in a better kind, all in another": (
        lambda w: (w.refine(w.run(P1[:1])), w.refine(w.run(P1, method=ACTIVATION))),
        {"relations": ["P1"]},
        1,
    ),
    "none of the facts in a better kind": (
        lambda w: (w.refine(w.run(P1)), w.imports(P2), w.refine(w.run(P3))),
        {"relations": ["P2"]},
        2,
    ),
    "an incomplete run before a complete baseline": (
        lambda w: (w.refine(w.run(ALL, complete=False)), w.refine(w.run(ALL, method=ACTIVATION))),
        {"relations": ["P1"]},
        1,
    ),
    "negative scores last": (
        lambda w: (w.refine(w.run(ALL, method=RANDOM)), w.refine(w.run(ALL), negative=True)),
        {"relations": ["P1"]},
        1,
    ),
    "an import, if there is nothing else": (lambda w: w.imports(P1, with_neurons=()), {"relations": ["P1"]}, 1),
    "of another model": (
        lambda w: (w.refine(w.run(ALL)), w.refine(w.run(ALL, model="n"))),
        {"facts": [1], "model": "m"},
        1,
    ),
    "of any model": (lambda w: (w.refine(w.run(ALL)), w.refine(w.run(ALL, model="n"))), {"facts": [1]}, 2),
    "by a method": (
        lambda w: (w.refine(w.run(ALL, method=ACTIVATION)), w.refine(w.run(ALL))),
        {"facts": [1], "method": ACTIVATION},
        1,
    ),
    "by a method, complete": (
        lambda w: [w.refine(w.run(ALL, method=ACTIVATION, complete=done)) for done in (True, False)],
        {"relations": ["P1"], "method": ACTIVATION},
        1,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_who_answers(world, name):
    fill, question, answer = CASES[name]
    fill(world)
    assert number(world, **question) == answer
    renamed = {"asked" if key == "facts" else key: value for key, value in question.items()}
    assert chosen(world, **renamed) == answer, "the brute force of the other test"


def draw(world, chance):
    """Some runs, some gone on with, some refinements of them."""
    started = []
    for _ in range(chance.randint(1, 7)):
        some = chance.sample(ALL, chance.randint(1, len(ALL)))
        what = chance.random()
        if what < 0.15:
            world.imports(some, model=chance.choice("mn"), with_neurons=chance.sample(ALL, 4))
            continue
        if what < 0.35 and started:
            run = world.run(
                some, again=chance.choice(started), complete=chance.random() < 0.7, skipped=chance.sample(ALL, 2)
            )
        else:
            method = chance.choice((IG, IG, IG, ACTIVATION, RANDOM))
            run = world.run(
                some,
                method=method,
                model=chance.choice("mmn"),
                complete=chance.random() < 0.7,
                skipped=chance.sample(ALL, chance.choice((0, 3))),
            )
            started.append(run)
        if chance.random() < 0.85:
            settings = {name: True for name in ("negative", "incomplete") if chance.random() < 0.15}
            world.refine(run, chance.choice((None, chance.sample(ALL, 3))), **settings)


@pytest.mark.parametrize(("backend", "seed"), examples(range(40)), indirect=["backend"])
def test_random_stores_against_a_brute_force(store, seed):
    chance = random.Random(seed)
    world = World(store)
    draw(world, chance)
    for _ in range(40):
        relations = chance.sample(list(RELATIONS), chance.choice((0, 0, 1, 2)))
        asked = chance.sample(ALL, chance.choice((0, 0, 1, 3)))
        model, method = chance.choice((None, "m", "n")), chance.choice((None, None, IG, ACTIVATION))
        with world.store.reading() as connection:
            found = choosing.find(connection, relations=relations, facts=asked, model=model, method=method)
        wanted = chosen(world, relations, asked, model, method)
        assert (None if found is None else found.refinement.id) == wanted


# --- how it came to -------------------------------------------------------------------------------------------


def test_how_many_of_the_facts_are_held_is_said(world):
    world.refine(world.run((*P1[:2], *P2)))
    found = ask(world, relations=["P1"], facts=[P2[0], P3[0]])
    assert (found.asked, found.held, found.relations) == (5, 3, ("P1", "P2", "P3"))
    assert "holds 3 of the 5 facts" in " ".join(found.remarks)
    assert ask(world, relations=["P2"]).remarks == ()
    assert ask(world).asked is None


def test_a_newer_one_that_holds_fewer_is_said(world):
    world.refine(world.run(ALL))
    world.refine(world.run(P1[:1]))
    world.refine(world.run(ALL, method=ACTIVATION))
    found = ask(world, relations=["P1"])
    assert found.newer == 2
    assert "Refinement 2 is newer" in found.remarks[0]
    assert ask(world, facts=[1]).newer is None


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (lambda w: w.refine(w.run(P1, method=ACTIVATION)), "by activation"),
        (lambda w: w.imports(P1), "imported"),
        (lambda w: w.refine(w.run(P1), negative=True), "speak against"),
        (lambda w: w.refine(w.run(P1, complete=False)), "not complete"),
    ],
)
def test_what_answers_for_want_of_better_says_loudly_what_it_is(world, fill, words, caplog):
    fill(world)
    found = ask(world, relations=["P1"])
    assert found.warning.startswith("Warning: ")
    assert words in found.warning
    assert found.warning in found.remarks
    with world.store.reading() as connection, caplog.at_level(logging.WARNING):
        assert choosing.answering(connection, relations=["P1"]).id == 1
        assert words in caplog.text
        caplog.clear()
        assert choosing.answering(connection, 1, relations=["P1"]).id == 1
        assert caplog.text == ""  # Who names it knows it.
    assert ask(world, 1).warning is None


def test_a_title_says_method_run_version_and_state(world):
    world.refine(world.run(P1, complete=False), negative=True)
    assert (
        ask(world, 1).refinement.title
        == "refinement 1 of run 1 (integrated-gradients, negative scores, incomplete, m v-m)"
    )


# --- naming one -----------------------------------------------------------------------------------------------


def test_one_is_named_by_itself_its_number_or_its_method(world):
    world.refine(world.run(P1, method=ACTIVATION))
    world.refine(world.run(ALL))
    with world.store.reading() as connection:
        record = refinements.refinement(connection, 1)
    for choice in (1, record, ACTIVATION):
        found = ask(world, choice, relations=["P2"], model="m")
        assert (found.refinement.id, found.named, found.held) == (1, True, 0)
    assert number(world, 1, method=ACTIVATION) == 1
    assert number(world, ACTIVATION, method=ACTIVATION) == 1


def test_what_contradicts_itself_is_refused(world):
    world.refine(world.run(P1, method=ACTIVATION))
    world.refine(world.run(P1, model="n"))
    with pytest.raises(UsageError, match="refinement=1 is by activation, not integrated-gradients"):
        ask(world, 1, method=IG)
    with pytest.raises(UsageError, match="refinement=1 is of model 'm', not 'n'"):
        ask(world, 1, model="n")
    with pytest.raises(UsageError, match="names the method activation"):
        ask(world, ACTIVATION, method=IG)
    with pytest.raises(NotFoundError, match=r"no refinement 9; there are 1 and 2\."):
        ask(world, 9)
    with pytest.raises(NotFoundError, match="did you mean activation"):
        ask(world, method="activations")
    with pytest.raises(NotFoundError, match=r"of model 'n' is by this method.*by integrated-gradients"):
        ask(world, ACTIVATION, model="n")
    for choice in (None, 1):
        with pytest.raises(NotFoundError, match="no model"):
            ask(world, choice, model="o")
    with pytest.raises(NotFoundError, match="no relation 'P9'"):
        ask(world, relations=["P9"])


def test_where_there_is_none_the_next_step_is_named(world):
    with pytest.raises(
        NotFoundError, match=r"attribution.run\(model=NAME, relations=\['P1'\]\), then: db.attribution.refine"
    ):
        ask(world, relations=["P1"])
    world.run(P1)
    with pytest.raises(NotFoundError, match=r"db.attribution.refine\(run=1\)"):
        ask(world, relations=["P1"], model="m")


# --- at scale -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [SQLITE], indirect=True)
def test_no_table_of_scores_is_read_and_no_whole_run(world):
    world.refine(world.run((P1[0], P2[0], P3[0])), with_neurons=P1)
    world.refine(world.run(P1))
    statements = {}

    def remember(_connection, _cursor, statement, parameters, *_rest):
        statements[statement] = parameters

    engine = world.store._engine
    event.listen(engine, "before_cursor_execute", remember)
    ask(world, relations=["P1"], facts=[*P2, *P3])
    event.remove(engine, "before_cursor_execute", remember)
    steps = []
    with world.store.reading() as connection:
        for statement, parameters in statements.items():
            if statement.lstrip().startswith("SELECT"):
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                steps += [row[3] for row in rows]
    assert len(statements) > 4
    assert [step for step in steps if "score" in step or "SCAN prompt" in step or "SCAN knowledge" in step] == []
    results = [step for step in steps if "result" in step and "prompt" in step]
    assert results
    assert all("run_id=? AND prompt_id=?" in step for step in results if "SEARCH result" in step)
    assert not [step for step in steps if step.startswith("SCAN result")]
