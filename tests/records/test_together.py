"""Recipes of joint plans: what is read is what was written, and a thousand facts take little room."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from kndb.database.edits.faults import faults
from kndb.errors import UsageError
from kndb.records.models import Neuron
from kndb.records.plan_reports import FactReport, OthersReport
from kndb.records.recipes import OtherRecipe, read_recipe
from kndb.records.together import (
    FITTED,
    PlannedFact,
    TogetherOutcome,
    TogetherRecipe,
    TogetherSettings,
    written_as_runs,
)

FACTS = (
    PlannedFact(588, "P176", "Nissan Leaf", "Nissan", "Toyota", (41,), "Nissan"),
    PlannedFact(12, "P36", None, "Paris", "New York City", (7, 8, 9)),
)


def recipe(**changed: object) -> TogetherRecipe:
    values = {
        "facts": FACTS,
        "refinement": 3,
        "layers": (2, 3),
        "neurons": (),
        "kept_facts": (1, 2, 3, 9, 11, 12),
        "prompts_each": 2,
        "how": TogetherSettings().as_json(),
    }
    return TogetherRecipe(**{**values, **changed})


@pytest.mark.parametrize(
    "made",
    [
        recipe(),
        recipe(
            layers=(),
            neurons=(Neuron(2, 418), Neuron(3, 1)),
            how=TogetherSettings("neurons", steps=7, keep=3.5).as_json(),
            prompts_each=None,
            kept_facts=(),
            outcome=TogetherOutcome(steps=7, reached=True, success=1.0, loss=0.2, drift=0.01, largest_change=1.5),
            rebased_from=4,
            extra={"later": [1]},
        ),
    ],
)
def test_it_is_read_as_it_was_written(made):
    written = json.loads(json.dumps(made.as_json()))
    found = read_recipe("together", written)
    assert found == made
    assert found.as_json() == written


def test_columns_and_runs():
    written = recipe().as_json()
    assert written["facts"]["to"] == ["Toyota", "New York City"]
    assert written["facts"]["tokens"] == [[41], [7, 8, 9]]
    assert written["kept_facts"] == "1-3,9,11-12"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kept_facts", "3-1"),
        ("kept_facts", "1,2"),
        ("kept_facts", "01"),
        ("kept_facts", "x"),
        ("facts", {}),
        ("facts", {"id": [1]}),
        ("facts", {**recipe().as_json()["facts"], "to": ["Toyota"]}),
        ("facts", {name: [] for name in recipe().as_json()["facts"]}),
        ("settings", {"scope": "model"}),
        ("settings", {"steps": 0}),
        ("settings", {"steps": 1.5}),
        ("settings", {"unheard of": 1}),
        ("settings", []),
        ("layers", []),
        ("neurons", ["L1.N2"]),
    ],
)
def test_what_cannot_be_read_is_kept_as_it_is(key, value):
    written = recipe().as_json() | {key: value}
    found = read_recipe("together", written)
    assert isinstance(found, OtherRecipe)
    assert found.as_json() == written


def test_settings_that_an_earlier_recipe_lacks_have_their_defaults():
    written = recipe().as_json()
    del written["settings"]["ridge"]
    found = read_recipe("together", written)
    assert found.as_json() == written
    assert found.settings == TogetherSettings()


def test_a_recipe_from_before_patience_is_replayed_as_it_was_planned():
    settings = TogetherSettings(learning_rate=0.04, patience=1)
    written = recipe(how=settings.as_json()).as_json()
    for name in ("patience", "first_step"):
        del written["settings"][name]
    found = read_recipe("together", written)
    assert found.as_json() == written
    assert found.settings == settings


@pytest.mark.parametrize(("layers", "usual"), [(1, FITTED[0]), (11, FITTED[0]), (12, FITTED[1]), (80, FITTED[1])])
def test_settings_that_nobody_asks_for_are_fitted_to_the_depth(layers, usual):
    fitted = TogetherSettings().fitted(layers)
    for name, value in vars(fitted).items():
        assert value == getattr(usual, name, getattr(TogetherSettings(), name)) or name == "steps"
    assert fitted.steps is None
    assert fitted.fitted(80) == fitted, "what is fitted stays"
    given = TogetherSettings(edited_at_once=5, ridge=0.5).fitted(layers)
    assert given == replace(fitted, edited_at_once=5, ridge=0.5)


def test_keep_that_is_asked_for_stays_to_the_end():
    assert TogetherSettings(keep=3.0).fitted(30).keep_last == 3.0
    assert TogetherSettings(keep=3.0, keep_last=5.0).fitted(30).keep_last == 5.0
    assert TogetherSettings(keep_last=5.0).fitted(30).keep == FITTED[1].keep


def test_keep_rises_from_the_middle_to_the_last_sixth():
    settings = TogetherSettings(keep=2.0, keep_last=14.0)
    found = [settings.keep_at(taken, 12) for taken in range(12)]
    assert found == pytest.approx([2, 2, 2, 2, 2, 2, 2, 5, 8, 11, 14, 14])


def test_runs_against_sets():
    chance = random.Random(0)
    for _ in range(50):
        numbers = sorted(chance.sample(range(60), chance.randint(0, 60)))
        runs = written_as_runs(numbers)
        found = read_recipe("together", recipe().as_json() | {"kept_facts": runs})
        assert found.kept_facts == tuple(numbers)


@pytest.mark.parametrize("runs", ["0-999999999999", "0-600000,700000-1300000", "5-3", "1,", "1--2", "9" * 30])
def test_runs_that_are_refused(runs):
    """A few letters of a stranger's recipe must not fill the memory."""
    assert isinstance(read_recipe("together", recipe().as_json() | {"kept_facts": runs}), OtherRecipe)


def test_a_thousand_facts_are_short():
    """A hundred bytes a fact, and three for each fact that is kept."""
    chance = random.Random(0)
    many = tuple(replace(FACTS[0], id=number) for number in range(1000))
    kept = tuple(sorted(chance.sample(range(2000, 4000), 1000)))
    written = json.dumps(recipe(facts=many, kept_facts=kept).as_json(), separators=(",", ":"))
    assert len(written) < 80_000


def test_what_changes_and_the_title():
    assert recipe().changed == (Neuron(2, 0), Neuron(3, 0))
    assert recipe().title == "2 facts · P176, P36"
    assert recipe(facts=FACTS[:1]).title == "1 fact · P176"
    many = tuple(replace(FACTS[0], relation=f"P{number}") for number in range(1, 6))
    assert recipe(facts=many).title == "5 facts · P1, P2, P3 and 2 more"
    with pytest.raises(UsageError, match="layers must say what changes"):
        recipe(layers=())
    with pytest.raises(UsageError, match="layers must rise"):
        recipe(layers=(2, 2))


@pytest.mark.parametrize(
    ("steps", "prompts", "shallow", "deep"),
    [
        (None, 10, 300, 200),
        (None, 800, 300, 200),
        (None, 801, 300, 201),
        (None, 1601, 301, 401),
        (None, 10_000, 1875, 2500),
        (7, 10_000, 7, 7),
    ],
)
def test_many_prompts_get_more_steps_unless_steps_are_named(steps, prompts, shallow, deep):
    settings = TogetherSettings(steps=steps)
    assert settings.most_steps(prompts, 4) == shallow
    assert settings.most_steps(prompts, 30) == deep
    assert TogetherSettings.parse(settings.as_json()) == settings


@pytest.mark.parametrize(("success", "expected"), [(0.0, ["no-success"]), (0.49, ["little-success"]), (0.5, [])])
def test_a_plan_whose_answers_seldom_win_is_at_fault(success, expected):
    unsaid = dict.fromkeys(("success_before", "probability_before", "probability", "held_out_success"))
    none = OthersReport(prompts=0)
    report = FactReport(prompts=9, success=success, held_out_prompts=0, relation=none, elsewhere=none, **unsaid)
    assert [fault.kind for fault in faults(recipe(report=report))] == expected


def test_facts_that_win_nowhere_are_named_unless_all_do():
    unsaid = dict.fromkeys(("success_before", "probability_before", "probability", "held_out_success"))
    none = OthersReport(prompts=0)
    common = {"prompts": 9, "held_out_prompts": 0, "relation": none, "elsewhere": none, **unsaid}
    number = recipe().facts[0].id
    for success, expected in ((0.0, []), (0.9, [number])):
        report = FactReport(success=success, without_success=(number, 99), **common)
        assert FactReport.parse(json.loads(json.dumps(report.as_json()))) == report
        found = [fact.id for fault in faults(recipe(report=report)) for fact in fault.facts]
        assert found == expected
    # As in reports of before there was such a list.
    assert "without_success" not in FactReport(success=0.9, **common).as_json()
