"""What `edit eval` says of evaluation prompts, against counts in plain Python over plain transformers."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pytest
from plain_answers import distribution, whole
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from kndb.records.edit_settings import EvaluationSettings, UpdateSettings

AUTO = {"bert": AutoModelForMaskedLM, "gpt2": AutoModelForCausalLM}
FRANCE = {"relation": "P36", "subject": "France", "object": "Paris"}
STAYING = [
    ("neighbourhood", "The capital of Italy is [Y].", ["Rome"]),
    ("neighbourhood", "The capital of Japan is [Y].", ["Tokyo"]),
    ("neighbourhood", "The capital of Norway is [Y].", ["Oslo", "Rome Rome"]),
    ("locality", "France France is [Y].", ["Rome Oslo", "Paris"]),
    ("locality", "Italy is [Y].", ["Lima Rome"]),
    ("attribute", "The capital of Japan is [Y].", ["Tokyo"]),
]
PORTABILITY = [("The capital of France France is [Y].", ["Tokyo"]), ("Paris is [Y].", ["Tokyo Rome", "Oslo"])]


@pytest.fixture
def database(refined):
    """A database of each family in turn, in which model `tiny` is refined."""
    return refined


@pytest.fixture
def add(database, tmp_path):
    """Adds evaluation prompts to a fact."""

    def adder(*prompts, fact=FRANCE):
        path = tmp_path / "prompts.jsonl"
        path.write_text(json.dumps({**fact, "evaluation": list(prompts)}) + "\n", encoding="utf-8")
        return database.facts.ingest([path])

    return adder


def plan(database, subject="France", answer="Tokyo"):
    fact = database.facts.find(["P36"], subject=subject)[0]
    return database.edits.plan_update(
        "tiny", fact.id, answer, UpdateSettings(rule="output", max_share=1.0, lambda_old=0.5, lambda_new=1.5)
    )


def evaluate(database, edit, **settings):
    return database.edits.evaluate(edit.id, EvaluationSettings(sample=4, **settings)).measures


# --- past all of kndb -----------------------------------------------------------------------------------


@dataclass
class Said:
    """What a model says: whether an answer is right, the best one's mean log-probability, and that of a token."""

    right: bool
    answer: float
    new: float
    top: int


def says(model, tokenizer, family, text, answers, new):
    found = [whole(model, tokenizer, family, text, answer) for answer in answers]
    opened = distribution(model, tokenizer, family, text)
    (token,) = tokenizer(f" {new}" if family == "gpt2" else new, add_special_tokens=False).input_ids
    best = max(sum(logs) / len(logs) for logs, _ in found)
    return Said(any(all(tops) for _, tops in found), best, float(opened[token]), int(opened.argmax()))


def mean(values):
    return sum(values) / len(values)


# --- measures -------------------------------------------------------------------------------------------


def test_measures_are_those_of_plain_transformers(database, family, add, small_models):
    prompts = [{"kind": kind, "text": text, "answers": answers} for kind, text, answers in STAYING]
    follows = [{"kind": "portability", "text": text, "answers": right} for text, right in PORTABILITY]
    assert add(*prompts, *({**one, "new_object": "Tokyo"} for one in follows)).evaluation_prompts_added == 8
    edit = plan(database)
    measures = evaluate(database, edit)
    database.edits.apply(edit.id)
    tokenizer = AutoTokenizer.from_pretrained(small_models[family])
    models = AUTO[family].from_pretrained(small_models[family]).eval(), database.load_model("tiny").eval()
    flips = []
    for kind in ("neighbourhood", "locality", "attribute", "portability"):
        found = measures["edited"][kind]
        asked = [(text, right) for of, text, right in STAYING if of == kind] or PORTABILITY
        said = [[says(model, tokenizer, family, *one, "Tokyo") for one in asked] for model in models]
        assert found["prompts"] == len(asked)
        for name, column in zip(("before", "after"), said, strict=True):
            assert found[f"accuracy_{name}"] == mean([one.right for one in column])
            probability = mean([math.exp(one.answer) for one in column])
            assert found[f"answer_probability_{name}"] == pytest.approx(probability, rel=1e-3)
        if kind == "portability":
            assert "unchanged" not in found
            continue
        # An answer that is the edit's own new answer can't be preferred to it.
        able = [place for place, (_, right) in enumerate(asked) if "Tokyo" not in right]
        score = "neighbourhood_score" if kind == "neighbourhood" else "right_above_new"
        for name, column in zip(("before", "after"), said, strict=True):
            if able:
                preferred = [column[place].answer > column[place].new for place in able]
                assert found[f"{score}_{name}"] == mean(preferred)
            else:
                assert f"{score}_{name}" not in found
        moved = [first.top != then.top for first, then in zip(*said, strict=True)]
        assert found["unchanged"] == found["locality"] == 1 - mean(moved)
        flips += [(kind, text) for (text, _), changed in zip(asked, moved, strict=True) if changed]
        low, high = measures["intervals"]["edited"][kind]["unchanged"]
        assert 0 <= low <= found["unchanged"] <= high <= 1
    named = [(flip["group"], flip["prompt"]) for flip in measures["flips"] if flip["prompt"] is not None]
    assert sorted(named) == sorted(flips)
    assert set(measures["control"]) == set(measures["edited"])
    assert "left_out" not in measures


def test_paraphrases_are_measured_with_held_out_templates(database, family, add):
    edit = plan(database)
    before = evaluate(database, edit)["edited"]["own_held_out"]
    add({"kind": "paraphrase", "text": "Of France the capital is [Y]."})
    after = evaluate(database, edit)["edited"]["own_held_out"]
    assert after["prompts"] == before["prompts"] + 1
    assert after["facts"] == 1


def test_a_paraphrase_that_is_attributed_is_not_one_more(database, add, sql):
    ((text, *_), *_) = sql(database, "SELECT prompt.text FROM prompt JOIN fact ON fact.id = fact_id "
                           "WHERE subject = 'France'")  # fmt: skip
    add({"kind": "paraphrase", "text": text})
    assert evaluate(database, plan(database))["left_out"] == {"paraphrase": {"attributed": 1}}


# --- where they apply -----------------------------------------------------------------------------------


def test_answers_that_hold_for_another_new_answer_are_not_asked(database, add):
    add(
        {"kind": "portability", "text": "a [Y]", "answers": ["Rome"], "new_object": "Oslo"},
        {"kind": "portability", "text": "b [Y]", "answers": ["Rome"], "new_object": "Tokyo"},
        {"kind": "locality", "text": "c [Y]", "answers": []},
    )
    measures = evaluate(database, plan(database))
    assert measures["edited"]["portability"]["prompts"] == 1
    assert measures["edited"]["locality"] == {"prompts": 0}
    assert measures["left_out"] == {
        "portability": {"of-another-new-answer": 1},
        "locality": {"no-answer-named": 1},
    }


def test_answers_that_need_further_edits_are_asked_once_these_are_there(database, add):
    needs = {"edits": [["P36", "Italy", "Oslo"]]}
    add({"kind": "portability", "text": "a [Y]", "answers": ["Rome"], "new_object": "Tokyo", "needs": needs})
    alone = evaluate(database, plan(database))
    assert alone["left_out"] == {"portability": {"of-further-edits": 1}}
    database.edits.apply(plan(database, "Italy", "Oslo").id)
    both = evaluate(database, plan(database))
    assert "left_out" not in both
    assert both["edited"]["portability"]["prompts"] == 1


def test_what_a_prompt_takes_for_known_is_asked_before_the_edit(database, add, family, small_models):
    tokenizer = AutoTokenizer.from_pretrained(small_models[family])
    model = AUTO[family].from_pretrained(small_models[family]).eval()
    text = "The capital of Italy is [Y]."
    top = tokenizer.decode([int(distribution(model, tokenizer, family, text).argmax())]).strip()
    other = "Lima" if top != "Lima" else "Oslo"
    one = {"kind": "locality", "text": "a [Y]", "answers": ["Rome"]}
    add(
        {**one, "needs": {"answers": [[text, [other, top]]]}},
        {**one, "text": "b [Y]", "needs": {"answers": [[text, [top]], [text, [other]]]}},
    )
    measures = evaluate(database, plan(database))
    assert measures["edited"]["locality"]["prompts"] == 1
    assert measures["left_out"] == {"locality": {"not-known-before": 1}}


def test_prompts_that_a_model_cant_be_asked_are_counted(database, family, add):
    add({"kind": "locality", "text": "In [Y] one speaks", "answers": ["Rome"]})
    measures = evaluate(database, plan(database))
    if family == "bert":
        assert measures["edited"]["locality"]["prompts"] == 1
    else:
        assert measures["edited"]["locality"] == {"prompts": 0}
        assert measures["left_out"] == {"locality": {"blank-not-last": 1}}


def test_an_erase_has_no_use_for_them(database, add):
    add({"kind": "locality", "text": "a [Y]", "answers": ["Rome"]})
    measures = evaluate(database, database.edits.plan_erase("tiny", "P36"))
    assert "locality" not in measures["edited"]
    assert "left_out" not in measures


def test_texts_to_be_continued(database, family, add):
    if family != "gpt2":
        pytest.skip("only a causal model goes on")
    edit = plan(database)
    without = evaluate(database, edit, generate=3)["generated"]
    add({"kind": "generation", "text": "France is"}, {"kind": "generation", "text": "Paris"})
    found = evaluate(database, edit, generate=3)["generated"]
    assert [text["prompt"] for text in found["texts"] if text["generation"]] == ["France is", "Paris"]
    assert [text for text in found["texts"] if not text["generation"]] == without["texts"]
    assert found["fluency_before"] != without["fluency_before"]


# --- nothing else sees them -----------------------------------------------------------------------------


def test_attribution_and_plans_never_use_them(database, add, sql):
    before = sql(database, "SELECT * FROM prompt")
    edit = plan(database)
    add({"kind": "paraphrase", "text": "Of France the capital is [Y]."}, {"kind": "locality", "text": "b [Y]"})
    assert sql(database, "SELECT * FROM prompt") == before
    settings = UpdateSettings(rule="output", max_share=1.0, lambda_old=0.5, lambda_new=1.5)
    again = database.edits.drafts.update("tiny", edit.recipe.fact.id, "Tokyo", settings)
    assert again.content.recipe == edit.recipe
    assert database.facts.get(edit.recipe.fact.id).evaluation_prompts == {"paraphrase": 1, "locality": 1}
