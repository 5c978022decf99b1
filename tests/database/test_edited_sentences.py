"""Facts of several right objects, subjects that occur twice, and sentences of two relations: never among the others."""

import pytest

from kndb.database.edits.edited_sentences import edited_sentences, sentences_of_edit, sentences_of_facts
from kndb.database.edits.kept_prompts import draw_neighbours, kept_prompts, prompts_in_recipe
from kndb.records.edit_settings import EvaluationSettings, Neighbours, OptimizeSettings, TrialSettings, UpdateSettings
from kndb.records.facts import Fact, Prompt
from kndb.records.models import Neuron

SHARED = "The seat of government of [X] is [Y]."
"""A template of P36 that P1376 has too, without its full stop."""
TWICE = (
    {"relation": "P36", "subject": "France", "object": "Lima", "id": "again"},
    {"relation": "P36", "subject": "france ", "object": "Havana", "id": "and-again"},
    {"relation": "P1376", "template": SHARED.removesuffix(".")},
    {"relation": "P1376", "template": "People rule [X] from [Y]."},
    {"relation": "P1376", "subject": "France", "object": "Cairo"},
    {"relation": "P1376", "subject": "Norway", "object": "Oslo"},
)


@pytest.fixture
def database(refined, write_facts):
    """A refined database of each family; then France gets two more capitals, and P1376 one of P36's sentences."""
    refined.facts.ingest([write_facts(*TWICE)])
    return refined


def fact_of(database, relation, subject, answer):
    (found,) = (fact for fact in database.facts.find([relation]) if (fact.subject, fact.object) == (subject, answer))
    return found


def same_question(text):
    return text.removesuffix(".")


def own_texts(sql, database, fact):
    return {same_question(text) for (text,) in sql(database, "SELECT text FROM prompt WHERE fact_id = ?", fact.id)}


def test_what_is_edited_is_told_by_subject_and_by_sentence():
    facts = [
        Fact(1, "P36", "France", "Paris", None),
        Fact(2, "P36", " france", "Lima", None),
        Fact(3, "P36", "Peru", "Lima", None),
        Fact(4, "P1376", "France", "Paris", None),
        Fact(5, "P36", None, "Oslo", None),
        Fact(6, "P36", None, "Rome", None),
    ]
    prompts = [
        Prompt(11, 1, "The capital of France is [Y].", "Paris", held_out=True),
        Prompt(12, 1, "France is ruled from [Y].", "Paris"),
        Prompt(15, 5, "It is [Y].", "Oslo"),
    ]
    found = edited_sentences(facts, prompts, (1,))
    assert found.facts == {1, 2}
    asked = {
        "The capital of France is [Y]": True,
        "The  capital of France is [Y] .": True,
        "The capital of France is [Y], they say.": False,
        "The capital of Peru is [Y].": False,
    }
    assert {text: found.asks(Prompt(99, 4, text, "Paris")) for text in asked} == asked
    assert found.asks(Prompt(98, 2, "Another sentence [Y].", "Lima"))
    kept = Prompt(97, 3, "Peru is ruled from [Y].", "Lima")
    assert found.others([*prompts[:2], kept]) == [kept]
    # Facts without a subject have no sentence in common but by its words.
    unnamed = edited_sentences(facts, prompts, (5,))
    assert unnamed.facts == {5}
    assert [unnamed.asks(Prompt(1, 6, text, "Rome")) for text in ("It is [Y].", "It was [Y].")] == [True, False]


def test_a_subject_that_occurs_twice_is_never_drawn():
    facts = [Fact(number, "P36", f"s{number // 2}", f"o{number}", None) for number in range(8)]
    assert draw_neighbours(facts, facts[4], Neighbours(99, 99), seed=1) == [0, 1, 2, 3, 6, 7]


def test_no_edited_sentence_is_kept(database, sql):
    france = fact_of(database, "P36", "France", "Paris")
    own = own_texts(sql, database, france)
    with database.store.reading() as connection:
        drawn, kept = kept_prompts(connection, france, Neighbours(99, 99), seed=0)
    asked = {(fact.relation, fact.subject) for fact in database.facts.find() if fact.id in drawn}
    assert ("P1376", "France") in asked
    assert ("P36", "France") not in asked
    assert ("P36", "france") not in asked
    assert not own & {same_question(prompt.text) for prompt in kept}
    assert "People rule France from [Y]." in {prompt.text for prompt in kept}
    assert "The seat of government of Norway is [Y]" in {prompt.text for prompt in kept}
    # An edit's recipe says the same once more, for its control and for a rebase.
    edit = database.edits.plan_optimize("tiny", france.id, "Tokyo", OptimizeSettings(neighbours=Neighbours(99, 99)))
    with database.store.reading() as connection:
        again = prompts_in_recipe(connection, edit)
    assert [prompt for prompt in again if prompt.fact_id != france.id] == kept
    assert {prompt.fact_id for prompt in again} == {france.id, *(prompt.fact_id for prompt in kept)}


def test_no_edited_sentence_counts_as_harmed(database, sql):
    france = fact_of(database, "P36", "France", "Paris")
    edit = database.edits.plan_update(
        "tiny", france.id, "Tokyo", UpdateSettings(rule="output", max_share=1.0, lambda_old=2.0, lambda_new=6.0)
    )
    measures = database.edits.evaluate(edit.id, EvaluationSettings(sample=99)).measures
    own = own_texts(sql, database, france)
    rows = sql(
        database,
        "SELECT text, key, subject FROM prompt JOIN fact ON fact.id = fact_id JOIN relation r ON r.id = relation_id",
    )
    others = [(key, text) for text, key, subject in rows if (key, subject.strip().lower()) != ("P36", "france")]
    counts = {
        "intra": sum(key == "P36" for key, _ in others),
        "inter": sum(key != "P36" and same_question(text) not in own for key, text in others),
    }
    assert {group: measures["edited"][group]["prompts"] for group in counts} == counts
    assert measures["edited"]["inter"]["prompts"] == sum(key != "P36" for key, _ in others) - 1
    harmed = {flip["fact"] for flip in measures["flips"]}
    assert harmed
    assert not harmed & {france.id, fact_of(database, "P36", "France", "Lima").id}
    with database.store.reading() as connection:
        assert sentences_of_edit(connection, edit) == sentences_of_facts(connection, [france.id])
    found = database.query.collateral(edit.id, refinement=1)
    assert found.edited == (france.id,)
    assert france.id not in {row.fact for row in found.facts}
    by_neurons = database.query.collateral(_neurons(database, edit), refinement=1)
    assert france.id in {row.fact for row in by_neurons.facts}


def _neurons(database, edit):
    return [Neuron(slot.layer, slot.neuron) for slot in database.edits.slots(edit.id)]


def test_trials_leave_them_out_too(database, monkeypatch):
    asked = []

    def compare(network, groups, states, unedited, seed):
        asked.append({name: [question.fact for question in questions] for name, questions in groups.items()})
        raise KeyboardInterrupt

    monkeypatch.setattr("kndb.database.edits.trial_measures.compare_states", compare)
    france = fact_of(database, "P36", "France", "Paris")
    again = {fact.id for fact in database.facts.find(["P36"], subject="france")}
    for seed in range(30):  # Until the fact that is drawn first is France.
        with pytest.raises(KeyboardInterrupt):
            database.trials.bench(
                "tiny",
                UpdateSettings(max_share=1.0),
                TrialSettings(1, 99, 99, relations=["P36"], seed=seed),
                counts=(),
            )
        if asked[-1]["own"][0] == france.id:
            break
    assert asked[-1]["own"][0] == france.id
    assert not again & {*asked[-1]["intra"], *asked[-1]["inter"]}
    assert asked[-1]["inter"].count(fact_of(database, "P1376", "France", "Cairo").id) == 1


def test_a_preview_asks_none_of_them(database):
    france = fact_of(database, "P36", "France", "Paris")
    draft = database.edits.drafts.update(
        "tiny", france.id, "Tokyo", UpdateSettings(rule="output", max_share=1.0, lambda_old=1.0, lambda_new=30.0)
    )
    found = database.edits.preview(draft, others=99)
    assert found.collateral.edited == (france.id,)
    again = {fact.id for fact in database.facts.find(["P36"], subject="france")}
    assert found.asked == len(database.facts.find()) - len(again)
    assert found.flips
    assert not again & {flip.fact for flip in found.flips}
