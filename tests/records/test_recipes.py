"""Recipes as values: what is read is written again, and nothing that a file can hold is a traceback."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import fields, replace
from typing import Any

import pytest

from kndb.errors import EditError, UsageError
from kndb.records.edit_settings import Neighbours, OptimizeSettings
from kndb.records.models import Neuron
from kndb.records.recipes import (
    CaptureRecipe,
    EraseRecipe,
    OptimizeRecipe,
    OtherRecipe,
    UpdateRecipe,
    fact_recipe,
    read_recipe,
    relation_of,
    replayed,
)

GROUP = {"prompts": 3, "surprisal_before": 1.5, "surprisal": None, "changed": 0, "right_before": 1.0, "right": 0.5}
RELATION = {"relation": GROUP, "elsewhere": {"prompts": 0}, "refinement": {"number": 2, "run": 1, "method": "x"}}
OF_FACT = {
    "prompts": 5,
    "success_before": 0.0,
    "success": 1.0,
    "probability_before": None,
    "probability": 0.25,
    "held_out_prompts": 0,
    "held_out_success": None,
    **RELATION,
}
FACT = {
    "fact": {"id": 7, "relation": "P36", "subject": None, "object": "Zürich"},
    "to": "Rome",
    "old_answer": "Bern",
    "old_token": 11,
    "new_token": 12,
    "max_share": 1.0,
    "refinement": 3,
    "neurons": ["L0.N3", "L11.N2"],
    "neurons_left_out": [],
    "most_neurons": 2,
    "least_shared": [0.125, 1],
}
STEPS = {"steps": 5, "learning_rate": 0.4, "keep": 16.0, "bound": 20, "target": 0.5, "drift": 0.02}
OUTCOME = {
    "steps": 4,
    "reached": True,
    "loss": 0.1,
    "divergence": 0.0,
    "least_probability": 0.9,
    "largest_change": 3.5,
}
WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    "gradient": (
        "update",
        {
            **FACT,
            "rule": "gradient",
            "lambda_old": 0.0,
            "lambda_new": 0.33,
            "lambda_fitted": True,
            "weights": {"L0.N3": 1.5, "L11.N2": -1},
            "kept_facts": [1, 2],
            "prompts_each": 1,
            "turned_at": [0.5],
            "report": OF_FACT,
            "rebased_from": 4,
        },
    ),
    "output": (
        "update",
        {**FACT, "rule": "output", "lambda_old": 1, "lambda_new": 2.0, "signs": {"L0.N3": 1, "L11.N2": -1}},
    ),
    "paper": (
        "update",
        {
            **FACT,
            "rule": "paper",
            "lambda_old": 1.0,
            "lambda_new": 8.0,
            "lambda_fitted": False,
            "negative_neurons": ["L0.N3"],
            "cosine_to_output": None,
        },
    ),
    "before rules": ("update", {**FACT, "lambda_old": 1.0, "lambda_new": 8.0}),
    "optimize": (
        "optimize",
        {
            **FACT,
            "neurons_far_below": ["L0.N1"],
            "neighbours": 4,
            "others": 5,
            "prompts_each": None,
            "kept_facts": [],
            **STEPS,
            "at_once": 8,
            "seed": 1,
            "outcome": OUTCOME,
            "report": OF_FACT,
        },
    ),
    "before at once": ("optimize", {**FACT, **STEPS, "seed": 0, "kept_facts": [3]}),
    "erase": ("erase", {"relation": "P36", "top": 20, "refinement": 1, "neurons": ["L1.N1"], "report": RELATION}),
    "capture": (
        "capture",
        {
            "from": "edited",
            "from_fingerprint": "f",
            "tensors": {"w": {"encoding": "factors", "slots": None, "rank": 2, "exceptions": 0}},
        },
    ),
}
TYPES = {"update": UpdateRecipe, "optimize": OptimizeRecipe, "erase": EraseRecipe, "capture": CaptureRecipe}
EVERY = pytest.mark.parametrize("name", WRITTEN)


@EVERY
def test_what_is_read_is_written_again_to_the_letter(name):
    kind, values = WRITTEN[name]
    recipe = read_recipe(kind, values)
    assert type(recipe) is TYPES[kind]
    assert recipe.kind == kind
    assert json.dumps(recipe.as_json(), sort_keys=True) == json.dumps(values, sort_keys=True)
    assert read_recipe(kind, recipe.as_json()) == recipe
    assert TYPES[kind].parse(recipe.as_json()) == recipe


@EVERY
def test_keys_that_a_later_kndb_writes_are_kept(name):
    kind, values = WRITTEN[name]
    more = copy.deepcopy(values) | {"later": {"a": [1, None]}}
    if "fact" in more:
        more["fact"]["label"] = "x"
    recipe = read_recipe(kind, more)
    assert type(recipe) is TYPES[kind]
    assert recipe.as_json() == more


@EVERY
def test_random_changes_are_read_or_refused_and_never_lost(name):
    """Each is a value of its kind or an `OtherRecipe`, gives the same JSON, and has a title."""
    kind, values = WRITTEN[name]
    chance = random.Random(name)
    unread = 0
    for _ in range(1500):
        changed = copy.deepcopy(values)
        for _ in range(chance.randint(1, 3)):
            mutate(chance, changed)
        recipe = read_recipe(chance.choice([kind, kind, kind, "other", *TYPES]), changed)
        assert json.dumps(recipe.as_json(), sort_keys=True) == json.dumps(changed, sort_keys=True)
        assert isinstance(recipe.title, str)
        assert isinstance(relation_of(recipe), str)
        unread += isinstance(recipe, OtherRecipe)
        if isinstance(recipe, OtherRecipe):
            assert recipe.flaw
            with pytest.raises(EditError):
                fact_recipe(recipe)
        else:
            assert type(recipe).parse(recipe.as_json()) == recipe
    assert 0 < unread < 1500


ODD = (None, True, False, 0, 1, -1, 1.0, 10**400, 1e308, "", "L1.N2", "L01.N2", "L1.N2 ", "x", "\ud800", [], {}, [[]])


def mutate(chance: random.Random, values: Any) -> None:
    """Changes one value somewhere, takes one out, or puts one in."""
    places: list[tuple[Any, Any]] = []
    left = [values]
    while left:
        one = left.pop()
        inner = list(one.items()) if isinstance(one, dict) else list(enumerate(one))
        places += [(one, key) for key, _ in inner]
        left += [value for _, value in inner if isinstance(value, (dict, list))]
    if not places:
        return
    holder, key = chance.choice(places)
    what = chance.randrange(4)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, dict):
        holder[chance.choice(["", "extra", "L9.N9", "kind"])] = chance.choice(ODD)
    elif what == 2:
        other, place = chance.choice(places)
        if place in (other if isinstance(other, dict) else range(len(other))):
            holder[key] = copy.deepcopy(other[place])
    else:
        holder[key] = copy.deepcopy(chance.choice(ODD))


def test_a_recipe_in_another_spelling_is_not_read_as_if_it_were_kndbs_own():
    kind, values = WRITTEN["erase"]
    recipe = read_recipe(kind, values | {"neurons": ["L01.N1"]})
    assert isinstance(recipe, OtherRecipe)
    assert recipe.as_json()["neurons"] == ["L01.N1"]


@pytest.mark.parametrize(
    ("name", "changes", "flaw"),
    [
        ("gradient", {"weights": None}, "weights is None"),
        ("gradient", {"neurons": []}, "neurons is []"),
        ("output", {"signs": {"L0.N3": 2}}, "signs is {'L0.N3': 2}"),
        ("paper", {"rule": "other"}, "rule is 'other'"),
        ("optimize", {"steps": 0}, "steps must be at least 1 (got 0)"),
        ("optimize", {"outcome": {}}, "outcome is {}"),
        ("capture", {"tensors": 3}, "tensors is 3"),
    ],
)
def test_what_is_wrong_is_said(name, changes, flaw):
    kind, values = WRITTEN[name]
    recipe = read_recipe(kind, values | changes)
    assert isinstance(recipe, OtherRecipe)
    assert recipe.flaw == flaw
    assert read_recipe("steer", {}).flaw == "kind 'steer' is unknown"
    assert read_recipe("erase", {}).flaw == "neurons is missing"


def test_settings_of_a_recipe():
    assert read_recipe(*WRITTEN["optimize"]).settings == OptimizeSettings(
        5, 0.4, 16.0, 20, 0.5, 0.02, 8, 1, Neighbours(4, 5, None), 1.0, 2
    )
    before = read_recipe(*WRITTEN["before at once"])
    assert before.settings.at_once == 40  # what kndb did before recipes said it
    assert read_recipe(*WRITTEN["before rules"]).rule_name == "paper"


def test_a_replayed_recipe_says_where_it_is_from_and_nothing_of_what_was_measured():
    kind, values = WRITTEN["gradient"]
    without = {key: value for key, value in values.items() if key != "report"}
    assert replayed(read_recipe(kind, values), 9).as_json() == {**without, "rebased_from": 9}


def test_titles():
    titles = {name: read_recipe(*one).title for name, one in WRITTEN.items()}
    assert titles["gradient"] == "(not named) · P36 · Bern → Rome"
    assert titles["erase"] == "P36: 1 most common neurons to zero"
    assert titles["capture"] == "edited: 1 parameter"
    assert relation_of(read_recipe(*WRITTEN["optimize"])) == relation_of(read_recipe(*WRITTEN["erase"])) == "P36"


def test_a_recipe_that_is_made_is_what_is_read_of_its_json():
    made = EraseRecipe(relation="P36", neurons=(Neuron(1, 2),))
    assert made.as_json() == {"relation": "P36", "neurons": ["L1.N2"]}
    assert read_recipe("erase", made.as_json()) == made
    assert {one.name for one in fields(made)} >= {"report", "rebased_from"}
    with pytest.raises(UsageError, match="weights is missing"):
        replace(read_recipe(*WRITTEN["gradient"]), weights=None)
