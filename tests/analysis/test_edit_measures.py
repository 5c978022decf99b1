"""The measures of an edit against plain Python, and what is read from a model against single runs of it."""

from __future__ import annotations

import math
from contextlib import contextmanager

import pytest
import torch
from tiny_models import VOCABULARY, doubled, tiny_model

from kndb.analysis.edit_measures import (
    as_json,
    change_measures,
    intervals_as_json,
    perplexity,
    stay_measures,
)
from kndb.analysis.intervals import mean_interval, share_interval
from kndb.analysis.readings import Question, Reading, as_they_are, read_states
from kndb.models.families.bert import BERT
from kndb.models.families.gpt2 import GPT2
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt

FAMILIES = pytest.mark.parametrize("family", ["bert", "gpt2"])


def make_questions(answers, facts, old=None, new=None):
    return [
        Question(EncodedPrompt(number, (1, 2, 3), 0, answer), fact, old, new)
        for number, (answer, fact) in enumerate(zip(answers, facts, strict=True))
    ]


def reading(answer, predicted, new=None, rank=None, unedited=None, divergence=None):
    count = len(answer)
    logs = [tuple(map(math.log, values)) if values else (math.nan,) * count for values in (answer, new)]
    return Reading(
        logs[0], tuple(predicted), logs[1], tuple(rank or (0,) * count), tuple(unedited or predicted),
        tuple(divergence or (0.0,) * count),
    )  # fmt: skip


@FAMILIES
def test_readings_are_those_of_single_runs(family, monkeypatch):
    monkeypatch.setattr("kndb.analysis.readings._AT_ONCE", 2)
    adapter = {"bert": BERT, "gpt2": GPT2}[family]
    network = Network(tiny_model(family, 2, roughness=0.3), adapter)
    other = Network(tiny_model(family, 2, roughness=0.6), adapter)
    (weight,) = (
        p
        for n, p in network.model.named_parameters()
        if n.endswith(("1.mlp.c_proj.weight", "layer.1.output.dense.weight"))
    )
    chance = torch.Generator().manual_seed(1)
    questions = []
    for number, length in enumerate([5, 2, 9, 5, 1]):
        ids = tuple(torch.randint(1, VOCABULARY, (length,), generator=chance).tolist())
        prompt = EncodedPrompt(number, ids, length - 1 if family == "gpt2" else length // 2, 3 * number)
        questions.append(Question(prompt, number, new=17 if number % 2 else None))

    @contextmanager
    def tripled():
        with torch.no_grad():
            weight.mul_(3)
        yield
        with torch.no_grad():
            weight.div_(3)

    def alone(model, prompt):
        with torch.no_grad():
            logits = doubled(model)(input_ids=torch.tensor([prompt.ids])).logits[0, prompt.position]
        return [math.log(p) for p in logits.softmax(-1).tolist()]

    for unedited in (None, other):
        first, second = read_states(network, questions, (as_they_are, tripled), unedited)
        for number, question in enumerate(questions):
            reference = alone(network.model if unedited is None else other.model, question.prompt)
            for state, found in ((as_they_are, first), (tripled, second)):
                with state():
                    values = alone(network.model, question.prompt)
                assert found.answer[number] == pytest.approx(values[question.prompt.answer], abs=1e-4)
                assert found.predicted[number] == values.index(max(values))
                assert found.unedited[number] == reference.index(max(reference))
                divergence = sum(math.exp(p) * (p - q) for p, q in zip(reference, values, strict=True))
                assert found.divergence[number] == pytest.approx(divergence, abs=1e-5)
                if question.new is None:
                    assert math.isnan(found.new[number])
                else:
                    assert found.new[number] == pytest.approx(values[17], abs=1e-4)
                    assert found.new_rank[number] == sorted(values, reverse=True).index(values[17]) + 1
    assert read_states(network, [], (as_they_are,)) == [Reading((), (), (), (), (), ())]


def test_what_stayed():
    questions = make_questions([7, 7, 8, 9], [1, 1, 2, 3], old=7, new=9)
    before = reading((0.5, 0.25, 0.9, 0.1), (7, 1, 8, 2), (0.4, 0.3, 0.05, 0.1))
    after = reading(
        (0.25, 0.25, 0.81, 0.4), (7, 7, 1, 2), (0.3, 0.2, 0.9, 0.4), unedited=(7, 1, 1, 1), divergence=(0.1, 0.3, 0, 2)
    )
    found = as_json({"intra": stay_measures(questions, before, after, "intra", 5)})["intra"]
    perplexity_before = (0.5 * 0.25 * 0.9 * 0.1) ** (-1 / 4)
    perplexity_after = (0.25 * 0.25 * 0.81 * 0.4) ** (-1 / 4)
    assert found == pytest.approx(
        {
            "prompts": 4,
            "facts": 3,
            "perplexity_before": perplexity_before,
            "perplexity_after": perplexity_after,
            "perplexity_change": perplexity_after - perplexity_before,
            "perplexity_relative_change": perplexity_after / perplexity_before - 1,
            "accuracy_before": 2 / 4,
            "accuracy_after": 2 / 4,
            "unchanged": 2 / 4,
            "locality": 2 / 4,
            "locality_divergence": 2.4 / 4,
            # The last prompt's object is the new answer itself.
            "neighbourhood_score_before": 2 / 3,
            "neighbourhood_score_after": 1 / 3,
        }
    )
    elsewhere = stay_measures(questions, before, after, "inter", 5)
    assert set(found) - set(elsewhere) == {"neighbourhood_score_before", "neighbourhood_score_after"}
    assert as_json({"x": stay_measures([], before, after, "intra", 0)}) == {"x": {"prompts": 0, "facts": 0}}


def test_what_an_edit_changed():
    questions = make_questions([7, 7, 7, 7, 7], [4, 4, 4, 4, 4], old=7, new=3)
    before = reading((0.6, 0.7, 0.8, 0.2, 0.5), (7, 7, 7, 1, 7), (0.1, 0.1, 0.2, 0.1, 0.1), (4, 6, 2, 3, 5))
    after = reading((0.1, 0.2, 0.3, 0.4, 0.5), (3, 3, 1, 3, 7), (0.8, 0.7, 0.2, 0.5, 0.3), (1, 1, 2, 1, 2))
    expected = {
        "prompts": 5,
        "facts": 1,
        "change_rate": 4 / 5,
        "success_rate": 3 / 5,
        "efficacy_score": 3 / 5,
        "new_answer_probability_before": 0.12,
        "new_answer_probability_after": 0.5,
        "new_answer_rank_before": 4.0,
        "new_answer_rank_after": 1.4,
        "answer_probability_before": 0.56,
        "answer_probability_after": 0.3,
    }
    assert as_json({"own": change_measures(questions, before, after, "own", 0)})["own"] == pytest.approx(expected)
    paraphrases = change_measures(questions, before, after, "own_held_out", 0)
    assert paraphrases["paraphrase_score"].value == 3 / 5
    assert "efficacy_score" not in paraphrases
    assert as_json({"own": change_measures([], before, after, "own", 0)}) == {"own": {"prompts": 0, "facts": 0}}


def test_intervals_are_over_facts_weighed_by_their_prompts():
    """Worked out from the facts' own means; of one fact, only shares have one, and a wide one."""
    facts = [1, 1, 1, 2, 3, 3]
    questions = make_questions([7] * 6, facts, old=7, new=3)
    before = reading((0.5,) * 6, (7,) * 6, (0.1,) * 6, (2,) * 6)
    after = reading(
        (0.4, 0.1, 0.2, 0.3, 0.5, 0.6), (3, 3, 7, 3, 7, 7), (0.5, 0.6, 0.1, 0.7, 0.2, 0.1), (1, 1, 2, 1, 2, 3)
    )
    found = change_measures(questions, before, after, "own", 11)
    success = found["success_rate"]
    assert (success.low, success.high) == share_interval([2 / 3, 1.0, 0.0], [3, 1, 2])
    probability = found["new_answer_probability_after"]
    assert (probability.low, probability.high) == pytest.approx(
        mean_interval([(0.5 + 0.6 + 0.1) / 3, 0.7, 0.15], [3, 1, 2], seed=11)
    )
    stayed = stay_measures(questions, before, after, "inter", 11)
    losses = [-math.log(p) for p in (0.4, 0.1, 0.2, 0.3, 0.5, 0.6)]
    of_facts = [sum(losses[:3]) / 3, losses[3], sum(losses[4:]) / 2]
    low, high = mean_interval(of_facts, [3, 1, 2], seed=11)
    after_edit = stayed["perplexity_after"]
    assert (after_edit.low, after_edit.high) == pytest.approx((math.exp(low), math.exp(high)))
    change = stayed["perplexity_relative_change"]
    assert (change.low, change.high) == pytest.approx((math.exp(low) / 2 - 1, math.exp(high) / 2 - 1))
    assert intervals_as_json({"inter": stayed})["inter"]["perplexity_after"] == [after_edit.low, after_edit.high]
    one = change_measures(make_questions([7] * 6, [1] * 6, 7, 3), before, after, "own", 0)
    assert one["success_rate"].low < 0.2
    assert one["success_rate"].high > 0.8
    assert one["new_answer_rank_after"].low is None
    assert "new_answer_rank_after" not in intervals_as_json({"own": one})["own"]


def test_perplexity():
    assert perplexity([0.0]) == 1
    assert perplexity([math.log(0.5)] * 3) == pytest.approx(2)
    assert perplexity([math.log(0.5), math.log(0.125)]) == pytest.approx(4)
    assert perplexity([-1e9]) == math.inf
