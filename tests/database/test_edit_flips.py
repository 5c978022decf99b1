"""Which answers flip, and what a model goes on to say, against plain transformers."""

from collections import Counter

import pytest
import torch
from plain_answers import distribution
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from kndb.analysis.fluency import fluency
from kndb.errors import UsageError
from kndb.records.edit_settings import EvaluationSettings, UpdateSettings

AUTO = {"bert": AutoModelForMaskedLM, "gpt2": AutoModelForCausalLM}


@pytest.fixture
def database(refined):
    """A database of each family in turn, in which model `tiny` is refined."""
    return refined


def plan(database):
    """An edit that harms others."""
    fact = database.facts.find(["P36"], subject="France")[0]
    return database.edits.plan_update(
        "tiny", fact.id, "Tokyo", UpdateSettings(rule="output", max_share=1.0, lambda_old=2.0, lambda_new=6.0)
    )


def flips_by_hand(database, family, sql, checkpoint, edit):
    """(fact, old answer, new answer) of all facts but the edit's, with the number of prompts."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    before = AUTO[family].from_pretrained(checkpoint).eval()
    database.edits.apply(edit.id)
    after = database.load_model("tiny").eval()
    database.edits.revert(edit.id)
    found = Counter()
    for fact, text in sql(database, "SELECT fact_id, text FROM prompt WHERE fact_id <> ?", edit.recipe.fact.id):
        old, new = (int(distribution(model, tokenizer, family, text).argmax()) for model in (before, after))
        if old != new:
            found[fact, tokenizer.decode([old]).strip(), tokenizer.decode([new]).strip()] += 1
    return dict(found)


def test_an_evaluation_names_the_facts_whose_answers_flip(database, family, sql, small_models):
    edit = plan(database)
    measures = database.edits.evaluate(edit.id, EvaluationSettings(sample=99)).measures
    flips = measures["flips"]
    found = {(flip["fact"], flip["old_answer"], flip["new_answer"]): flip["prompts"] for flip in flips}
    assert found == flips_by_hand(database, family, sql, small_models[family], edit)
    assert found
    facts = {fact.id: fact for fact in database.facts.find()}
    for flip in flips:
        fact = facts[flip["fact"]]
        assert (flip["relation"], flip["subject"], flip["object"]) == (fact.relation, fact.subject, fact.object)
        assert flip["group"] == ("intra" if fact.relation == "P36" else "inter")
        assert flip["prompts"] <= flip["asked"] == 6
    for group in ("intra", "inter"):
        flipped = sum(flip["prompts"] for flip in flips if flip["group"] == group)
        values = measures["edited"][group]
        assert flipped == pytest.approx((1 - values["unchanged"]) * values["prompts"])
    (stored,) = database.edits.evaluations(edit.id)
    assert stored.measures["flips"] == flips


def test_an_erase_names_those_of_its_own_relation(database):
    edit = database.edits.plan_erase("tiny", "P36")
    measures = database.edits.evaluate(edit.id, EvaluationSettings(sample=99)).measures
    flipped = sum(flip["prompts"] for flip in measures["flips"] if flip["group"] == "own")
    own = measures["edited"]["own"]
    assert flipped == pytest.approx((1 - own["unchanged"]) * own["prompts"])
    assert flipped


def test_a_preview_names_them_before_anything_is_stored(database, family, sql, small_models):
    drafts = database.edits.drafts
    fact = database.facts.find(["P36"], subject="France")[0]
    draft = drafts.update(
        "tiny", fact.id, "Tokyo", UpdateSettings(rule="output", max_share=1.0, lambda_old=2.0, lambda_new=6.0)
    )
    found = database.edits.preview(draft, others=99)
    assert found.asked == 15
    few = database.edits.preview(draft, others=3)
    first = [row.fact for row in few.collateral.facts[:3]]
    assert {flip.fact for flip in few.flips} <= set(first)
    assert database.edits.preview(draft).flips == ()
    edit = database.edits.add(draft)
    assert {(flip.fact, flip.old_answer, flip.new_answer): flip.prompts for flip in found.flips} == flips_by_hand(
        database, family, sql, small_models[family], edit
    )
    erase = database.edits.preview(drafts.erase("tiny", "P36"), others=99)
    assert erase.asked == 16
    assert {flip.group for flip in erase.flips} >= {"own"}
    with pytest.raises(UsageError, match=r"others must be at least 0 \(got -1\)"):
        database.edits.preview(draft, others=-1)


def greedy(model, tokenizer, text, tokens):
    """The most probable token, again and again, each from a whole forward pass."""
    ids = tokenizer(text, return_tensors="pt").input_ids
    start = ids.shape[1]
    for _ in range(tokens):
        with torch.no_grad():
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
        if int(ids[0, -1]) == model.generation_config.eos_token_id:
            ids = ids[:, :-1]
            break
    return tokenizer.decode(ids[0, start:], skip_special_tokens=True)


@pytest.mark.parametrize("family", ["gpt2"])
def test_continuations_are_greedy_ones_before_and_after(database, small_models, monkeypatch):
    edit = plan(database)
    checkpoint = small_models["gpt2"]
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    evaluation = database.edits.evaluate(edit.id, EvaluationSettings(sample=2, generate=6))
    made = evaluation.measures["generated"]
    assert evaluation.settings["generate"] == made["tokens"] == 6
    assert len(made["texts"]) == 6
    assert [text["held_out"] for text in made["texts"]].count(True) == 1
    models = [AutoModelForCausalLM.from_pretrained(checkpoint).eval()]
    database.edits.apply(edit.id)
    models.append(database.load_model("tiny").eval())
    values = []
    for text in made["texts"]:
        old, new = (greedy(model, tokenizer, text["prompt"], 6) for model in models)
        assert (text["before"], text["after"]) == (old, new)
        values.append((fluency(text["prompt"] + old), fluency(text["prompt"] + new)))
    assert any(text["before"] != text["after"] for text in made["texts"])
    means = [sum(column) / len(column) for column in zip(*values, strict=True)]
    assert [made["fluency_before"], made["fluency_after"]] == pytest.approx(means)
    again = database.edits.evaluate(edit.id, EvaluationSettings(sample=2, generate=6)).measures["generated"]
    assert again == made


@pytest.mark.parametrize("family", ["bert"])
def test_what_can_not_be_continued_is_refused(database):
    with pytest.raises(UsageError, match=r"generate continues prompts, .*; a bert model only fills blanks"):
        database.edits.evaluate(plan(database).id, EvaluationSettings(generate=5))
    with pytest.raises(UsageError, match=r"generate must be at least 1, or 0 for nothing \(got -1\)"):
        database.edits.evaluate(1, EvaluationSettings(generate=-1))


@pytest.mark.parametrize("family", ["gpt2"])
def test_an_erase_has_no_prompts_to_continue(database):
    edit = database.edits.plan_erase("tiny", "P36")
    with pytest.raises(UsageError, match="this edit is for a relation"):
        database.edits.evaluate(edit.id, EvaluationSettings(generate=5))
