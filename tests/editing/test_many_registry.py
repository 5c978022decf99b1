"""The registry of methods for many facts: what each needs, and that plans by name are edits with their recipes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import tiny_model

from kndb.editing.many import covariance as covariances
from kndb.editing.many.methods import METHODS, keys_of, plan_many, settled
from kndb.editing.many.sentences import Rewrite, Sentence
from kndb.editing.objects.diff_file import decode, encode
from kndb.errors import EditError, UsageError
from kndb.models.network import Network
from kndb.models.registry import adapter_for
from kndb.records.many_recipes import MANY_RECIPES, RecipeAnswer
from kndb.records.many_settings import (
    AlphaEditSettings,
    FinetuneSettings,
    MemitSettings,
    RomeSettings,
    TargetSettings,
)
from kndb.records.recipe_facts import RecipeFact

PRINT = "f" * 64
FACTS = [
    Rewrite((Sentence((5, 9, 4, 33, 7), 4, (4,), (11,)),), fact=0),
    Rewrite((Sentence((8, 21, 14), 2, (2,), (23,)),), fact=1),
]


@pytest.fixture(scope="module")
def network() -> Network:
    model = tiny_model("gpt2", 4).requires_grad_(False).eval()
    return Network(model, adapter_for(model.config))


@pytest.fixture(scope="module")
def counted(network) -> dict[int, covariances.Covariance]:
    generator = torch.Generator().manual_seed(1)
    drawn = [tuple(torch.randint(1, 50, (6,), generator=generator).tolist()) for _ in range(30)]
    sentences = [Sentence(ids, 2, (5,), (-1,)) for ids in drawn]
    origin = covariances.Origin(PRINT, "v1", "texts", "every", 30, "0" * 64)
    begun = {layer: covariances.empty(layer, network.neurons, origin) for layer in range(3)}
    return covariances.count_keys(network, sentences, begun)


def recipe(settings):
    named = [RecipeFact(id=number, relation="P36", subject="Norway", object="Oslo") for number in range(2)]
    answers = tuple(RecipeAnswer(fact=one, to="Paris") for one in named)
    return MANY_RECIPES[settings.method](answers=answers, settings=settings)


def test_every_method_has_a_recipe_and_every_recipe_a_method():
    assert METHODS.keys() == MANY_RECIPES.keys() == {"rome", "memit", "alphaedit", "emmet", "finetune"}


@pytest.mark.parametrize("name", METHODS)
def test_a_plan_by_name_is_an_edit_with_its_recipe(network, counted, name):
    method = METHODS[name]
    settings = settled(method.settings(), network)
    facts = FACTS[: method.most_facts]
    given = counted if method.covariances else None
    planned = plan_many(network, facts, recipe(settings), fingerprint=PRINT, covariances=given)
    read = decode(encode(planned.edit), "x")
    assert read.recipe == planned.edit.recipe
    assert read.kind == name
    assert read.recipe.outcome.asked == len(facts)
    assert set(planned.keys) == (set(settings.layers) if method.covariances else set())


@pytest.mark.parametrize(
    ("count", "many", "alone"), [(3, (0,), (0,)), (12, (1, 2, 3), (2,)), (30, (3, 4, 5, 6, 7), (5,))]
)
def test_layers_are_by_the_models_depth(count, many, alone):
    model = tiny_model("gpt2", layers=count, width=8, neurons=8, heads=2)
    deep = Network(model, adapter_for(model.config))
    assert settled(MemitSettings(), deep).layers == many
    assert settled(RomeSettings(), deep).layers == alone


def test_masked_models_have_the_lowest_layer():
    model = tiny_model("bert")
    assert settled(MemitSettings(), Network(model, adapter_for(model.config))).layers == (0,)


def test_defaults_are_filled_in_and_what_is_said_stays(network):
    full = settled(MemitSettings(), network)
    assert full.layers is not None
    assert full.token is not None
    said = MemitSettings(layers=(1, 2), token="answer")
    assert settled(said, network) == said
    with pytest.raises(EditError, match="no layer 9; it has layers 0 to 2"):
        settled(FinetuneSettings(layers=(9,)), network)
    with pytest.raises(UsageError, match="see settled"):
        plan_many(network, FACTS, recipe(MemitSettings()), fingerprint=PRINT)


def test_rome_takes_one_fact(network, counted):
    settings = RomeSettings(layers=(1,), token="answer")
    with pytest.raises(EditError, match="rome changes 1 fact at once"):
        plan_many(network, FACTS, recipe(settings), fingerprint=PRINT, covariances=counted)
    tokens = [replace(one, fact=0) for one in FACTS]
    with pytest.raises(EditError, match="token='answer' has an output to change for each token of a new answer"):
        plan_many(network, tokens, recipe(settings), fingerprint=PRINT, covariances=counted)


def test_covariances_have_to_be_there_and_of_the_model(network, counted):
    settings = MemitSettings(layers=(1,), token="answer")
    with pytest.raises(EditError, match="memit needs the covariance of layer 1's keys"):
        plan_many(network, FACTS, recipe(settings), fingerprint=PRINT, covariances={0: counted[0]})
    with pytest.raises(EditError, match="the covariance is of checkpoint ffffffffffff"):
        plan_many(network, FACTS, recipe(settings), fingerprint="e" * 64, covariances=counted)
    with pytest.raises(EditError, match="of layer 0"):
        plan_many(network, FACTS, recipe(settings), fingerprint=PRINT, covariances={1: counted[0]})
    unfinished = {1: replace(counted[1], done=7)}
    with pytest.raises(EditError, match="interrupted after 7 of 30"):
        plan_many(network, FACTS, recipe(settings), fingerprint=PRINT, covariances=unfinished)


def test_equal_plans_are_equal_bytes_and_earlier_keys_count(network, counted):
    settings = AlphaEditSettings(layers=(1,), token="answer", threshold=5.0, target=TargetSettings(steps=5))

    def planned(earlier=None):
        made = plan_many(network, FACTS[:1], recipe(settings), fingerprint=PRINT, covariances=counted, earlier=earlier)
        return encode(made.edit)

    before = keys_of(network, FACTS[1:], [1])
    assert before[1].shape == (network.neurons, 1)
    assert planned() == planned()
    assert planned(before) != planned()
