"""Recipes and settings of edits of many facts: read back as they were written, and refused where they can't be."""

from __future__ import annotations

import pytest

from kndb.errors import UsageError
from kndb.records.many_recipes import MANY_RECIPES, ManyOutcome, RecipeAnswer, RecipeCovariance
from kndb.records.many_settings import (
    AlphaEditSettings,
    EmmetSettings,
    FinetuneSettings,
    MemitSettings,
    RomeSettings,
    TargetSettings,
)
from kndb.records.recipe_facts import RecipeFact
from kndb.records.recipes import OtherRecipe, read_recipe

SETTINGS = [
    RomeSettings(layers=(3,), token="subject"),
    MemitSettings(layers=(3, 4), token="answer", keys="each", rounds=2, preserve=7.5, target=TargetSettings(steps=3)),
    AlphaEditSettings(layers=(0,), token="subject", threshold=0.5),
    EmmetSettings(layers=(1,), token="subject", slack=0.1),
    FinetuneSettings(layers=(1,), bound=2.0, seed=9),
]


def fact(number: int, relation: str = "P36") -> RecipeAnswer:
    named = RecipeFact(id=number, relation=relation, subject=f"Land {number}", object="Oslo")
    return RecipeAnswer(fact=named, to="New York City")


def recipe(settings, count: int = 2, **more):
    answers = tuple(fact(number, f"P{number % 5}") for number in range(count))
    return MANY_RECIPES[settings.method](answers=answers, settings=settings, **more)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda one: one.method)
def test_a_recipe_is_read_back(settings):
    used = RecipeCovariance(layer=3, source="facts", tokens="every", texts=5, keys=40, digest="0" * 64)
    outcome = ManyOutcome(rounds=(1, 2), asked=2, ranks=(7,))
    written = recipe(settings, covariances=(used,), earlier=4, outcome=outcome)
    read = read_recipe(settings.method, written.as_json())
    assert read == written
    assert read.settings == settings
    assert read.as_json() == written.as_json()


def test_keys_that_are_not_known_stay():
    values = recipe(SETTINGS[1]).as_json() | {"later": [1]}
    assert read_recipe("memit", values).as_json() == values


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("answers"),
        lambda values: values.update(answers=[]),
        lambda values: values.pop("settings"),
        lambda values: values["settings"].pop("method"),
        lambda values: values["settings"].pop("layers"),
        lambda values: values["settings"].update(method="rome"),
        lambda values: values["settings"].update(preserve=-1),
        lambda values: values["settings"].update(preserve=True),
        lambda values: values["settings"].update(more=1),
        lambda values: values["settings"].update(layers=[4, 3]),
        lambda values: values["settings"]["target"].update(steps=0),
        lambda values: values.update(settings=[1]),
    ],
)
def test_what_cant_be_read_is_kept_as_it_is(change):
    values = recipe(SETTINGS[1]).as_json()
    change(values)
    found = read_recipe("memit", values)
    assert isinstance(found, OtherRecipe)
    assert found.as_json() == values


def test_the_title_names_one_fact_or_counts_many():
    assert recipe(SETTINGS[0], 1).title == "Land 0 · P0 · Oslo → New York City"
    assert recipe(SETTINGS[1], 12).title == "12 facts: P0 3, P1 3, P2 2 and 2 more relations"
    assert recipe(SETTINGS[1], 2).title == "2 facts: P0 1, P1 1"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MemitSettings(preserve=0), "preserve must be a number above 0"),
        (lambda: MemitSettings(layers=()), "layers must be numbers of layers that rise"),
        (lambda: MemitSettings(layers=(3, 3)), "layers must be numbers of layers that rise"),
        (lambda: MemitSettings(token="last"), "token must be subject or answer"),
        (lambda: MemitSettings(keys="all"), "keys must be mean or each"),
        (lambda: MemitSettings(rounds=0), "rounds must be at least 1"),
        (lambda: RomeSettings(ridge=-1), "ridge must be a number of at least 0"),
        (lambda: AlphaEditSettings(threshold=0), "threshold must be a number above 0"),
        (lambda: AlphaEditSettings(damping=float("inf")), "damping must be a number above 0"),
        (lambda: EmmetSettings(slack=-0.1), "slack must be a number of at least 0"),
        (lambda: FinetuneSettings(layers=(1, 2)), "layers must be one layer"),
        (lambda: FinetuneSettings(probability=1), "probability must be a number of at least 0, under 1"),
        (lambda: FinetuneSettings(seed=-1), "seed must be"),
        (lambda: TargetSettings(bound=0), "target_bound must be a number above 0"),
        (lambda: TargetSettings(at_once=0), "target_at_once must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(make, words):
    with pytest.raises(UsageError, match=words):
        make()


def test_a_recipe_has_its_own_methods_settings():
    with pytest.raises(UsageError, match="settings of rome for 1 facts in a recipe of memit"):
        MANY_RECIPES["memit"](answers=(fact(1),), settings=RomeSettings())
