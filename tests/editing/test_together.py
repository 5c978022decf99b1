"""Joint planning against plain PyTorch: the whole model with changed weights (`functional_call`), prompt by prompt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch
from causal_families import causal_model
from masked_families import masked_model
from tiny_models import down_projections, tiny_model
from torch.func import functional_call

from kndb.editing.objects import diff_file
from kndb.editing.objects.slots import apply_object
from kndb.editing.planning import resuming, together
from kndb.editing.planning.together import Together, optimize_together, plan_together
from kndb.errors import EditError, UsageError
from kndb.models.answers import answer_logits
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt
from kndb.models.registry import adapter_for
from kndb.records.models import Neuron
from kndb.records.together import PlannedFact, TogetherRecipe, TogetherSettings

MODELS = ("bert", "albert", "gpt2", "llama", "t5")
NEURONS = [Neuron(0, 3), Neuron(0, 30), Neuron(2, 7), Neuron(2, 0)]
SETTINGS = TogetherSettings(
    scope="neurons", steps=6, learning_rate=0.5, patience=1, keep=2.0, edited_at_once=2, kept_at_once=3, check=3, seed=3
)


def make_network(name: str, dtype: torch.dtype = torch.float64) -> Network:
    if name == "llama":
        model = causal_model("llama")
    elif name in ("albert", "t5"):
        model = masked_model(name)
    else:
        model = tiny_model(name, 4, roughness=0.3)
    model = model.to(dtype).requires_grad_(False).eval()
    return Network(model, adapter_for(model.config))


def asked(network: Network, number: int, ids: tuple[int, ...], answers: tuple[int, ...]) -> EncodedPrompt:
    """A prompt as the model is asked for an answer: m masks, or teacher forcing."""
    if network.adapter.encoder is not None:
        shown = [((0, 7, *answers[:place]), 1 + place, ids) for place in range(len(answers))]
    elif network.adapter.blank.value == "mask":
        masks = (4,) * len(answers)
        shown = [((*ids[:1], *masks, *ids[1:]), 1 + place, ()) for place in range(len(answers))]
    else:
        shown = [((*ids, *answers[:place]), len(ids) - 1 + place, ()) for place in range(len(answers))]
    first, *further = (
        EncodedPrompt(number, tokens, position, answer, source, fact_id=number)
        for (tokens, position, source), answer in zip(shown, answers, strict=True)
    )
    return replace(first, further=tuple(further))


def make_edited(network: Network) -> list[EncodedPrompt]:
    """Three prompts, each with a new answer of its own: of one, of two, and of three tokens."""
    return [
        asked(network, 1, (5, 9, 4, 33), (11,)),
        asked(network, 2, (8, 21, 4), (12, 40)),
        asked(network, 3, (40, 6, 17, 11), (7, 9, 13)),
    ]


def make_kept(network: Network) -> list[EncodedPrompt]:
    """Prompts of ten facts; every third one has an answer of two tokens."""
    return [asked(network, 10 + n, (n + 5, 2 * n + 3, 9 + n), (3, 8) if n % 3 == 0 else (6,)) for n in range(10)]


def distribution(network: Network, question: EncodedPrompt, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """Log-probabilities at a question's position, by the model's own forward pass with other weights."""
    ids = torch.tensor([question.ids])
    arguments = {"input_ids": ids}
    if question.source:
        arguments = {"input_ids": torch.tensor([question.source]), "decoder_input_ids": ids}
    return functional_call(network.model, weights, (), arguments).logits[0, question.position].log_softmax(-1)


def changed_weights(network: Network, changes: dict[int, tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    modules = down_projections(network.model)
    names = {id(module): name for name, module in network.model.named_modules()}
    found = {}
    for owner, (indices, change) in changes.items():
        weight = modules[owner].weight
        moved = torch.zeros(network.neurons, network.hidden_size, dtype=weight.dtype).index_add(0, indices, change)
        found[f"{names[id(modules[owner])]}.weight"] = weight + (
            moved if network.model.config.model_type == "gpt2" else moved.T
        )
    return found


def plain_loss(network: Network, edited: Sequence[EncodedPrompt], kept: Sequence[EncodedPrompt], changes, settings):
    """The loss as its definition says it, one prompt and one token at a time."""
    weights = changed_weights(network, changes)
    loss = torch.zeros((), dtype=torch.float64)
    for prompt in edited:
        for question in prompt.questions:
            after = distribution(network, question, weights)
            won = after.argmax() == question.answer and after[question.answer].exp() >= settings.target
            if not won:
                loss = loss - after[question.answer] / len(prompt.questions) / len(edited)
    for prompt in kept:
        for question in prompt.questions:
            before, after = (distribution(network, question, which) for which in ({}, weights))
            divergence = (before.exp() * (before - after)).sum()
            loss = loss + settings.keep * divergence / len(prompt.questions) / len(kept)
    modules = down_projections(network.model)
    ratios = []
    for owner, (indices, change) in changes.items():
        slots = modules[owner].weight
        slots = slots[indices] if network.model.config.model_type == "gpt2" else slots[:, indices].T
        ratios += [(one.norm() / slot.norm()) ** 2 for one, slot in zip(change, slots, strict=True)]
    return loss + settings.decay * sum(ratios) / len(ratios)


def slots_of(network: Network, scope: str) -> dict[int, torch.Tensor]:
    owners: dict[int, set[int]] = {}
    for neuron in NEURONS:
        owners.setdefault(network.canonical_layer(neuron.layer), set()).add(neuron.index)
    every = torch.arange(network.neurons)
    return {owner: every if scope == "layers" else torch.tensor(sorted(indices)) for owner, indices in owners.items()}


@pytest.mark.parametrize("scope", ["neurons", "layers"])
@pytest.mark.parametrize("name", MODELS)
def test_steps_are_those_of_plain_pytorch(name, scope):
    """Loss and gradients by autograd through the whole model; neurons by hooks; each step and its bound by hand."""
    network = make_network(name)
    settings = replace(
        SETTINGS, scope=scope, decay=0.5, bound=0.3, ridge=0.1, validation=0.0, steps=4, check=4, drift=0.0
    )
    edited, kept = make_edited(network), make_kept(network)
    found = optimize_together(network, NEURONS, edited, kept, settings)

    slots = slots_of(network, scope)
    modules = down_projections(network.model)
    lengths = {}
    for owner, indices in slots.items():
        weight = modules[owner].weight
        rows = weight[indices] if name == "gpt2" else weight[:, indices].T
        lengths[owner] = rows.norm(dim=1, keepdim=True)
    rate = settings.learning_rate * torch.cat(list(lengths.values())).mean() / network.hidden_size**0.5
    changes = {owner: torch.zeros(len(indices), network.hidden_size).double() for owner, indices in slots.items()}
    means = {owner: torch.zeros_like(change) for owner, change in changes.items()}
    squares = dict.fromkeys(changes, 0.0)
    shaping = {}
    for owner, moment in moments_by_hooks(network, kept, slots).items():
        shaping[owner] = torch.linalg.inv(moment / moment.diagonal().mean() + 0.1 * torch.eye(len(moment)))
    orders = {"edited": in_order(3, 2, 4, "3 edited"), "kept": in_order(10, 3, 4, "3 kept")}
    for step in range(4):
        pairs = {owner: (slots[owner], change.requires_grad_()) for owner, change in changes.items()}
        some_edited = [edited[number] for number in orders["edited"][step]]
        some_kept = [kept[number] for number in orders["kept"][step]]
        loss = plain_loss(network, some_edited, some_kept, pairs, settings)
        gradients = torch.autograd.grad(loss, list(changes.values()))
        for (owner, change), gradient in zip(list(changes.items()), gradients, strict=True):
            means[owner] = 0.9 * means[owner] + 0.1 * gradient
            along = shaping[owner] @ means[owner] / (1 - 0.9 ** (step + 1))
            squares[owner] = 0.95 * squares[owner] + 0.05 * (along**2).mean()
            moved = change.detach() - rate * (1 - step / 4) * along / (squares[owner] / (1 - 0.95 ** (step + 1))).sqrt()
            longest = 0.3 * lengths[owner]
            changes[owner] = moved * (longest / moved.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp_max(1)
    assert found.taken == 4
    for owner, change in changes.items():
        assert found.changes[owner][0].tolist() == slots[owner].tolist()
        # Some families compute norms, rotations or biases in float32, which Adam's division magnifies.
        assert (found.changes[owner][1] - change).norm() <= 2e-3 * change.norm()


def neurons_of_each_layer(network: Network, question: EncodedPrompt) -> list[torch.Tensor]:
    """What enters each layer's down projection, [T, n], layer by layer."""
    calls: list[torch.Tensor] = []
    with ExitStack() as stack:
        for module in dict.fromkeys(down_projections(network.model)):
            handle = module.register_forward_pre_hook(lambda _module, inputs: calls.append(inputs[0]))
            stack.callback(handle.remove)
        distribution(network, question, {})
    return [call.view(-1, network.neurons) for call in calls]


def moments_by_hooks(
    network: Network, kept: Sequence[EncodedPrompt], slots: dict[int, torch.Tensor]
) -> dict[int, torch.Tensor]:
    """E[w wᵀ] over the positions that can reach an answer: up to it in a decoder, the answer's in the last layer."""
    modules = down_projections(network.model)
    last = len(modules) - 1
    rows: dict[int, list[torch.Tensor]] = {owner: [] for owner in slots}
    for prompt in kept:
        for question in prompt.questions:
            calls = neurons_of_each_layer(network, question)
            stop = None if network.adapter.blank.value == "mask" else question.position + 1
            for layer, call in enumerate(calls):
                owner = network.canonical_layer(layer)
                if owner in slots:
                    seen = call[question.position][None] if layer == last else call[:stop]
                    rows[owner].append(seen[:, slots[owner]])
    return {owner: torch.cat(some).T @ torch.cat(some) / len(torch.cat(some)) for owner, some in rows.items()}


def in_order(count: int, at_once: int, steps: int, seed: str) -> list[list[int]]:
    """Which take part in each step: every round is one shuffle."""
    flat: list[int] = []
    for number in range(steps * at_once // count + 1):
        flat += random.Random(f"{seed} {number}").sample(range(count), count)
    return [list(dict.fromkeys(flat[step * at_once : (step + 1) * at_once])) for step in range(steps)]


def plan(network: Network, settings: TogetherSettings = SETTINGS, **named) -> Together:
    return optimize_together(network, NEURONS, make_edited(network), make_kept(network), settings, **named)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_measured_is_what_the_changes_do(name):
    network = make_network(name, torch.float32)
    parameters = {key: value.clone() for key, value in network.model.named_parameters()}
    settings = replace(SETTINGS, scope="layers", steps=40, check=20, validation=0.3, success=1.0, keep=0.1)
    found = plan(network, settings)
    assert all(torch.equal(value, parameters[key]) for key, value in network.model.named_parameters())
    weights = changed_weights(network, found.changes)
    won, losses = [], []
    for prompt in make_edited(network):
        after = [distribution(network, question, weights) for question in prompt.questions]
        won.append(all(row.argmax() == token for row, token in zip(after, prompt.answers, strict=True)))
        losses.append(sum(-row[token].item() for row, token in zip(after, prompt.answers, strict=True)) / len(after))
    assert any(won)
    assert found.measured.success == pytest.approx(sum(won) / 3)
    assert found.measured.loss == pytest.approx(sum(losses) / 3, rel=1e-3)
    validation = set(random.Random("3 validation").sample(range(10, 20), 3))
    drifts = []
    for prompt in make_kept(network):
        if prompt.fact_id in validation:
            pairs = [[distribution(network, q, which) for which in ({}, weights)] for q in prompt.questions]
            drifts.append(sum((b.exp() * (b - a)).sum().item() for b, a in pairs) / len(pairs))
    assert found.measured.drift == pytest.approx(sum(drifts) / 3, rel=1e-2)


def changes_of(found: Together) -> list[torch.Tensor]:
    return [part for pair in found.changes.values() for part in pair]


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5"])
def test_a_fitted_rate_moves_the_layers_outputs_as_far_as_asked(name):
    """One step, against hidden states of the whole model with one layer changed at a time."""
    network = make_network(name)
    settings = replace(SETTINGS, scope="layers", learning_rate=0.0, first_step=1e-3, steps=1, edited_at_once=3)
    asks = [Neuron(0, 0), Neuron(1, 0)], make_edited(network), make_kept(network)
    found = optimize_together(network, *asks, settings)
    ratios = []
    for owner, pair in found.changes.items():
        weights = changed_weights(network, {owner: pair})
        of_layer = []
        for question in (question for prompt in make_edited(network) for question in prompt.questions):
            stop = None if network.adapter.blank.value == "mask" else question.position + 1
            before, after = (hidden_state(network, question, which, owner)[:stop] for which in ({}, weights))
            of_layer += ((after - before).norm(dim=1) / before.norm(dim=1)).tolist()
        ratios.append(sum(of_layer) / len(of_layer))
    assert sum(ratios) / len(ratios) == pytest.approx(1e-3, rel=1e-2)
    given = optimize_together(network, *asks, replace(settings, learning_rate=found.learning_rate))
    assert all(torch.equal(*both) for both in zip(changes_of(found), changes_of(given), strict=True))


def hidden_state(
    network: Network, question: EncodedPrompt, weights: dict[str, torch.Tensor], layer: int
) -> torch.Tensor:
    """What a layer below the last gives, [T, d]."""
    arguments = {"input_ids": torch.tensor([question.ids])}
    states = "hidden_states"
    if question.source:
        arguments = {"input_ids": torch.tensor([question.source]), "decoder_input_ids": arguments["input_ids"]}
        states = "decoder_hidden_states"
    found = functional_call(network.model, weights, (), {**arguments, "output_hidden_states": True})
    return getattr(found, states)[layer + 1][0]


def test_prompts_that_are_won_come_back_later(monkeypatch):
    network = make_network("bert", torch.float32)
    taken: list[tuple[list[int], list[bool]]] = []

    def seen(self, edited, kept):
        found = loss(self, edited, kept)
        taken.append((list(edited), found[1]))
        return found

    loss = together._Planning._loss
    monkeypatch.setattr(together._Planning, "_loss", seen)
    plan(
        network,
        replace(SETTINGS, scope="layers", steps=60, check=60, patience=3, keep=0.0, edited_at_once=1, target=0.0),
    )
    due = [0, 0, 0]
    for step, (numbers, won) in enumerate(taken):
        (number,) = numbers
        assert due[number] == min(due)
        due[number] = step + 3 * (3 if won[0] else 1)
    assert any(won[0] for _, won in taken)


@pytest.mark.parametrize(("patience", "learning_rate"), [(1, 0.5), (4, 0.0)])
@pytest.mark.parametrize("scope", ["neurons", "layers"])
@pytest.mark.parametrize("stopped_at", [4, 5])
def test_resumed_steps_give_the_same_bytes(tmp_path, monkeypatch, scope, stopped_at, patience, learning_rate):
    network = make_network("gpt2", torch.float32)
    settings = replace(
        SETTINGS, scope=scope, steps=8, check=2, drift=0.0, patience=patience, learning_rate=learning_rate
    )
    whole = plan(network, settings)
    path = tmp_path / "steps.safetensors"
    taken = []

    def interrupted(self, edited, kept):
        taken.append(None)
        if len(taken) > stopped_at:
            raise KeyboardInterrupt
        return loss(self, edited, kept)

    loss = together._Planning._loss
    with monkeypatch.context() as patch:
        patch.setattr(together._Planning, "_loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            plan(network, settings, steps_file=path, key="weights")
    resumed = plan(network, settings, steps_file=path, key="weights")
    assert all(torch.equal(*pair) for pair in zip(changes_of(whole), changes_of(resumed), strict=True))
    assert (whole.measured, whole.taken) == (resumed.measured, resumed.taken)
    again = plan(network, settings, steps_file=path, key="weights")
    assert all(torch.equal(*pair) for pair in zip(changes_of(whole), changes_of(again), strict=True))


def test_steps_of_another_plan_are_refused(tmp_path):
    network = make_network("bert", torch.float32)
    path = tmp_path / "steps.safetensors"
    plan(network, steps_file=path, key="weights")
    for settings, key in ((replace(SETTINGS, keep=3.0), "weights"), (SETTINGS, "other weights")):
        with pytest.raises(EditError, match="holds the steps of another plan"):
            plan(network, settings, steps_file=path, key=key)
    path.write_bytes(b"no safetensors")
    with pytest.raises(EditError, match="can't be read as steps of a plan"):
        plan(network, steps_file=path, key="weights")
    resuming.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(EditError, match="holds no steps of a plan"):
        plan(network, steps_file=path, key="weights")


def test_equal_arguments_give_equal_bytes():
    found = [plan(make_network("bert", torch.float32), replace(SETTINGS, seed=seed)) for seed in (3, 3, 4)]
    first, same, other = (changes_of(one) for one in found)
    assert all(torch.equal(*pair) for pair in zip(first, same, strict=True))
    assert not all(torch.equal(*pair) for pair in zip(first, other, strict=True))


@pytest.mark.parametrize("bound", [0.05, 1.0])
def test_no_slot_moves_further_than_the_bound(bound):
    network = make_network("bert", torch.float32)
    found = plan(network, replace(SETTINGS, bound=bound, learning_rate=3.0, keep=0.0))
    ratios = []
    for layer, (indices, change) in found.changes.items():
        values = down_projections(network.model)[layer].weight[:, indices].T
        ratios += (change.norm(dim=1) / values.norm(dim=1)).tolist()
    assert max(ratios) <= bound * (1 + 1e-5)
    assert max(ratios) == pytest.approx(found.largest, rel=1e-5)


def test_decay_shortens_and_keeping_lowers_the_drift():
    network = make_network("gpt2", torch.float32)
    settings = replace(SETTINGS, steps=20, check=20, keep=0.0, drift=0.0)
    free = plan(network, settings)
    assert plan(network, replace(settings, decay=5.0)).largest < free.largest / 2
    assert plan(network, replace(settings, keep=50.0)).measured.drift < free.measured.drift / 2


def test_it_stops_once_success_and_drift_are_reached():
    network = make_network("bert", torch.float32)
    seen: list[tuple[int, int]] = []
    settings = replace(SETTINGS, scope="layers", steps=500, check=5, keep=0.1, drift=100.0, success=1.0, target=0.0)
    found = plan(network, settings, progress=lambda done, total: seen.append((done, total)))
    assert found.reached
    assert found.measured.success == 1.0
    assert 0 < found.taken < 500
    assert found.taken % 5 == 0
    assert seen == [*((taken, 500) for taken in range(found.taken)), (found.taken, found.taken)]
    already = [asked(network, 1, (5, 9, 4, 33), (1,))]
    token = int(answer_logits(network, already).argmax())
    known = [asked(network, 1, (5, 9, 4, 33), (token,))]
    nothing = optimize_together(network, NEURONS, known, [], settings)
    assert (nothing.taken, nothing.reached, nothing.largest, nothing.measured.drift) == (0, True, 0.0, 0.0)


def test_nothing_to_plan():
    network = make_network("bert")
    edited = make_edited(network)
    with pytest.raises(EditError, match="got 0 prompts and 4 neurons"):
        optimize_together(network, NEURONS, [], [], SETTINGS)
    with pytest.raises(EditError, match="needs its new answer"):
        optimize_together(network, NEURONS, [replace(edited[0], answer=-1)], [], SETTINGS)
    with pytest.raises(EditError, match="no neuron L9"):
        optimize_together(network, [Neuron(9, 0)], edited, [], SETTINGS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scope", "model"),
        ("steps", 0),
        ("learning_rate", -0.1),
        ("first_step", 0.0),
        ("patience", 0),
        ("keep", -1.0),
        ("decay", float("inf")),
        ("bound", 0.0),
        ("ridge", 0.0),
        ("target", 1.0),
        ("success", 1.1),
        ("drift", -0.1),
        ("keep_last", -1.0),
        ("edited_at_once", 0),
        ("kept_at_once", 0),
        ("check", 0),
        ("validation", 1.0),
    ],
)
def test_settings_out_of_range(name, value):
    with pytest.raises(UsageError, match=rf"{name} must be .* \(got {value}\)"):
        TogetherSettings(**{name: value})


def recipe_of(network: Network, settings: TogetherSettings) -> TogetherRecipe:
    layers = tuple(sorted({network.canonical_layer(neuron.layer) for neuron in NEURONS}))
    whole = settings.scope == "layers"
    return TogetherRecipe(
        facts=(PlannedFact(1, "P1", "Subject", "Old", "New", (11,)),),
        layers=layers if whole else (),
        neurons=() if whole else tuple(NEURONS),
        kept_facts=tuple(range(10, 20)),
        prompts_each=None,
        how=settings.as_json(),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scope", ["neurons", "layers"])
def test_the_plan_is_one_edit_that_reverts_bit_for_bit(dtype, scope):
    network = make_network("gpt2", dtype)
    before = {key: value.clone() for key, value in network.model.named_parameters()}
    settings = replace(SETTINGS, scope=scope)
    edit = plan_together(
        network, recipe_of(network, settings), make_edited(network), make_kept(network), fingerprint="f" * 64
    )
    again = diff_file.decode(diff_file.encode(edit), "edit")
    parameters = dict(network.model.named_parameters())
    assert all(torch.equal(parameters[key], value) for key, value in before.items())
    wide = Network(network.model.float(), network.adapter) if dtype is torch.bfloat16 else network
    found = plan(wide, settings)
    network.model.to(dtype)
    parameters = dict(network.model.named_parameters())
    apply_object(parameters, again)
    changed = {key for key, value in parameters.items() if not torch.equal(value, before[key])}
    assert changed == {f"transformer.h.{layer}.mlp.c_proj.weight" for layer in (0, 2)}
    for layer, (indices, change) in found.changes.items():
        name = f"transformer.h.{layer}.mlp.c_proj.weight"
        expected = before[name].clone()
        expected[indices] = (before[name][indices].double() + change.double()).to(dtype)
        assert torch.equal(parameters[name], expected)
    apply_object(parameters, again, reverse=True)
    assert all(torch.equal(parameters[key], value) for key, value in before.items())
    assert again.recipe.outcome.steps == found.taken
    assert again.recipe.outcome.drift == found.measured.drift
    assert again.recipe.title == "1 fact · P1"
