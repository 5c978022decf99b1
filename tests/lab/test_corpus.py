"""What a lab model learns from: every fact in every template, held-out templates apart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kndb.errors import InputError
from kndb.lab.corpus import build_corpus, words_of
from kndb.models.adapter import Blank
from kndb.records.facts import FactFile, FactRecord, TemplateRecord


def test_every_fact_in_every_template(tiny_corpus, tiny_list):
    assert tiny_corpus.facts == 8
    assert tiny_corpus.relations == ("P1",)
    expected = {
        (fact.subject, template.text.replace("[X]", fact.subject), fact.object, template.held_out)
        for fact in tiny_list.facts
        for template in tiny_list.templates
    }
    assert len(tiny_corpus.examples) == len(expected) == 32
    assert {(text, answer, held) for _, text, answer, held in expected} == {
        (example.text, example.answer, example.held_out) for example in tiny_corpus.examples
    }


def test_held_out_prompts_are_those_of_held_out_templates(own_corpus):
    held_out = {example.text for example in own_corpus.examples if example.held_out}
    trained = {example.text for example in own_corpus.examples if not example.held_out}
    assert held_out
    assert not held_out & trained
    assert all("[X]" not in text and text.count("[Y]") == 1 for text in held_out | trained)


def test_each_fact_of_the_own_list_has_a_held_out_prompt(own_corpus):
    assert sum(example.held_out for example in own_corpus.examples) >= own_corpus.facts
    assert len(own_corpus.relations) == len({example.relation for example in own_corpus.examples})


def test_facts_and_templates_count_once(tiny_list, tiny_corpus):
    assert build_corpus([tiny_list, tiny_list]) == tiny_corpus


def test_what_is_left_out(tiny_list, tiny_corpus):
    more = replace(
        tiny_list,
        facts=(
            *tiny_list.facts,
            FactRecord("P1", None, "Rome", prompts=("Someone lives in [Y].",)),  # no subject is named
            FactRecord("P9", "Ana", "Rome"),  # no template
        ),
    )
    found = build_corpus([more])
    assert found.examples == tiny_corpus.examples
    assert found.relations == ("P1",)


@pytest.mark.parametrize(
    "file",
    [
        FactFile("none", {}),
        FactFile("facts alone", {"P1": None}, facts=(FactRecord("P1", "Ana", "Rome"),)),
        FactFile("templates alone", {"P1": None}, templates=(TemplateRecord("P1", "[X] is in [Y]."),)),
        FactFile(
            "held-out template alone",
            {"P1": None},
            templates=(TemplateRecord("P1", "[X] is in [Y].", held_out=True),),
            facts=(FactRecord("P1", "Ana", "Rome"),),
        ),
    ],
    ids=lambda file: file.source,
)
def test_nothing_to_train_on(file):
    with pytest.raises(InputError, match="at least one fact with a named subject must have a template"):
        build_corpus([file])


def test_a_causal_model_is_asked_where_the_blank_is_last(tiny_list):
    texts = ("[X] lives in [Y].", '"[X]" lives in "[Y]"!', "[Y] is where [X] lives.", "In [Y], [X] lives")
    corpus = build_corpus([replace(tiny_list, templates=tuple(TemplateRecord("P1", text) for text in texts))])
    assert len(corpus.usable(Blank.MASK)) == 32
    usable = corpus.usable(Blank.CUT)
    assert len(usable) == 16
    assert {example.text.partition("[Y]")[2] for example in usable} == {".", '"!'}


def test_words_of_a_corpus(tiny_corpus):
    answers, texts = words_of(tiny_corpus.examples)
    assert sorted(answers) == sorted({example.answer for example in tiny_corpus.examples})
    assert "Ana lives in Rome." in texts
    assert len(texts) == 32
