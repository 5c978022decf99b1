"""Conditions on edits: how they are written and read, what they compare, and which figures they take."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kndb.errors import UsageError
from kndb.records.condition_figures import Unmeasurable, checked
from kndb.records.condition_measures import ALIASES, MEASURES, SHARE
from kndb.records.conditions import (
    MOST_CONDITIONS,
    OPERATORS,
    CheckedCondition,
    CheckedConditions,
    Condition,
    parse_condition,
    parse_conditions,
)

SPACES = st.text(alphabet=" \t\n", max_size=3)
BOUNDS = st.floats(0, 1) | st.floats(0, 1e300)


@st.composite
def conditions(draw):
    measure = draw(st.sampled_from(sorted(MEASURES)))
    bound = draw(st.floats(0, 1) if MEASURES[measure].unit == SHARE else BOUNDS)
    return Condition(measure, draw(st.sampled_from(sorted(OPERATORS))), bound, draw(st.booleans()))


@given(conditions(), st.lists(SPACES, min_size=4, max_size=4))
def test_what_is_written_is_read_back(condition, spaces):
    assert parse_condition(str(condition), confident=condition.confident) == condition
    parts = (condition.measure.upper(), condition.operator, repr(condition.bound), "")
    spread = "".join(space + part for space, part in zip(spaces, parts, strict=True))
    assert parse_condition(spread, confident=condition.confident) == condition


@given(conditions(), st.floats(0, 2), st.floats(0, 2), st.floats(0, 2))
def test_checked_conditions_are_read_back(condition, value, low, high):
    one = CheckedCondition(condition, value, low, high, condition.holds(value, low, high))
    found = CheckedConditions((one,), (condition,), 2, "v0123456789abcdef", 7, {"sample": 300, "control": False})
    assert CheckedConditions.parse(json.loads(json.dumps(found.as_json()))) == found


@given(st.text(max_size=120))
def test_any_text_is_a_condition_or_refused(text):
    try:
        found = parse_condition(text)
    except UsageError:
        return
    assert parse_condition(str(found)) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("success>=0.95", "success >= 95 %"),
        ("flips.others<99.9%", "flips.others < 99.9 %"),
        ("perplexity.others<=105%", "perplexity.others <= 1.05"),
    ],
)
def test_shares_are_said_in_percent_and_factors_as_numbers(text, words):
    condition = parse_condition(text)
    assert condition.words == words
    found = CheckedCondition(condition, 0.98765, 0.9, None, holds=False).words
    assert found == words.replace(" ", " 98.77 % " if "%" in words else " 0.9877 ", 1) + " fails"
    assert "(90 % to 100 %)" in CheckedCondition(parse_condition("S>=0"), 1.0, 0.9, 1.0, holds=True).words


@pytest.mark.parametrize(
    ("text", "measure", "operator", "bound"),
    [
        ("success>=95%", "success", ">=", 0.95),
        (" perplexity.others <= 105 % ", "perplexity.others", "<=", 1.05),
        ("flips.others<=99.9%", "flips.others", "<=", 0.999),
        ("paraphrase>.9", "held_out_success", ">", 0.9),
        ("Divergence == 1e-3", "divergence.others", "==", 0.001),
        ("perplexity.relation<1.", "perplexity.relation", "<", 1.0),
        ("ES>=95%", "efficacy_score", ">=", 0.95),
        ("S>=0.8", "score", ">=", 0.8),
        ("flips_others<=3%", "flips.others", "<=", 0.03),
    ],
)
def test_ways_to_write_one(text, measure, operator, bound):
    assert parse_condition(text) == Condition(measure, operator, bound)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("success", "must be a measure, a comparison and a number of at least 0"),
        ("success>=", "such as success>=0.95"),
        ("success>=-1", "a number of at least 0"),
        ("success>=nan", "must be a measure, a comparison"),
        ("success=0.9", "must be a measure, a comparison"),
        ("success>=0.9 or True", "must be a measure, a comparison"),
        ("success>=0.9;success<=1", "must be a measure, a comparison"),
        ("success>=٣", "must be a measure, a comparison"),
        ("success>=1e9999", "must be a measure, a comparison"),
        ("success>=95", "success is a share from 0 to 1, so it can't be compared with 95.0; write 95% or 0.95"),
        ("perplexity.others<=1e999", "can't be compared with inf"),
        ("sucess>=0.9", "a condition can't be about 'sucess'; did you mean success? It can be about success: prompts"),
        ("__class__.x>=1", "a condition can't be about '__class__.x'"),
        ("\x1b[31m>=1", "x1b"),
        ("a" * 1000 + ">=1", "must be a measure, a comparison"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(UsageError) as refused:
        parse_condition(text)
    assert message in str(refused.value)
    assert "\x1b" not in str(refused.value)


def test_an_unknown_measure_is_told_all_there_are():
    with pytest.raises(UsageError) as refused:
        parse_condition("luck>=1")
    assert all(f"{name}: {one.meaning}" in str(refused.value) for name, one in MEASURES.items())
    assert set(ALIASES.values()) <= set(MEASURES)


def test_the_documentation_has_all_measures():
    page = (Path(__file__).parents[2] / "docs" / "edits.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_.]+)` \| (.+) \| (share|number) \|$", page, re.MULTILINE)
    units = {True: "share", False: "number"}
    assert rows == [(name, one.meaning, units[one.unit == SHARE]) for name, one in MEASURES.items()]


def test_each_is_required_once_and_not_too_many():
    assert parse_conditions(["success>=0.9", "success >= 90%"]) == (Condition("success", ">=", 0.9),)
    with pytest.raises(UsageError, match="at most 50 conditions can be required"):
        parse_conditions(f"success>={number / 1000}" for number in range(MOST_CONDITIONS + 1))


def test_a_confident_condition_compares_the_worse_end():
    for operator, expected in ((">=", False), (">", False), ("<=", False), ("<", False), ("==", False)):
        assert Condition("success", operator, 0.5, confident=True).holds(0.5, 0.4, 0.6) is expected
    assert Condition("success", ">=", 0.4, confident=True).holds(0.5, 0.4, 0.6)
    assert Condition("success", "<=", 0.6, confident=True).holds(0.5, 0.4, 0.6)
    assert not Condition("success", "<", 0.6, confident=True).holds(0.5, 0.4, 0.6)
    assert Condition("success", "==", 1.0, confident=True).holds(1.0, 1.0, 1.0)


MADE = {
    "edited": {
        "own": {"prompts": 4, "facts": 1, "success_rate": 0.75, "efficacy_score": 1.0},
        "own_held_out": {"prompts": 2, "facts": 1, "paraphrase_score": 0.5},
        "intra": {
            "prompts": 20,
            "unchanged": 0.95,
            "perplexity_relative_change": 0.25,
            "neighbourhood_score_after": 0.8,
        },
        "inter": {"prompts": 0, "facts": 0},
    },
    "intervals": {
        "edited": {
            "own": {"success_rate": [0.5, 0.875], "efficacy_score": [0.5, 1.0]},
            "own_held_out": {"paraphrase_score": [0.25, 0.75]},
            "intra": {
                "unchanged": [0.75, 1.0],
                "perplexity_relative_change": [0.0, 0.5],
                "neighbourhood_score_after": [0.5, 1.0],
            },
        }
    },
}


@pytest.mark.parametrize(
    ("text", "value", "low", "high", "holds"),
    [
        ("success>=0.75", 0.75, 0.5, 0.875, True),
        ("success>0.75", 0.75, 0.5, 0.875, False),
        ("flips.relation<=5%", 0.05, 0.0, 0.25, True),
        ("perplexity.relation<=1.25", 1.25, 1.0, 1.5, True),
        ("neighbourhood_score>=0.9", 0.8, 0.5, 1.0, False),
        ("score>=0.5", 3 / (1 / 1.0 + 1 / 0.5 + 1 / 0.8), 3 / (2 + 4 + 2), 3 / (1 + 4 / 3 + 1), True),
    ],
)
def test_figures_of_an_evaluation(text, value, low, high, holds):
    found = checked(parse_condition(text), MADE)
    assert isinstance(found, CheckedCondition)
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high))
    assert found.holds is holds


def test_figures_are_those_of_the_summary():
    """As `kndb edit eval` and benches show them, with their intervals, where an evaluation has them."""
    names = {"ES": "es", "PS": "ps", "NS": "ns", "S": "s", "fluency_ratio": "fluency", "locality": "locality"}
    summary = {name: 0.5 + place / 100 for place, name in enumerate(names)}
    ends = {name: [value - 0.1, value + 0.1] for name, value in summary.items()}
    made = {
        "edited": MADE["edited"] | {"summary": summary},
        "intervals": {"edited": MADE["intervals"]["edited"] | {"summary": ends}},
    }
    for name, said in names.items():
        found = checked(parse_condition(f"{said}>=0", confident=True), made)
        assert isinstance(found, CheckedCondition)
        assert [found.value, found.low, found.high] == [summary[name], *ends[name]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("held_out_success>=0", "no held-out prompts"),
        ("perplexity.others<=9", "no facts of other relations"),
        ("portability>=0", "no portability prompts"),
        ("remembered<=1", "erases no relation"),
        ("fluency>=0", "nothing is continued; or the model is not a causal one"),
    ],
)
def test_what_no_evaluation_has_never_holds(text, reason):
    found = checked(parse_condition(text), MADE)
    assert isinstance(found, Unmeasurable)
    assert reason in found.words


def test_no_number_and_no_interval_never_hold():
    broken = {"edited": {"own": {"prompts": 1, "success_rate": math.nan}}}
    assert "are not numbers" in checked(parse_condition("success<=1"), broken).words
    alone = {"edited": {"inter": {"prompts": 1, "locality_divergence": 0.5}}}
    assert isinstance(checked(parse_condition("divergence<=1"), alone), CheckedCondition)
    assert "has no confidence interval" in checked(parse_condition("divergence<=1", confident=True), alone).words
    endless = {"edited": {"inter": {"prompts": 1, "perplexity_relative_change": math.inf}}}
    assert not checked(parse_condition("perplexity.others<=1e9"), endless).holds


@pytest.mark.parametrize(
    "change",
    [
        {"checked": "x"},
        {"edits": 0},
        {"edits": True},
        {"version": "\x1b"},
        {"settings": []},
        {"settings": {"sample": {}}},
        {"skipped": [{"condition": "success>=2", "confident": False}]},
        {"skipped": [{"condition": 1, "confident": False}]},
        {"checked": [{}] * 2},
        {"more": 1},
    ],
)
def test_what_is_no_checked_conditions_is_refused(change):
    sound = CheckedConditions((), (Condition("success", ">=", 1.0),)).as_json()
    CheckedConditions.parse(sound)
    with pytest.raises((TypeError, UsageError)):
        CheckedConditions.parse({**sound, **change})
