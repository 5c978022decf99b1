"""Rules of an update: signs, weights, the fitted factor, which neurons; and what a plan says of itself."""

import math
import random
from dataclasses import replace

import pytest
import torch
from tiny_models import doubled, down_projections, tiny_model
from transformers import AutoTokenizer

from kndb.database.edits.faults import faults
from kndb.database.edits.kept_prompts import encode_open
from kndb.database.edits.update_rules import (
    FARTHEST,
    RIDGE,
    TURNS,
    activation_signs,
    by_gradient,
    fitted,
    fitted_along_gradient,
    smallest_winning,
)
from kndb.editing.objects import diff_file
from kndb.editing.objects.slots import edited
from kndb.editing.planning.gradient_rule import along_gradient
from kndb.editing.planning.recipes import UpdateRule, plan
from kndb.editing.planning.replay import replay, require_replayable, update_rule
from kndb.errors import EditError, UsageError
from kndb.models.answers import answer_logits
from kndb.models.directions import gradient_directions, output_directions
from kndb.models.families.gpt2 import GPT2
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt
from kndb.records.edit_settings import UpdateSettings
from kndb.records.models import Neuron
from kndb.records.recipes import OtherRecipe, UpdateRecipe, read_recipe
from kndb.store import facts as store_facts

NAMED = {"fingerprint": "f" * 64, "recipe": read_recipe("update", {})}


def fact_of(database, subject="France", relation="P36"):
    return next(fact for fact in database.facts.find([relation]) if fact.subject == subject)


def content_of(database, edit):
    return diff_file.read(database.store.objects, edit.object_path, edit.object_hash)


# --- signs ---------------------------------------------------------------------------------------------------


def test_signs_are_those_of_the_mean_activation():
    """Against a hook of our own, one prompt at a time."""
    model = tiny_model("gpt2", 4)
    prompts = [EncodedPrompt(number, (5, 9 + number, 2), 2, 0) for number in range(4)]
    neurons = [Neuron(layer, index) for layer in (2, 0) for index in range(0, 40, 3)]
    found = activation_signs(Network(model, GPT2), prompts, neurons)
    means = {}
    for neuron in neurons:
        seen = []
        handle = down_projections(model)[neuron.layer].register_forward_pre_hook(
            lambda _module, inputs, seen=seen, index=neuron.index: seen.append(float(inputs[0][0, 2, index]))
        )
        for prompt in prompts:
            with torch.no_grad():
                model(input_ids=torch.tensor([prompt.ids]))
        handle.remove()
        means[neuron] = sum(seen) / len(seen)
    assert found == {neuron: -1 if mean < 0 else 1 for neuron, mean in means.items()}
    assert set(found.values()) == {1, -1}


def test_signs_need_prompts():
    with pytest.raises(EditError, match="has no prompt from which"):
        activation_signs(Network(tiny_model("gpt2"), GPT2), [], [Neuron(0, 1)])


# --- the fitted factor ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.001, 0.01, 0.07, 0.3, 1.0, 2.5, 60.0])
def test_the_smallest_factor_that_wins(threshold):
    tried = []

    def wins(factor):
        tried.append(factor)
        return 9 if factor >= threshold else 3

    found = smallest_winning(wins, 8)
    assert max(threshold, 1 / 128) <= found <= max(threshold * 2 ** (1 / 8) * (1 + 1e-9), 1 / 128)
    assert len(tried) <= 17


def test_without_enough_wins_the_most_count():
    assert smallest_winning(lambda factor: {0.5: 2, 1.0: 4, 2.0: 4}.get(factor, 0), 5) == 1.0
    assert smallest_winning(lambda _factor: 0, 5) == 1 / 128


# --- the gradient's weights ----------------------------------------------------------------------------------


def activation(model, prompt, neuron):
    """By a hook of our own, at the prompt's answer position."""
    seen = []
    handle = down_projections(model)[neuron.layer].register_forward_pre_hook(
        lambda _module, inputs: seen.append(float(inputs[0][0, prompt.position, neuron.index]))
    )
    with torch.no_grad():
        model(input_ids=torch.tensor([prompt.ids]))
    handle.remove()
    return seen[0]


def test_weights_write_least_to_other_prompts():
    """Of all weights with the same effect on the fact's prompts; what is written is summed up neuron by neuron."""
    model = doubled(tiny_model("gpt2", 7))
    network = Network(model, GPT2)
    own = [EncodedPrompt(number, (5, 9 + number, 2), 2, 0) for number in range(3)]
    others = [EncodedPrompt(9 + number, (7, 30 + number, 11, 4), 3, 0) for number in range(12)]
    neurons = [Neuron(layer, index) for layer in (2, 0) for index in range(0, 40, 9)]
    rule = by_gradient(network, UpdateRule(3, 11, 0.0, 1.0, "gradient"), neurons, own, others)
    assert sorted(rule.directions) == [0, 2]
    assert sum(abs(weight) for weight in rule.weights.values()) / len(neurons) == pytest.approx(1)
    slots = sorted(neurons)
    assert list(rule.weights) == slots
    # GPT-2 keeps a value slot as a row.
    lengths = [float(down_projections(model)[slot.layer].weight[slot.index].norm()) for slot in slots]
    effect = [
        length * sum(activation(model, prompt, slot) for prompt in own) / len(own)
        for slot, length in zip(slots, lengths, strict=True)
    ]
    vectors = [
        torch.stack(
            [
                length * activation(model, prompt, slot) * rule.directions[slot.layer]
                for slot, length in zip(slots, lengths, strict=True)
            ]
        )
        for prompt in others
    ]  # what each slot writes for each prompt, [prompts][slots, d], at weight 1
    mean_square = sum(float(vector.square().sum()) for vector in vectors) / len(others) / len(slots)

    def cost(weights):
        weights = torch.tensor(weights, dtype=torch.float64)
        weights = weights / float(weights @ torch.tensor(effect, dtype=torch.float64))
        written = sum(float((weights @ vector).square().sum()) for vector in vectors) / len(others)
        return written + RIDGE * mean_square * float(weights.square().sum())

    best = cost(list(rule.weights.values()))
    chance = random.Random(1)
    for size in (0.01, 0.1, 1.0):
        for _ in range(50):
            assert cost([weight + chance.gauss(0, size) for weight in rule.weights.values()]) >= best
    assert cost([-1.0 if value < 0 else 1.0 for value in effect]) > best


def test_without_other_prompts_weights_are_the_effects():
    model = doubled(tiny_model("gpt2", 7))
    own = [EncodedPrompt(0, (5, 9, 2), 2, 0)]
    neurons = [Neuron(1, 4), Neuron(2, 8)]
    rule = by_gradient(Network(model, GPT2), UpdateRule(3, 11, 0.0, 1.0, "gradient"), neurons, own, [])
    effects = [
        float(down_projections(model)[slot.layer].weight[slot.index].norm()) * activation(model, own[0], slot)
        for slot in neurons
    ]
    scale = sum(map(abs, effects)) / 2
    assert list(rule.weights.values()) == pytest.approx([effect / scale for effect in effects])


def test_slots_of_zeros_cannot_move():
    model = tiny_model("gpt2", 7)
    with torch.no_grad():
        down_projections(model)[1].weight[4] = 0
    own = [EncodedPrompt(0, (5, 9, 2), 2, 0)]
    with pytest.raises(EditError, match="none of the neurons that are to change is active"):
        by_gradient(Network(model, GPT2), UpdateRule(3, 11, 0.0, 1.0, "gradient"), [Neuron(1, 4)], own, own)


# --- the default, and rule output ----------------------------------------------------------------------------


def new_values(database, edit, push):
    """Compares an update's new values with v + λ₂·s·‖v‖·push(layer), s from the recipe."""
    content = content_of(database, edit)
    weights = edit.recipe.weights if edit.recipe.rule == "gradient" else edit.recipe.signs
    for diff in content.parameters:
        layer = content.layers[diff.parameter]
        for index, old, new in zip(diff.indices.tolist(), diff.old.double(), diff.new, strict=True):
            expected = old + weights[Neuron(layer, index)] * old.norm() * push(layer)
            torch.testing.assert_close(new, expected.float())


def directions_by_hand(model, network, recipe, own):
    """Directions of an update along the gradient; where they were turned, with slots moved one by one."""
    weights = recipe.weights
    layers = {slot.layer for slot in weights}
    found = gradient_directions(network, own, recipe.new_token, layers)
    for factor in recipe.turned_at:
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with torch.no_grad():
            for slot, weight in weights.items():
                values = network.layers[slot.layer].down_matrix[:, slot.index]
                moved = values.double() + factor * weight * values.double().norm() * found[slot.layer]
                values.copy_(moved)
        there = gradient_directions(network, own, recipe.new_token, layers)
        model.load_state_dict(before)
        found = {layer: (found[layer] + there[layer]) / (found[layer] + there[layer]).norm() for layer in layers}
    return found


def test_a_default_update_is_the_rule_along_the_gradient(refined, family, small_models):
    """New values worked out from the recipe; success asked of the model once more."""
    fact = fact_of(refined)
    edit = refined.edits.plan_update("tiny", fact.id, "Tokyo")
    recipe = edit.recipe
    assert recipe.rule == "gradient"
    assert recipe.lambda_fitted is True
    assert recipe.lambda_old == 0
    assert recipe.max_share == 1.0
    assert not recipe.neurons_left_out
    facts = {one.id: one for one in refined.facts.find()}
    assert recipe.kept_facts
    assert all(facts[number].relation != fact.relation for number in recipe.kept_facts)
    version = refined.models.load("tiny")
    network = Network(version.model, version.adapter)
    with refined.store.reading() as connection:
        own = encode_open(version, store_facts.prompts(connection, fact_ids=[fact.id], held_out=False))
    directions = directions_by_hand(version.model, network, recipe, own)
    new_values(refined, edit, lambda layer: recipe.lambda_new * directions[layer])
    report = recipe.report
    assert report.success >= 0.8
    assert report.success_before == 0
    refined.edits.apply(edit.id)
    model = refined.load_model("tiny").eval()
    tokenizer = AutoTokenizer.from_pretrained(small_models[family])
    question = "The capital city of France is called" + (" [MASK]." if family == "bert" else "")
    encoded = tokenizer(question, return_tensors="pt")
    place = (encoded.input_ids[0] == tokenizer.mask_token_id).nonzero()[0, 0] if family == "bert" else -1
    with torch.no_grad():
        assert int(model(**encoded).logits[0, place].argmax()) == recipe.new_token


def test_where_one_gradient_does_not_lead_far_enough_it_is_taken_again():
    """The new answer wins on the fact's prompts; without a turn, it does so nowhere at any λ₂ that is tried."""
    turned_once = 0
    for seed in range(12):
        model = tiny_model("gpt2", seed, roughness=0.5)
        network = Network(model, GPT2)
        own = [EncodedPrompt(number, (5, 9 + number, 2), 2, 0) for number in range(4)]
        others = [EncodedPrompt(9 + number, (7, 30 + number, 11, 4), 3, 0) for number in range(8)]
        neurons = [Neuron(1, 3), Neuron(2, 8), Neuron(2, 9)]
        before = {name: value.clone() for name, value in model.state_dict().items()}
        rule = by_gradient(network, UpdateRule(3, 11, 0.0, 0.0, "gradient"), neurons, own, others)
        unturned = fitted(network, rule, neurons, own, 0.0, FARTHEST)
        found, turns = fitted_along_gradient(network, rule, neurons, own)
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert (turns == []) or not unturned.enough
        assert found.lambda_new <= FARTHEST
        assert len(turns) <= TURNS
        won = []
        for one in (unturned.rule, found):
            with edited(dict(model.named_parameters()), plan(network, neurons, one.on(network), **NAMED)):
                won.append(sum(int(answer_logits(network, [prompt])[0].argmax()) == 11 for prompt in own))
        assert won[0] == unturned.wins
        assert won[1] >= won[0]
        turned_once += won[1] > won[0]
        again = along_gradient(network, replace(found, directions={}), neurons, own, turns)
        assert all(torch.equal(again.directions[layer], value) for layer, value in found.directions.items())
    assert turned_once >= 1


def test_rule_output_has_the_models_own_signs(refined):
    edit = refined.edits.plan_update("tiny", fact_of(refined).id, "Tokyo", UpdateSettings(rule="output"))
    recipe = edit.recipe
    assert recipe.lambda_fitted is True
    assert recipe.lambda_old == recipe.lambda_new / 2
    version = refined.models.load("tiny")
    network = Network(version.model, version.adapter)
    tokens = recipe.old_token, recipe.new_token

    def push(layer):
        away, towards = output_directions(network, layer, tokens)
        return recipe.lambda_new * towards - recipe.lambda_old * away

    new_values(refined, edit, push)
    assert recipe.report.success >= 0.8


def test_a_smaller_factor_would_not_do(refined):
    """The found λ₂ wins on four fifths of the prompts, and one that is 10 % smaller does not."""
    fact = fact_of(refined, "Peru")
    found = refined.edits.drafts.update("tiny", fact.id, "Oslo", UpdateSettings(max_share=1.0)).content.recipe
    assert found.report.success >= 0.8
    less = refined.edits.drafts.update(
        "tiny", fact.id, "Oslo", UpdateSettings(max_share=1.0, lambda_new=found.lambda_new / 1.1)
    )
    assert less.content.recipe.report.success < 0.8
    assert less.content.recipe.lambda_fitted is False


# --- rule paper, and recipes of before -----------------------------------------------------------------------


def test_rule_paper_is_as_published_and_says_what_is_wrong(refined):
    recipe = refined.edits.drafts.update(
        "tiny", fact_of(refined).id, "Tokyo", UpdateSettings(rule="paper", max_share=1.0)
    ).content.recipe
    assert (recipe.lambda_old, recipe.lambda_new, recipe.lambda_fitted) == (1.0, 8.0, False)
    assert recipe.signs is None
    like_output = refined.edits.drafts.update(
        "tiny", fact_of(refined).id, "Tokyo", UpdateSettings(rule="output", max_share=1.0)
    )
    signs = like_output.content.recipe.signs
    assert recipe.negative_neurons == tuple(name for name, sign in signs.items() if sign < 0)
    assert -1 <= recipe.cosine_to_output <= 1


def test_a_recipe_without_a_rule_replays_to_the_bit(refined):
    """As an older kndb wrote it: the same values by the published formula, in the same order of operations."""
    version = refined.models.load("tiny")
    network = Network(version.model, version.adapter)
    recipe = {
        "neurons": ["L0.N3", "L1.N7"],
        "old_token": 7,
        "new_token": 9,
        "lambda_old": 1.0,
        "lambda_new": 8.0,
    }
    rule = update_rule(read_recipe("update", recipe))
    assert rule == UpdateRule(7, 9, 1.0, 8.0, "paper")
    neurons = [Neuron(0, 3), Neuron(1, 7)]
    planned = plan(network, neurons, rule.on(network), fingerprint="f" * 64, recipe=read_recipe("update", recipe))
    embeddings = network.word_embeddings.detach()
    away, towards = (embeddings[token].double() / embeddings[token].double().norm() for token in (7, 9))
    for diff in planned.parameters:
        values = diff.old.double()
        moved = values + values.norm(dim=1, keepdim=True) * (8.0 * towards - 1.0 * away)
        assert torch.equal(diff.new, moved.to(diff.old.dtype))
    again = replay(network, planned.recipe, 5, fingerprint="f" * 64)
    assert all(torch.equal(one.new, other.new) for one, other in zip(planned.parameters, again.parameters, strict=True))
    assert again.recipe.as_json() == {**recipe, "rebased_from": 5}


@pytest.mark.parametrize("name", ["gradient", "output"])
def test_a_rebase_takes_rule_and_weights_from_the_recipe(refined, name):
    """The gradient itself is taken anew, on the weights without the edit that is left out."""
    fact = fact_of(refined)
    first = refined.edits.plan_update("tiny", fact.id, "Tokyo", UpdateSettings(rule=name, max_share=1.0))
    refined.edits.apply(first.id)
    second = refined.edits.plan_update("tiny", fact.id, "Oslo", UpdateSettings(rule=name, max_share=1.0))
    refined.edits.apply(second.id)
    done = refined.edits.rebase(first.id)
    made = refined.edits.get(done.replayed[0].edit)
    kept = {name: value for name, value in second.recipe.as_json().items() if name != "report"}
    assert made.recipe.as_json() == {**kept, "rebased_from": second.id}
    version = refined.models.load("tiny", "base")
    network = Network(version.model, version.adapter)
    rule = update_rule(second.recipe)
    if name == "gradient":
        with refined.store.reading() as connection:
            own = encode_open(version, store_facts.prompts(connection, fact_ids=[fact.id], held_out=False))
        rule = replace(rule, directions=directions_by_hand(version.model, network, second.recipe, own))
    expected = plan(network, list(rule.weights), rule.on(network), fingerprint="", recipe=read_recipe("update", {}))
    found = content_of(refined, made)
    for one, other in zip(expected.parameters, found.parameters, strict=True):
        torch.testing.assert_close(one.new, other.new)


@pytest.mark.parametrize(
    "broken",
    [
        {"rule": "other"},
        {"rule": "output"},
        {"rule": "output", "signs": {"L0.N3": 2}},
        {"old_token": "7"},
        {"rule": "gradient"},
        {"rule": "gradient", "weights": {"L0.N3": math.inf}},
        {"rule": "gradient", "weights": [1]},
    ],
)
def test_recipes_that_do_not_say_enough(broken):
    recipe = {"neurons": ["L0.N3"], "old_token": 7, "new_token": 9, "lambda_old": 1.0, "lambda_new": 8.0, **broken}
    with pytest.raises(
        EditError, match="is missing$" if list(broken.values()) in (["output"], ["gradient"]) else " is "
    ):
        UpdateRecipe.parse(recipe)
    assert isinstance(read_recipe("update", recipe), OtherRecipe)
    with pytest.raises(EditError, match="edit 5 can't be replayed: its recipe of kind 'update' can't be read"):
        require_replayable(5, read_recipe("update", recipe))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "other"}, "rule must be one of gradient, output, paper"),
        ({"lambda_new": -1.0}, "lambda_new must be a number of at least 0, or auto"),
        ({"lambda_old": 1.0}, "lambda_old is of rule='output' and paper"),
        ({"lambda_old": math.inf}, "lambda_old must be a number of at least 0"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(UsageError, match=message):
        UpdateSettings(**options)


# --- which neurons -------------------------------------------------------------------------------------------


def test_where_all_are_shared_the_least_shared_are_taken(refined):
    """Eight facts a relation: every neuron's share is 1/8 or more, above the default of 0.1."""
    fact = fact_of(refined)
    held = refined.query.neurons_of_fact(fact.id, refinement=1)
    recipe = refined.edits.drafts.update("tiny", fact.id, "Tokyo", UpdateSettings(rule="output")).content.recipe
    assert 1 <= len(recipe.neurons) <= len(held)
    low, high = recipe.least_shared
    assert 0.1 < low <= high <= 1
    assert recipe.max_share == 0.1
    assert len(recipe.neurons) + len(recipe.neurons_left_out) == len(held)


def test_a_share_that_is_named_is_kept_to(refined):
    with pytest.raises(EditError, match=r"allow more with max_share=0.*or leave max_share out"):
        refined.edits.drafts.update("tiny", fact_of(refined).id, "Tokyo", UpdateSettings(max_share=0.05))


# --- reports -------------------------------------------------------------------------------------------------


def test_a_report_is_what_the_model_says(refined):
    """Success, asked once more, prompt by prompt, with the edit applied."""
    fact = fact_of(refined)
    edit = refined.edits.plan_update("tiny", fact.id, "Tokyo", UpdateSettings(max_share=1.0))
    report = edit.recipe.report.as_json()
    made = refined.query.refinement(1)
    assert report["refinement"] == {"number": 1, "run": 1, "method": "integrated-gradients", "version": made.version}
    refined.edits.apply(edit.id)
    version = refined.models.load("tiny")
    with refined.store.reading() as connection:
        prompts = store_facts.prompts(connection, fact_ids=[fact.id])
    network, wins = Network(version.model, version.adapter), {False: [], True: []}
    for prompt in prompts:
        for encoded in encode_open(version, [prompt]):
            with torch.no_grad():
                wins[prompt.held_out].append(
                    int(answer_logits(network, [encoded])[0].argmax()) == edit.recipe.new_token
                )
    assert (report["prompts"], report["held_out_prompts"]) == (len(wins[False]), len(wins[True]))
    assert report["success"] == pytest.approx(sum(wins[False]) / len(wins[False]), abs=1e-5)
    assert report["held_out_success"] == pytest.approx(sum(wins[True]) / len(wins[True]), abs=1e-5)
    for name in ("relation", "elsewhere"):
        assert 1 <= report[name]["prompts"] <= 10
        assert getattr(edit.recipe.report, name).perplexity_factor == pytest.approx(
            math.exp(report[name]["surprisal"] - report[name]["surprisal_before"])
        )


def test_planning_again_is_the_same_edit_and_leaves_the_model(refined):
    fact = fact_of(refined)
    version = refined.models.load("tiny")
    before = {name: value.clone() for name, value in version.model.state_dict().items()}
    one = refined.edits.add(refined.edits.drafts.update("tiny", fact.id, "Tokyo", on=version))
    assert all(torch.equal(before[name], value) for name, value in version.model.state_dict().items())
    assert refined.edits.plan_update("tiny", fact.id, "Tokyo").object_hash == one.object_hash


def group(before, after, **more):
    rest = {"changed": 0.0, "right_before": 0.0, "right": 0.0}
    return {"prompts": 4, "surprisal_before": before, "surprisal": after, **rest, **more}


def recipe_with(kind, report):
    """A recipe of a kind with a report in which nothing is wrong but what is said."""
    unsaid = ("success_before", "probability_before", "probability", "held_out_success")
    of_fact = {} if kind == "erase" else {**dict.fromkeys(unsaid, 0.5), "held_out_prompts": 0}
    refinement = {"number": 1, "run": 1, "method": "x"}
    full = {**of_fact, "relation": {"prompts": 0}, "elsewhere": {"prompts": 0}, "refinement": refinement, **report}
    recipe = {"neurons": ["L0.N1"], "report": full}
    if kind != "erase":
        recipe |= {"old_token": 1, "new_token": 2}
    if kind == "update":
        recipe |= {"lambda_old": 1.0, "lambda_new": 8.0}
    if kind == "optimize":
        steps = {"steps": 1, "learning_rate": 0.1, "keep": 1.0, "bound": 1.0, "target": 0.5, "drift": 0.1, "seed": 0}
        recipe |= steps
    found = read_recipe(kind, recipe)
    assert found.report is not None
    return found


@pytest.mark.parametrize(
    ("kind", "report", "expected"),
    [
        ("update", {"prompts": 5, "success": 0.2}, []),
        ("update", {"prompts": 5, "success": 0.0}, ["no-success"]),
        ("update", {"prompts": 5, "success": 1.0, "relation": group(1.0, 1.7)}, ["harm"]),
        ("update", {"prompts": 5, "success": 1.0, "elsewhere": group(1.0, 1.69)}, []),
        ("optimize", {"prompts": 5, "success": 1.0, "elsewhere": group(1.0, 3000.0)}, ["harm"]),
        ("update", {"prompts": 5, "success": 1.0, "elsewhere": group(1.0, None)}, ["no-numbers"]),
        ("erase", {"relation": group(1.0, 9.0, right_before=0.8, right=0.5)}, ["not-forgotten"]),
        ("erase", {"relation": group(1.0, 9.0, right_before=0.8, right=0.4)}, []),
        ("erase", {"relation": group(1.0, 9.0, right_before=0.8, right=0.4), "elsewhere": group(1.0, 2.0)}, ["harm"]),
    ],
)
def test_faults(kind, report, expected):
    assert [fault.kind for fault in faults(recipe_with(kind, report))] == expected


def test_edits_without_a_report_have_no_faults():
    assert faults(read_recipe("update", {})) == []
    assert faults(replace(recipe_with("erase", {}), report=None)) == []
