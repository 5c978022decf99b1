"""Optimised edits and previews in a database, on small models that know a few capitals."""

from dataclasses import replace

import pytest

from kndb.database.edits.kept_prompts import draw_neighbours, kept_prompts
from kndb.database.edits.optimize import without_far_below
from kndb.editing.objects import diff_file
from kndb.errors import EditError, UsageError
from kndb.records.edit_settings import EvaluationSettings, Neighbours, OptimizeSettings, UpdateSettings
from kndb.records.facts import Fact
from kndb.records.models import Neuron


@pytest.fixture
def database(refined):
    """A database of each family in turn, in which model `tiny` is refined."""
    return refined


def france(database):
    return next(fact for fact in database.facts.find(["P36"], subject="France"))


def weights(database, version="current"):
    return {name: value.clone() for name, value in database.load_model("tiny", version).named_parameters()}


def rows(database):
    with database.store.reading() as connection:
        return [
            tuple(row)
            for table in ("edit", "edit_neuron")
            for row in connection.exec_driver_sql(f"SELECT * FROM {table}")
        ]


def test_a_new_answer_wins_and_every_byte_comes_back(database):
    fact, before = france(database), weights(database)
    ticks = []
    edit = database.edits.plan_optimize("tiny", fact.id, "Tokyo", progress=lambda *tick: ticks.append(tick))
    assert edit.kind == "optimize"
    assert edit.recipe.outcome.steps == len(ticks)
    assert not any(not before[name].equal(value) for name, value in weights(database).items())
    database.edits.apply(edit.id)
    asked = ("The capital city of France is called [Y].", "The seat of government of France is [Y].")
    assert [database.models.ask("tiny", text, top=1)[0].token for text in asked] == ["Tokyo", "Tokyo"]
    content = diff_file.read(database.store.objects, edit.object_path, edit.object_hash)
    dimensions = {diff.parameter: (0 if diff.layout == "row" else 1, diff.indices) for diff in content.parameters}
    for name, value in weights(database).items():
        if name in dimensions:
            dimension, indices = dimensions[name]
            value.index_copy_(dimension, indices, before[name].index_select(dimension, indices))
        assert value.equal(before[name])
    database.edits.revert(edit.id)
    assert all(before[name].equal(value) for name, value in weights(database).items())


def test_the_same_plan_is_the_same_object_and_another_seed_another(database):
    fact = france(database)
    settings = OptimizeSettings(steps=3)
    hashes = [database.edits.plan_optimize("tiny", fact.id, "Tokyo", settings).object_hash for _ in range(2)]
    assert len(set(hashes)) == 1
    counts = Neighbours(2, 2)
    others = {
        tuple(
            database.edits.drafts.optimize(
                "tiny", fact.id, "Tokyo", OptimizeSettings(steps=1, seed=seed, neighbours=counts)
            ).content.recipe.kept_facts
        )
        for seed in range(4)
    }
    assert len(others) > 1


def test_measures_beside_the_same_optimisation_of_random_neurons(database):
    edit = database.edits.plan_optimize("tiny", france(database).id, "Tokyo")
    measures = database.edits.evaluate(edit.id, EvaluationSettings(sample=8)).measures
    edited, control = measures["edited"], measures["control"]
    assert edited["own"]["success_rate"] == 1
    assert set(edited) == {"summary", "own", "own_held_out", "intra", "inter"}
    assert edited["intra"]["unchanged"] > 0.5
    assert len(measures["control_neurons"]) == edit.neurons
    assert not set(measures["control_neurons"]) & {str(neuron) for neuron in edit.recipe.neurons}
    # The control learns too: it is no less of an optimisation, only of other neurons.
    assert control["own"]["new_answer_probability_after"] > 10 * control["own"]["new_answer_probability_before"]


def test_a_preview_stores_nothing(database):
    fact, before = france(database), rows(database)
    drafts = database.edits.drafts
    for draft, prompts in (
        (drafts.optimize("tiny", fact.id, "Tokyo"), 6),
        (drafts.update("tiny", fact.id, "Tokyo", UpdateSettings(max_share=1.0)), 6),
        (drafts.erase("tiny", "P36"), 8),
    ):
        found = database.edits.preview(draft, top=2)
        assert len(found.answers) == 2 * prompts
        assert [row.rank for row in found.answers] == [1, 2] * prompts
        touched = {fact.fact for fact in found.collateral.facts}
        assert found.collateral.edited == (() if draft.fact_id is None else (fact.id,))
        assert (fact.id in touched) == (draft.fact_id is None)
    assert rows(database) == before
    assert not database.store.objects.exists() or not list(database.store.objects.rglob("*.safetensors"))


def test_a_preview_shows_what_the_edit_then_does(database):
    draft = database.edits.drafts.optimize("tiny", france(database).id, "Tokyo")
    found = database.edits.preview(draft, top=1)
    untouched = [database.models.ask("tiny", row.prompt, top=1)[0] for row in found.answers]
    assert [(row.before, row.probability_before) for row in found.answers] == [
        (answer.token, pytest.approx(answer.probability, rel=1e-4)) for answer in untouched
    ]
    database.edits.apply(database.edits.add(draft).id)
    edited = [database.models.ask("tiny", row.prompt, top=1)[0] for row in found.answers]
    assert [(row.after, row.probability_after) for row in found.answers] == [
        (answer.token, pytest.approx(answer.probability, rel=1e-4)) for answer in edited
    ]


def test_a_rebase_takes_the_steps_anew_on_the_weights_without_the_edit(database):
    fact, settings = france(database), OptimizeSettings(steps=4, seed=3)
    counts = Neighbours(4, 3)
    alone = database.edits.drafts.optimize("tiny", fact.id, "Lima", replace(settings, neighbours=counts)).content
    first = database.edits.plan_optimize("tiny", fact.id, "Tokyo", OptimizeSettings(steps=30))
    database.edits.apply(first.id)
    second = database.edits.plan_optimize("tiny", fact.id, "Lima", replace(settings, neighbours=counts))
    database.edits.apply(second.id)
    on_top = diff_file.read(database.store.objects, second.object_path, second.object_hash)
    done = database.edits.rebase(first.id)
    ((replayed,), version) = done.replayed, database.models.get("tiny").version
    anew = database.edits.get(replayed.edit)
    found = diff_file.read(database.store.objects, anew.object_path, anew.object_hash)
    assert (anew.kind, anew.recipe.rebased_from, anew.applied) == ("optimize", second.id, True)
    for one, other, before in zip(found.parameters, alone.parameters, on_top.parameters, strict=True):
        assert one.indices.equal(other.indices)
        assert one.old.equal(other.old)
        assert one.new.equal(other.new)
        assert not one.old.equal(before.old)
    assert replayed.slots == len(anew.recipe.neurons)
    database.edits.revert(anew.id)
    assert database.models.get("tiny").version == anew.base_version != version


def test_what_is_refused(database):
    fact = france(database)
    with pytest.raises(EditError, match="the model answers 'Paris' already"):
        database.edits.plan_optimize("tiny", fact.id, "Paris")
    with pytest.raises(UsageError, match=r"neighbours must be at least 0 \(got -1\)"):
        Neighbours(-1, 3)
    draft = database.edits.drafts.update("tiny", fact.id, "Tokyo", UpdateSettings(max_share=1.0))
    with pytest.raises(UsageError, match=r"top must be at least 1 \(got 0\)"):
        database.edits.preview(draft, top=0)


def test_neighbours_are_drawn_from_the_relation_and_from_others():
    facts = [Fact(number, f"P{number % 3}", f"s{number}", "o", None) for number in range(30)]
    drawn = draw_neighbours(facts, facts[4], Neighbours(5, 7), seed=1)
    assert drawn == sorted(set(drawn)) == draw_neighbours(facts[::-1], facts[4], Neighbours(5, 7), seed=1)
    assert [sum(number % 3 == 1 for number in drawn), len(drawn), 4 in drawn] == [5, 12, False]
    assert len(draw_neighbours(facts, facts[4], Neighbours(99, 99), seed=1)) == 29


@pytest.mark.parametrize(
    ("layers", "kept"),
    [
        ((0, 21, 21, 29), (21, 21, 29)),
        ((0, 5, 21, 21, 22, 24, 28, 29), (21, 21, 22, 24, 28, 29)),
        ((0, 21, 29), (0, 21, 29)),
        ((0, 1, 21, 29), (0, 1, 21, 29)),
        ((16, 21, 21, 29), (16, 21, 21, 29)),
        ((0, 1, 2, 3), (0, 1, 2, 3)),
    ],
)
def test_neurons_far_below_all_others_are_left_out(layers, kept):
    neurons = [Neuron(layer, place) for place, layer in enumerate(layers)]
    assert without_far_below(neurons[::-1]) == [neuron for neuron in neurons if neuron.layer in kept]


def test_some_prompts_of_each_kept_fact_count_and_all_templates_take_turns(database):
    fact = france(database)
    with database.store.reading() as connection:
        drawn, some = kept_prompts(connection, fact, Neighbours(99, 99, prompts=2), seed=0)
        every = kept_prompts(connection, fact, Neighbours(99, 99, prompts=None), seed=0)[1]
    numbers = [prompt.fact_id for prompt in some]
    assert all(numbers.count(number) == 2 for number in drawn)
    assert len(every) == 5 * len(drawn)
    assert set(some) <= set(every)
    subjects = {number: next(one.subject for one in database.facts.find() if one.id == number) for number in drawn}
    templates = {prompt.text.replace(subjects[prompt.fact_id], "[X]") for prompt in some}
    assert len(templates) == 10
    with pytest.raises(UsageError, match="prompts must be at least 1"):
        Neighbours(prompts=0)
