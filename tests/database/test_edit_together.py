"""Joint plans in a database, on small models that know a few capitals and languages."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from kndb.database.edits.batch import Target, store_batch
from kndb.database.edits.together import draft_together, layers_by_depth, lowest_layer
from kndb.editing.objects import diff_file
from kndb.errors import EditError, NotFoundError, UsageError
from kndb.models.adapter import Blank
from kndb.records.models import Neuron
from kndb.records.together import KeptFacts, TogetherSettings

SETTINGS = TogetherSettings(steps=150, check=25, validation=0.0, drift=0.2, keep=0.5, learning_rate=0.1, bound=20.0)
NEW = {"France": "Tokyo", "Sweden": "Rome", "Japan": "Paris"}


@pytest.fixture
def database(refined):
    """A database of each family in turn, in which model `tiny` is refined."""
    return refined


def targets(database, new=NEW):
    facts = {fact.subject: fact.id for fact in database.facts.find(["P36"])}
    return [Target(facts[subject], to) for subject, to in new.items() if subject in facts]


def draft(database, wanted, settings=SETTINGS, keep=None, **named):
    return draft_together(
        database.store, database.edits._models, "tiny", wanted, settings, keep or KeptFacts(), **named
    )


def store(database, made):
    (edit,) = store_batch(database.store, made.version, [made])
    return edit


def weights(database, version="current"):
    return {name: value.clone() for name, value in database.load_model("tiny", version).named_parameters()}


@pytest.mark.parametrize("scope", ["neurons", "layers"])
def test_each_fact_gets_its_answer_and_every_byte_comes_back(database, scope):
    before, wanted = weights(database), targets(database)
    assert len(wanted) >= 2
    edit = store(database, draft(database, wanted, replace(SETTINGS, scope=scope, keep=0.01, ridge=1.0, drift=100.0)))
    assert edit.recipe.outcome.success == 1.0
    assert edit.kind == "together"
    assert [fact.to for fact in edit.recipe.facts] == [target.to for target in wanted]
    assert all(before[name].equal(value) for name, value in weights(database).items())
    database.edits.apply(edit.id)
    for fact in edit.recipe.facts:
        found = database.models.ask("tiny", f"The capital city of {fact.subject} is called [Y].", top=1)
        assert found[0].token == fact.to
    content = diff_file.read(database.store.objects, edit.object_path, edit.object_hash)
    changed = {name for name, value in weights(database).items() if not before[name].equal(value)}
    assert changed == {diff.parameter for diff in content.parameters}
    database.edits.revert(edit.id)
    assert all(before[name].equal(value) for name, value in weights(database).items())
    assert database.maintenance.check().sound


@pytest.mark.parametrize("family", ["bert"], indirect=False)
def test_what_is_kept_is_drawn_by_the_seed_and_never_asks_for_an_edited_fact(database, family):
    wanted = targets(database)
    keep = KeptFacts(neighbours=3, others=2, prompts=2)
    first, again, other = (
        draft(database, wanted, replace(SETTINGS, steps=1, seed=seed), keep).content.recipe for seed in (0, 0, 1)
    )
    assert first == again
    assert first.kept_facts != other.kept_facts
    relations = {fact.id: fact.relation for fact in database.facts.find()}
    assert sorted(relations[number] for number in first.kept_facts) == ["P36"] * 3 + ["P37"] * 2
    edited = {target.fact for target in wanted}
    assert not edited & set(first.kept_facts)
    everything = draft(database, wanted, replace(SETTINGS, steps=1), KeptFacts(100, 100, None)).content.recipe
    assert set(everything.kept_facts) == set(relations) - edited


def test_steps_go_on_from_a_file(database, tmp_path):
    wanted, path = targets(database), tmp_path / "steps"
    settings = replace(SETTINGS, steps=4, check=2)
    whole = draft(database, wanted, settings)

    class StoppedError(Exception):
        pass

    def stop(taken, _total):
        if taken == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        draft(database, wanted, settings, steps_file=path, progress=stop)
    resumed = draft(database, wanted, settings, steps_file=path)
    assert diff_file.encode(resumed.content) == diff_file.encode(whole.content)


def test_layers_that_are_named_need_no_refinement(fresh):
    database = fresh("bert")
    wanted = targets(database)
    with pytest.raises(NotFoundError):
        draft(database, wanted)
    recipe = draft(database, wanted, replace(SETTINGS, steps=1), layers=(1,)).content.recipe
    assert (recipe.layers, recipe.neurons, recipe.refinement) == ((1,), (), None)
    with pytest.raises(UsageError, match="is of scope"):
        draft(database, wanted, replace(SETTINGS, scope="neurons"), layers=(1,))


def test_rows_that_cannot_be_planned(database):
    france, *_ = targets(database)
    with pytest.raises(UsageError, match="there is no fact to edit"):
        draft(database, [])
    with pytest.raises(UsageError, match=f"fact {france.fact} is named twice"):
        draft(database, [france, replace(france, to="Rome")])
    with pytest.raises(
        EditError, match=r"1 of 1 facts can't be asked for their new answers: rows.csv:2, ' ': the answer is empty"
    ):
        draft(database, [replace(france, to=" ", place="rows.csv:2")])


def test_lowest_layer_against_counting():
    chance = random.Random(0)
    for _ in range(100):
        neurons = [Neuron(chance.randint(0, 19), chance.randint(0, 5)) for _ in range(chance.randint(1, 30))]
        share, held = chance.random(), {neuron.layer for neuron in neurons}
        fitting = [
            layer
            for layer in held
            if sum(one.layer >= layer for one in neurons) >= share * len(neurons) and layer <= max(held) - 5
        ]
        assert lowest_layer(neurons, share) == max(fitting, default=min(held))
    assert lowest_layer([Neuron(0, 1), Neuron(3, 2)], 0.5) == 0, "in a model of few layers, none is left out"
    assert lowest_layer([Neuron(0, 1), *(Neuron(layer, 1) for layer in range(10, 20))], 0.75) == 11


def test_a_deep_causal_model_is_changed_in_its_lower_middle(database, monkeypatch):
    """SmolLM2's thirty layers; a model here has few, so that one of three counts as deep."""
    assert layers_by_depth(30) == (5, 6, 7, 8, 9, 10)
    assert layers_by_depth(11) == ()
    monkeypatch.setattr("kndb.database.edits.together._DEEP", 1)
    made = draft(database, targets(database), replace(SETTINGS, steps=1), report=False)
    count = database.models.get("tiny").layers
    recipe = made.content.recipe
    causal = made.version.network.adapter.blank is Blank.CUT
    assert (recipe.refinement is None) == causal
    if causal:
        assert recipe.layers == tuple(range(count // 6, count // 3 + 1))
