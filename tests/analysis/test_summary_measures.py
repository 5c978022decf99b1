"""The measures of the field in one group, against counts by hand and a bootstrap in plain Python."""

import math
import random
from dataclasses import replace

import pytest

from kndb.analysis.edit_measures import NEIGHBOURS, OTHERS, OWN, PARAPHRASES
from kndb.analysis.evaluation_prompts import AskedPrompt, PromptReading
from kndb.analysis.group_measures import OwnPrompt, OwnReading
from kndb.analysis.intervals import statistic_interval
from kndb.analysis.readings import Question, Reading
from kndb.analysis.summary_measures import Observed, harmonic_mean, summary_measures
from kndb.models.prompting import EncodedPrompt

ENCODED = EncodedPrompt(1, (1, 2), 0, 5)


def own(fact, *, asked=True):
    return OwnPrompt(fact, 3, ENCODED, ENCODED, ENCODED if asked else None)


def said(new, old, right):
    return OwnReading(4, right == 1, right, math.log(new), math.nan if old is None else math.log(old))


def reading(answer, predicted, new):
    count = len(answer)
    logs = [tuple(map(math.log, values)) for values in (answer, new)]
    return Reading(logs[0], tuple(predicted), logs[1], (1,) * count, tuple(predicted), (0.0,) * count)


def seen():
    """Three edited facts, four untouched ones."""
    found = Observed()
    found.add_own(
        OWN,
        [own(1), own(1), own(2), own(3, asked=False)],
        [said(0.5, 0.1, 1), said(0.2, 0.3, 0.5), said(0.4, 0.1, 0.5), said(0.9, None, 1)],
    )
    found.add_own(PARAPHRASES, [own(1), own(2)], [said(0.5, 0.1, 1), said(0.1, 0.2, 0)])
    near = [Question(replace(ENCODED, answer=7), 11, None, 5), Question(replace(ENCODED, answer=5), 12, None, 5)]
    near += [Question(replace(ENCODED, answer=7), 13, None, 5), Question(replace(ENCODED, answer=7), 14, None, None)]
    before = reading((0.8, 0.8, 0.8, 0.4), (7, 5, 7, 7), (0.1, 0.8, 0.1, 0.1))
    after = reading((0.4, 0.8, 0.1, 0.4), (7, 5, 5, 7), (0.1, 0.8, 0.5, 0.1))
    found.add_staying(NEIGHBOURS, near, before, after, {11, 12, 13})
    far = [Question(ENCODED, 21), Question(ENCODED, 22)]
    found.add_staying(OTHERS, far, reading((0.5, 0.5), (5, 5), (1, 1)), reading((0.5, 0.125), (5, 6), (1, 1)), ())
    return found


def test_measures_are_counts_by_hand():
    found = summary_measures(seen(), 0)
    es, ps, ns = 2 / 3, 1 / 2, 1 / 2
    assert {name: one.value for name, one in found.items()} == pytest.approx(
        {
            "ES": es,
            "PS": ps,
            "NS": ns,
            "S": 3 / (1 / es + 1 / ps + 1 / ns),
            "rewrite_acc": 3 / 4,
            "rephrase_acc": 1 / 2,
            "success": 2 / 4,
            "held_out_success": 1 / 2,
            "locality": 1 / 2,
            "perplexity_relation": (0.8**3 * 0.4 / (0.4 * 0.8 * 0.1 * 0.4)) ** (1 / 4),
            "flips_relation": 1 / 4,
            "perplexity_others": 2.0,
            "flips_others": 1 / 2,
        }
    )
    for name, one in found.items():
        assert one.low <= one.value <= one.high, name


def test_prompts_of_the_source_count_too():
    def asked(fact, answers=(7,)):
        return AskedPrompt("x", "x [Y]", ENCODED, (replace(ENCODED, answer=answers[0]),), fact, ENCODED)

    def answered(right, tokens, answer=0.5, new=0.1):
        return PromptReading(right == 1, right, tokens, math.log(answer), math.log(new), 1, 1, 0.0)

    found = Observed()
    some = [asked(1), asked(2)]
    before = [answered(1, (1, 2)), answered(1, (3, 4))]
    found.add_prompts("portability", some, before, [answered(0.5, (1, 2)), answered(1, (3, 4))])
    found.add_prompts("locality", some, before, [answered(1, (1, 9)), answered(1, (3, 4))])
    # Where the new answer is right itself, neither can be preferred.
    found.add_prompts("neighbourhood", [*some, asked(3, (5,))], [*before, before[0]], [answered(1, (1,))] * 3)
    found.add_prompts("attribute", some, before, before)
    values = {name: one.value for name, one in summary_measures(found, 0).items()}
    assert values == {"portability": 0.75, "locality": 0.75, "NS": 1.0}


def test_an_edit_of_one_token_has_the_same_measures():
    found = Observed()
    questions = [Question(ENCODED, 1, 5, 9), Question(ENCODED, 1, 5, 9)]
    found.add_own_questions(OWN, questions, reading((0.1, 0.2), (9, 5), (0.6, 0.1)))
    values = {name: one.value for name, one in summary_measures(found, 0).items()}
    assert values == {"ES": 0.5, "rewrite_acc": 0.5, "success": 0.5}


def test_the_score_is_zero_where_a_part_is():
    assert harmonic_mean([0.0, 1.0, 1.0]) == 0
    assert harmonic_mean([0.5, 0.5, 0.5]) == pytest.approx(0.5)


def test_fluency_is_a_ratio_of_means():
    found = summary_measures(Observed(fluent=[(1, 4.0, 2.0), (1, 2.0, 3.0), (2, 6.0, 4.0)]), 0)
    assert {name: one.value for name, one in found.items()} == pytest.approx(
        {"fluency_before": 4.0, "fluency_after": 3.0, "fluency_ratio": 0.75}
    )
    assert found["fluency_ratio"].low <= 0.75 <= found["fluency_ratio"].high


def test_the_interval_of_a_statistic_is_that_of_draws_of_facts():
    first = [[2.0, 3.0, 1.0, 2.0], [1.0, 2.0, 0.0, 1.0], [4.0, 4.0, 1.0, 1.0], [0.0, 1.0, 1.0, 2.0]]
    second = [[1.0, 2.0], [3.0, 3.0], [0.0, 2.0]]

    def statistic(means):
        return harmonic_mean([one for group in means for one in group])

    low, high = statistic_interval([first, second], statistic, seed=3)
    chance, values = random.Random(1), []
    for _ in range(4000):
        drawn = [[chance.choice(group) for _ in group] for group in (first, second)]
        sums = [[sum(row[place] for row in group) for place in range(len(group[0]))] for group in drawn]
        values.append(statistic([[a / b for a, b in zip(row[::2], row[1::2], strict=True)] for row in sums]))
    values.sort()
    assert low == pytest.approx(values[100], abs=0.06)
    assert high == pytest.approx(values[-100], abs=0.06)
    assert statistic_interval([first[:1], second[:1]], statistic) is None
