"""The measures of an edit against plain Python, and what is read from a model against single runs of it."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_models import VOCABULARY, doubled, tiny_model

from kndb.editing.evaluation import Reading, compare, perplexity, read_answers, update_measures
from kndb.models.bert import BERT
from kndb.models.gpt2 import GPT2
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt

FAMILIES = pytest.mark.parametrize("family", ["bert", "gpt2"])


def make_prompts(answers: list[int]) -> list[EncodedPrompt]:
    return [EncodedPrompt(number, (1, 2 + number % 5, 3)[: 1 + number % 3], 0, a) for number, a in enumerate(answers)]


@FAMILIES
@pytest.mark.parametrize("target", [None, 0, 17])
def test_readings_are_those_of_single_runs(family, target):
    network = Network(tiny_model(family, 2, roughness=0.3), {"bert": BERT, "gpt2": GPT2}[family])
    exact = doubled(network.model)
    chance = torch.Generator().manual_seed(1)
    prompts = []
    for number, length in enumerate([5, 2, 9, 5, 1]):
        ids = tuple(torch.randint(1, VOCABULARY, (length,), generator=chance).tolist())
        prompts.append(EncodedPrompt(number, ids, length - 1 if family == "gpt2" else length // 2, 3 * number))
    reading = read_answers(network, prompts, target)
    for number, prompt in enumerate(prompts):
        with torch.no_grad():
            logits = exact(input_ids=torch.tensor([prompt.ids])).logits[0, prompt.position]
        values = [math.log(p) for p in logits.softmax(-1).tolist()]
        assert reading.answer[number] == pytest.approx(values[prompt.answer], abs=1e-4)
        assert reading.predicted[number] == values.index(max(values))
        if target is not None:
            assert reading.target[number] == pytest.approx(values[target], abs=1e-4)
            assert reading.target_rank[number] == sorted(values, reverse=True).index(values[target]) + 1
    if target is None:
        assert (reading.target, reading.target_rank) == ((), ())


def test_the_predicted_token_has_rank_one():
    network = Network(tiny_model("bert", 2), BERT)
    prompt = EncodedPrompt(0, (4, 5, 6), 1, 7)
    (best,) = read_answers(network, [prompt]).predicted
    assert read_answers(network, [prompt], best).target_rank == (1,)


def test_reading_nothing():
    network = Network(tiny_model("gpt2"), GPT2)
    assert read_answers(network, []) == Reading((), ())


def test_comparison():
    prompts = make_prompts([7, 7, 8, 9])
    before = Reading(tuple(map(math.log, (0.5, 0.25, 0.9, 0.1))), (7, 1, 8, 2))
    after = Reading(tuple(map(math.log, (0.25, 0.25, 0.81, 0.4))), (7, 7, 1, 2))
    found = compare(prompts, before, after)
    perplexity_before = (0.5 * 0.25 * 0.9 * 0.1) ** (-1 / 4)
    perplexity_after = (0.25 * 0.25 * 0.81 * 0.4) ** (-1 / 4)
    expected = {
        "prompts": 4,
        "perplexity_before": perplexity_before,
        "perplexity_after": perplexity_after,
        "perplexity_change": perplexity_after - perplexity_before,
        "accuracy_before": 2 / 4,
        "accuracy_after": 2 / 4,
        "unchanged": 2 / 4,
    }
    assert found == pytest.approx(expected)
    assert compare([], Reading((), ()), Reading((), ())) == {"prompts": 0}


def test_measures_of_an_update():
    prompts = make_prompts([7, 7, 7, 7, 7])
    old, new = 7, 3
    before = Reading(
        answer=tuple(map(math.log, (0.6, 0.7, 0.8, 0.2, 0.5))),
        predicted=(7, 7, 7, 1, 7),
        target=tuple(map(math.log, (0.1, 0.1, 0.2, 0.1, 0.1))),
        target_rank=(4, 6, 2, 3, 5),
    )
    after = Reading(
        answer=tuple(map(math.log, (0.1, 0.2, 0.3, 0.4, 0.5))),
        predicted=(3, 3, 1, 3, 7),
        target=tuple(map(math.log, (0.8, 0.7, 0.2, 0.5, 0.3))),
        target_rank=(1, 1, 2, 1, 2),
    )
    assert update_measures(prompts, old, new, before, after) == pytest.approx(
        {
            "prompts": 5,
            "change_rate": 4 / 5,
            "success_rate": 3 / 5,
            "new_answer_probability_before": 0.12,
            "new_answer_probability_after": 0.5,
            "new_answer_rank_before": 4.0,
            "new_answer_rank_after": 1.4,
            "answer_probability_before": 0.56,
            "answer_probability_after": 0.3,
        }
    )
    assert update_measures([], old, new, Reading((), ()), Reading((), ())) == {"prompts": 0}


def test_perplexity():
    assert perplexity([0.0]) == 1
    assert perplexity([math.log(0.5)] * 3) == pytest.approx(2)
    assert perplexity([math.log(0.5), math.log(0.125)]) == pytest.approx(4)
