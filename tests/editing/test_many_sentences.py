"""Sentences and places: where a subject ends, in the tokenizers of the lab models."""

from __future__ import annotations

import pytest

from kndb.editing.many.sentences import NewAnswer, rewrites
from kndb.errors import EditError
from kndb.models import loading
from kndb.models.prompting import EncodedPrompt
from kndb.models.sources import lab_folder
from kndb.models.subjects import subject_place

LAB = {name: loading.load(lab_folder(name)) for name in ("lab-bert", "lab-gpt2")}
BERT, GPT = LAB["lab-bert"], LAB["lab-gpt2"]


def made(loaded, answer, token="subject", prefixes=()):
    return rewrites(loaded.tokenizer, loaded.encoder, loaded.adapter.blank, [answer], token, prefixes)


@pytest.mark.parametrize("name", LAB)
@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("The capital of Burkina Faso is [Y].", "Burkina Faso"),
        ("Nissan Leaf is made by [Y].", "Nissan Leaf"),
        ("By origin, Nissan Leaf's maker is [Y].", "Nissan Leaf"),
        ("Oslo, the city of Oslo, lies in [Y].", "Oslo"),
    ],
)
def test_the_tokens_up_to_the_place_end_with_the_subject(name, text, subject):
    loaded = LAB[name]
    prompt = loaded.encoder.encode(0, text, None)
    place = subject_place(loaded.tokenizer, loaded.adapter.blank, text, subject, prompt)
    before = text[: text.rfind(subject) + len(subject)]
    upto = loaded.decode([token for token in prompt.ids[: place + 1] if token not in loaded.tokenizer.all_special_ids])
    assert upto.casefold().replace(" ", "") == before.casefold().replace(" ", "")


def test_a_subject_behind_the_blank_moves_with_the_number_of_masks():
    text = "[Y] is the capital of Norway."
    places = []
    for answer in ("Oslo", "Oslo Oslo"):
        prompt = BERT.encoder.encode(0, text, answer)
        assert isinstance(prompt, EncodedPrompt)
        place = subject_place(BERT.tokenizer, BERT.adapter.blank, text, "Norway", prompt)
        assert BERT.decode(prompt.ids[place]).casefold() in "norway"
        places.append(place - len(prompt.questions))
    assert places[0] == places[1]


def test_a_text_without_the_subject_has_no_place():
    prompt = BERT.encoder.encode(0, "The capital of Norway is [Y].", None)
    assert subject_place(BERT.tokenizer, BERT.adapter.blank, "The capital of Norway is [Y].", "Peru", prompt) is None
    with pytest.raises(EditError, match="'Peru' was not found in"):
        made(BERT, NewAnswer("Peru", ("The capital of Norway is [Y].",), "Oslo"))


@pytest.mark.parametrize("name", LAB)
def test_a_rewrite_has_a_sentence_for_each_prompt_and_for_what_is_kept(name):
    prompts = ("The capital of Norway is [Y].", "The capital city of Norway is called [Y].")
    (found,) = made(LAB[name], NewAnswer("Norway", prompts, "Paris", ("The currency of Norway is the [Y].",)))
    assert len(found.sentences) == 2
    token = LAB[name].encoder.answer_token("Paris")
    assert [sentence.answers for sentence in found.sentences] == [(token,)] * 2
    assert [sentence.answers for sentence in found.kept] == [(-1,)] * 2
    for sentence in (*found.sentences, *found.kept):
        assert LAB[name].decode(sentence.ids[sentence.place]).casefold() in "norway"


def test_prompts_that_a_causal_model_cant_be_asked_are_left_out():
    prompts = ("[Y] is the capital of Norway.", "The capital of Norway is [Y].")
    (found,) = made(GPT, NewAnswer("Norway", prompts, "Paris"))
    assert len(found.sentences) == 1
    with pytest.raises(EditError, match="the blank is not the end of the sentence"):
        made(GPT, NewAnswer("Norway", prompts[:1], "Paris"))


@pytest.mark.parametrize("name", LAB)
def test_all_tokens_of_an_answer_are_read_in_one_pass(name):
    loaded = LAB[name]
    text = "The capital of Norway is [Y]."
    prompt = loaded.encoder.encode(0, text, "Paris Oslo")
    ((sentence,),) = [one.sentences for one in made(loaded, NewAnswer("Norway", (text,), "Paris Oslo"))]
    assert sentence.answers == prompt.answers
    assert sentence.reads == tuple(one.position for one in prompt.questions)
    for question in prompt.questions:
        assert sentence.ids[: question.position + 1] == question.ids[: question.position + 1]


@pytest.mark.parametrize("name", LAB)
def test_at_the_answer_each_token_is_a_rewrite_of_its_own(name):
    text = "The capital of Norway is [Y]."
    found = made(LAB[name], NewAnswer(None, (text,), "Paris Oslo"), "answer")
    prompt = LAB[name].encoder.encode(0, text, "Paris Oslo")
    assert [one.sentences[0].place for one in found] == [one.position for one in prompt.questions]
    assert [one.sentences[0].reads for one in found] == [(one.position,) for one in prompt.questions]
    assert {one.fact for one in found} == {0}


def test_a_prefix_stands_before_each_prompt():
    plain = NewAnswer("Norway", ("The capital of Norway is [Y].",), "Paris")
    (found,) = made(GPT, plain, prefixes=["Oslo is a city."])
    first, second = found.sentences
    shift = len(second.ids) - len(first.ids)
    assert shift > 0
    assert second.place == first.place + shift
    assert second.ids[-3:] == first.ids[-3:]


def test_a_prompt_that_begins_with_the_subjects_last_token_is_left_out_if_there_are_others():
    first, later = "Norway has a capital named [Y].", "The capital of Norway is [Y]."
    encoded = GPT.encoder.encode(0, first, None)
    assert subject_place(GPT.tokenizer, GPT.adapter.blank, first, "Norway", encoded) == 0
    (found,) = made(GPT, NewAnswer("Norway", (first, later), "Paris"))
    assert [one.place > 0 for one in found.sentences] == [True]
    assert [one.place > 0 for one in found.kept] == [True]
    (alone,) = made(GPT, NewAnswer("Norway", (first,), "Paris"))
    assert [one.place for one in alone.sentences] == [0]
    (behind,) = made(GPT, NewAnswer("Norway", (first,), "Paris"), prefixes=["Oslo is a city."])
    assert len(behind.sentences) == 1
    assert behind.sentences[0].place > 0


def test_a_fact_without_a_subject_has_no_subject_token():
    with pytest.raises(EditError, match="no named subject"):
        made(GPT, NewAnswer(None, ("The capital of Norway is [Y].",), "Paris"))
