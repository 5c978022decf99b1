"""`query neuron` against a count in plain Python, and the effects of value slots on tokens against the model's head."""

import json
import random
import statistics

import pytest
import torch
from backends import BOTH, Places

from kndb.database import activating
from kndb.errors import ModelError, NotFoundError, UsageError
from kndb.records.models import Neuron

RELATIONS = {1: "P36", 2: "P37", 3: "P176"}


@pytest.fixture(scope="module", params=BOTH)
def crowded(request, tmp_path_factory):
    """Two refinements of two models' runs, with rows drawn at random, some of them without a score."""
    chance = random.Random(7)
    places = Places(request.param, tmp_path_factory.mktemp("neurons"))
    database = places.new().database()
    with database.store.writing() as connection:
        execute = connection.exec_driver_sql
        execute("INSERT INTO model VALUES (1, 'tiny', 'x', 'f', 'bert', 2, 6, 'v', 'now', NULL)")
        execute("INSERT INTO model VALUES (2, 'other', '', '', 'unknown', 3, 6, 'v', 'now', NULL)")
        for number, key in RELATIONS.items():
            execute("INSERT INTO relation VALUES (?, ?, ?)", (number, key, f"label of {key}"))
        for number in (1, 2):
            execute("INSERT INTO run VALUES (?, ?, 'v', 'x', '{}', 'complete', 'now', 'now')", (number, number))
            execute("INSERT INTO refinement VALUES (?, ?, '{}', 'now')", (number, number))
        relation_of = {fact: chance.choice([1, 2, 2, 3]) for fact in range(1, 61)}
        for fact, relation in relation_of.items():
            execute("INSERT INTO fact VALUES (?, ?, ?, 'o', NULL, 's')", (fact, relation, f"s{fact}"))
        rows = []
        for refinement in (1, 2):
            for fact in range(1, 61):
                for place in chance.sample(range(12), chance.choice([0, 0, 1, 4])):
                    score = chance.choice([None, chance.uniform(-1, 1)])
                    rows.append((refinement, fact, place // 6, int(place % 6 * chance.random()), 3, score))
        for row in rows:
            execute("INSERT INTO knowledge_neuron VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)
        execute(
            "INSERT INTO relation_neuron SELECT refinement_id, relation_id, layer, neuron, count(*)"
            " FROM knowledge_neuron JOIN fact ON fact.id = fact_id GROUP BY 1, 2, 3, 4"
        )
        execute(
            "INSERT INTO refinement_relation SELECT refinement_id, relation_id, 0.7, 0, 60, count(DISTINCT fact_id), 1"
            " FROM knowledge_neuron JOIN fact ON fact.id = fact_id GROUP BY 1, 2"
        )
        for number, model, fact, relation in (
            (1, 1, 5, relation_of[5]),
            (2, 1, None, 2),
            (3, 1, None, None),
            (4, 2, 5, 1),
        ):
            execute(
                "INSERT INTO edit VALUES (?, ?, ?, '{}', ?, 'p', 'v', ?, ?, ?, NULL, NULL, NULL)",
                (number, model, "update" if fact else "erase", f"h{number}", fact, relation, f"day {number}"),
            )
            execute(
                "INSERT INTO edit_neuron VALUES (?, 1, 3, 'w', 'a', 'b', 'a'), (?, 0, ?, 'w', 'a', 'b', 'a')",
                (number, number, number),
            )
        execute("INSERT INTO applied_edit VALUES (1, 0, 2), (2, 0, 4)")
    yield database
    database.close()
    places.close()


@pytest.mark.parametrize("refinement", [1, 2])
def test_holders(crowded, sql, refinement):
    held = sql(
        crowded,
        "SELECT layer, neuron, fact_id, key, label, subject, object, prompts, mean_score FROM knowledge_neuron"
        " JOIN fact ON fact.id = fact_id JOIN relation ON relation.id = relation_id WHERE refinement_id = ?",
        refinement,
    )
    with_a_set = {(row[3], row[2]) for row in held}
    for layer in range(2):
        for number in range(6):
            rows = [row[2:] for row in held if row[:2] == (layer, number)]
            found = crowded.query.neuron(Neuron(layer, number), refinement=refinement)
            assert (found.layer, found.neuron, found.facts_holding) == (layer, number, len(rows))
            assert found.mean_score == mean(rows)
            expected = sorted(rows, key=lambda row: (row[-1] is None, -abs(row[-1] or 0), row[0]))
            assert [
                (row.fact, row.relation, row.subject, row.object, row.prompts, row.mean_score) for row in found.facts
            ] == [(fact, key, *others) for fact, key, _, *others in expected]
            for row in found.relations:
                some = [one for one in rows if one[1] == row.relation]
                total = sum(key == row.relation for key, _ in with_a_set)
                assert (row.label, row.facts, row.mean_score) == (some[0][2], len(some), mean(some))
                assert row.share == pytest.approx(len(some) / total)
            order = [(-row.facts, row.relation) for row in found.relations]
            assert order == sorted(order)
            assert {row.relation for row in found.relations} == {row[1] for row in rows}
    assert len(held) > 40


def mean(rows):
    scores = [row[-1] for row in rows if row[-1] is not None]
    return pytest.approx(statistics.fmean(scores)) if scores else None


def test_edits_that_touch_it(crowded):
    found = crowded.query.neuron(Neuron(1, 3), refinement=1).edits
    title = crowded.facts.get(5).title
    assert [(row.edit, row.kind, row.target, row.applied, row.created_at) for row in found] == [
        (1, "update", title, False, "day 1"),
        (2, "erase", "P37", True, "day 2"),
        (3, "erase", "(no longer in the store)", False, "day 3"),
    ]
    assert [row.edit for row in crowded.query.neuron(Neuron(1, 3), refinement=2).edits] == [4]
    assert [row.edit for row in crowded.query.neuron(Neuron(0, 2), refinement=1).edits] == [2]
    assert crowded.query.neuron(Neuron(0, 5), refinement=1).edits == ()


def test_neurons_that_there_are_not(crowded):
    for neuron in (Neuron(2, 0), Neuron(0, 6)):
        with pytest.raises(UsageError, match=r"2 layers of 6 neurons, from L0\.N0 to L1\.N5"):
            crowded.query.neuron(neuron, refinement=1)
    assert crowded.query.neuron(Neuron(2, 0), refinement=2).facts == ()
    with pytest.raises(NotFoundError, match="refinement 9"):
        crowded.query.neuron(Neuron(0, 0), refinement=9)
    assert crowded.query.model_of(2).name == "other"
    with pytest.raises(ModelError, match=r"db.models.add\(PATH, name='other'\)"):
        crowded.models.token_effects("other", Neuron(0, 0))


def heads(family, model, neuron):
    """The logits of a value slot and of zeros, by the transformers model's own modules."""
    with torch.no_grad():
        if family == "bert":
            slot = model.bert.encoder.layer[neuron.layer].output.dense.weight[:, neuron.index]
            return model.cls(slot[None])[0], model.cls(torch.zeros_like(slot)[None])[0]
        slot = model.transformer.h[neuron.layer].mlp.c_proj.weight[neuron.index]
        norm = model.transformer.ln_f
        return tuple(model.lm_head(norm(row)) for row in (slot, torch.zeros_like(slot)))


def test_token_effects(attributed, family):
    database = attributed(family)
    loaded = database.models.load("tiny")
    for neuron in (Neuron(0, 3), Neuron(1, 63)):
        with_slot, without = heads(family, loaded.model.float(), neuron)
        effects = dict(enumerate((with_slot - without).tolist()))
        promoted, demoted = database.models.token_effects("tiny", neuron, top=7)
        for found, sign in ((promoted, 1), (demoted, -1)):
            expected = sorted(effects, key=lambda token, sign=sign: -sign * effects[token])[:7]
            assert [row.effect for row in found] == pytest.approx([effects[token] for token in expected], abs=1e-5)
            assert [row.token for row in found] == [loaded.loaded.decode(token) for token in expected]
        everything = database.models.token_effects("tiny", neuron, top=10**6)
        assert sum(map(len, everything)) <= len(loaded.tokenizer)
    with pytest.raises(UsageError, match="2 layers of 64 neurons"):
        database.models.token_effects("tiny", Neuron(2, 0))
    with pytest.raises(UsageError, match=r"top must be at least 1 \(got 0\)"):
        database.models.token_effects("tiny", Neuron(0, 0), top=0)


def activation_of(family, loaded, text, neuron):
    """A neuron's activation at the blank, by a hook on the transformers model's own module."""
    seen = []
    if family == "bert":
        inputs = loaded.tokenizer(text.replace("[Y]", "[MASK]"), return_tensors="pt")
        place = inputs["input_ids"][0].tolist().index(loaded.tokenizer.mask_token_id)
        module = loaded.model.bert.encoder.layer[neuron.layer].intermediate
    else:
        inputs, place = loaded.tokenizer(text.partition("[Y]")[0].rstrip(), return_tensors="pt"), -1
        module = loaded.model.transformer.h[neuron.layer].mlp.act
    hook = module.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        loaded.model.float()(**inputs)
    hook.remove()
    return float(seen[0][0, place, neuron.index])


def test_activating_prompts(attributed, family):
    database, neuron = attributed(family), Neuron(1, 5)
    facts, loaded = {one.id: one for one in database.facts.find()}, database.models.load("tiny")
    holders = sorted(facts)[1:3]
    found, lowest = database.models.activating_prompts("tiny", neuron, holders=holders, top=10**6, sample=10**6)
    assert lowest == found[::-1]
    assert sorted(row.fact for row in found) == sorted(facts)
    texts = set(database.query.sql("SELECT fact_id, text FROM prompt")[1])
    for row in found:
        assert (row.fact, row.text) in texts
        fact = facts[row.fact]
        assert (row.relation, row.subject, row.object) == (fact.relation, fact.subject, fact.object)
        assert row.holds is (row.fact in holders)
        assert row.activation == pytest.approx(activation_of(family, loaded, row.text, neuron), abs=1e-5)
    assert [row.activation for row in found] == sorted((row.activation for row in found), reverse=True)
    few = database.models.activating_prompts("tiny", neuron, holders=holders, top=2, sample=2, seed=1)
    assert sum(row.holds for row in few[0]) == 1
    assert few == database.models.activating_prompts("tiny", neuron, holders=holders, top=2, sample=2, seed=1)
    with pytest.raises(UsageError, match="2 layers of 64 neurons"):
        database.models.activating_prompts("tiny", Neuron(2, 0))
    for name in ("top", "sample"):
        with pytest.raises(UsageError, match=rf"{name} must be at least 1 \(got 0\)"):
            database.models.activating_prompts("tiny", neuron, **{name: 0})


def test_activations_are_read_once_for_all_neurons_that_are_asked_about(attributed, monkeypatch):
    database = attributed("gpt2")
    refinement = database.attribution.refine().id
    *held, other = [Neuron(one.layer, one.neuron) for one in database.query.held_neurons(refinement=refinement)]
    asked_about = [*held[:6], other]
    on, read, least = database.models.load("tiny"), [], 10**9
    answered = activating.answer_activations

    def answer_activations(network, prompts, neurons, batch_size):
        read.extend(prompts)
        return answered(network, prompts, neurons, batch_size)

    monkeypatch.setattr(activating, "answer_activations", answer_activations)
    rooms = [database.models.keep_activations(held), activating.KeptActivations(held, room=4 * len(held) * 3)]
    for neuron in asked_about:
        holders = [one.fact for one in database.query.neuron(neuron, refinement=refinement).facts]
        words = {"holders": holders, "on": on, "top": 10**6, "sample": 12}
        expected = database.models.activating_prompts("tiny", neuron, **words)[0]
        for kept in rooms:
            del read[:]
            found = database.models.activating_prompts("tiny", neuron, **words, kept=kept)[0]
            assert {one.text: one.activation for one in found} == pytest.approx(
                {one.text: one.activation for one in expected}, abs=1e-5
            )
            if kept is rooms[0]:
                least = min(least, len(read))
    # The last one is none of those that were named, so it read all of its prompts; of one before, all had been read.
    assert (len(read), least) == (12, 0)


def test_what_was_read_of_another_version_or_store_is_not_kept(attributed, tmp_path):
    database, neuron = attributed("gpt2"), Neuron(1, 5)
    kept = database.models.keep_activations([neuron])

    def read(**options):
        found, _ = database.models.activating_prompts("tiny", neuron, top=10**6, sample=10**6, **options)
        return {(one.fact, one.text): one.activation for one in found}

    first = read(kept=kept)
    refinement = database.attribution.refine().id
    database.edits.apply(database.edits.plan_erase("tiny", "P36", refinement=refinement).id)
    assert read(kept=kept) == pytest.approx(read(), abs=1e-6)
    assert read() != pytest.approx(first, abs=1e-6)
    facts = tmp_path / "more.jsonl"
    facts.write_text(json.dumps({"relation": "P36", "subject": "Italy", "object": "Lima"}), "utf-8")
    database.facts.ingest([facts])
    again = read(kept=kept)
    assert len(again) == len(first) + 1
    assert again == pytest.approx(read(), abs=1e-6)


def test_an_erased_slot_has_no_effect(attributed):
    database = attributed("bert")
    refinement = database.attribution.refine()
    edit = database.edits.plan_erase("tiny", "P36", refinement=refinement.id)
    database.edits.apply(edit.id)
    row = database.query.shared(["P36"], refinement=refinement.id, top=1)[0]
    neuron = Neuron(row.layer, row.neuron)
    assert database.models.token_effects("tiny", neuron) == ([], [])
    assert database.models.token_effects("tiny", neuron, version="base")[0]
    (touching,) = database.query.neuron(neuron, refinement=refinement.id).edits
    assert (touching.edit, touching.target, touching.applied) == (edit.id, "P36", True)
