"""Edits of many facts on tiny models: what the plans give, that the model stays, and that objects hold the bytes."""

from __future__ import annotations

import pytest
import torch
from causal_families import causal_model
from masked_families import masked_model
from tiny_models import tiny_model

from kndb.editing.many import covariance as covariances
from kndb.editing.many.finetune import finetune
from kndb.editing.many.keys import all_sentences, at_places, mean_of_each
from kndb.editing.many.layerwise import change_layers
from kndb.editing.many.sentences import Rewrite, Sentence
from kndb.editing.many.targets import find_targets
from kndb.editing.many.workspace import Workspace
from kndb.editing.objects.diff_file import decode, encode
from kndb.editing.objects.slots import apply_object
from kndb.editing.planning.recipes import TRIED
from kndb.errors import EditError
from kndb.models.network import Network
from kndb.models.registry import adapter_for
from kndb.records.many_settings import (
    AlphaEditSettings,
    EmmetSettings,
    FinetuneSettings,
    MemitSettings,
    RomeSettings,
    TargetSettings,
)

MODELS = ("bert", "gpt2", "llama", "gemma2")
SEARCH = TargetSettings(steps=40, learning_rate=0.3, bound=20.0, decay=0.0, essence=0.0, probability=0.8)
FACTS = [
    Rewrite(
        (Sentence((5, 9, 4, 33, 7), 4, (4,), (11,)), Sentence((9, 4, 21, 7), 3, (3,), (11,))),
        (Sentence((9, 4, 30), 1, (2,), (-1,)), Sentence((9, 4, 6, 20), 1, (3,), (-1,))),
    ),
    Rewrite((Sentence((8, 21, 14), 2, (2,), (23,)), Sentence((3, 21, 14, 40, 14), 4, (4,), (23,)))),
    Rewrite((Sentence((40, 6, 17, 11, 2), 3, (3,), (30,)),)),
    Rewrite((Sentence((40, 6, 17, 11, 2), 4, (4,), (8,)),)),
]
"""The last two are the two tokens of one answer."""


def make_network(name: str, dtype: torch.dtype = torch.float32) -> Network:
    model = tiny_model(name, 4) if name in ("bert", "gpt2") else causal_model(name)
    model = model.to(dtype).requires_grad_(False).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter *= 4  # So that answers can be as sure as those of a trained model.
    return Network(model, adapter_for(model.config))


def others() -> list[Sentence]:
    generator = torch.Generator().manual_seed(1)
    drawn = (tuple(torch.randint(1, 50, (6,), generator=generator).tolist()) for _ in range(60))
    return [Sentence(ids, 2, (5,), (-1,)) for ids in drawn]


def counted(network: Network, layers) -> dict[int, covariances.Covariance]:
    origin = covariances.Origin("f" * 64, "v1", "texts", "every", 60, "0" * 64)
    begun = {layer: covariances.empty(layer, network.neurons, origin) for layer in layers}
    return covariances.count_keys(network, others(), begun)


def parameters(network: Network) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.model.named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def log_probability(network: Network) -> float:
    """Mean log-probability of the new answers, by whole forward passes."""
    found = []
    for sentence in all_sentences(FACTS):
        logits = network.model(input_ids=torch.tensor([sentence.ids])).logits[0].log_softmax(-1)
        found += [logits[at, token].item() for at, token in zip(sentence.reads, sentence.answers, strict=True)]
    return sum(found) / len(found)


def answers(network: Network, rewrite: Rewrite) -> list[list[int]]:
    found = []
    for sentence in rewrite.sentences:
        logits = network.model(input_ids=torch.tensor([sentence.ids])).logits[0]
        found.append(logits[list(sentence.reads)].argmax(-1).tolist())
    return found


def wins(network: Network, rewrite: Rewrite) -> bool:
    return answers(network, rewrite) == [list(sentence.answers) for sentence in rewrite.sentences]


@pytest.mark.parametrize("name", MODELS)
def test_targets_make_the_new_answers_win_and_change_nothing(name):
    network = make_network(name)
    before = parameters(network)
    found = find_targets(network, 1, FACTS, SEARCH)
    assert same(before, parameters(network))
    assert found.added.shape == (4, network.hidden_size)
    assert bool((found.steps > 0).all())
    if name in ("gpt2", "llama"):
        assert bool((found.probability >= 0.8).all())


def test_targets_are_those_of_each_fact_alone():
    network = make_network("gpt2", torch.float64)
    together = find_targets(network, 1, FACTS, SEARCH)
    for number, fact in enumerate(FACTS):
        alone = find_targets(network, 1, [fact], SEARCH)
        assert torch.allclose(alone.added[0], together.added[number], rtol=1e-4, atol=1e-5)


def test_targets_stay_within_their_bound():
    network = make_network("gpt2")
    search = TargetSettings(steps=20, bound=0.1, essence=0.0)
    found = find_targets(network, 1, FACTS, search)
    lengths = mean_of_each(at_places(network, all_sentences(FACTS), [1])[1].stream, FACTS).norm(dim=1)
    assert bool((found.added.norm(dim=1) <= 0.1 * lengths * (1 + 1e-5)).all())
    assert bool((found.added.norm(dim=1) > 0.09 * lengths).any())


def test_the_essence_holds_back():
    network = make_network("gpt2")
    free = find_targets(network, 1, FACTS[:1], TargetSettings(steps=20, essence=0.0, decay=0.0, bound=20.0))
    held = find_targets(network, 1, FACTS[:1], TargetSettings(steps=20, essence=100.0, decay=0.0, bound=20.0))
    assert held.added.norm() < free.added.norm()


def test_a_fact_that_is_known_already_has_nothing_added():
    network = make_network("gpt2")
    sentence = FACTS[1].sentences[0]
    logits = network.model(input_ids=torch.tensor([sentence.ids])).logits[0, sentence.reads[0]]
    known = Rewrite((Sentence(sentence.ids, sentence.place, sentence.reads, (int(logits.argmax()),)),))
    found = find_targets(network, 1, [known], TargetSettings(probability=0.0))
    assert not bool(found.added.any())


@pytest.mark.parametrize("name", MODELS)
def test_rome_gives_the_fact_its_target_exactly(name):
    network = make_network(name, torch.float64)
    settings = RomeSettings(target=SEARCH)
    at = at_places(network, FACTS[0].sentences, [1])[1]
    target = find_targets(network, 1, FACTS[:1], SEARCH)
    key, present = at.keys.mean(0), network.layers[1].down_matrix.clone()
    with Workspace(network) as workspace:
        change_layers(workspace, FACTS[:1], [1], settings, counted(network, [1]))
        changed = network.layers[1].down_matrix.clone()
        assert name not in ("gpt2", "llama") or wins(network, FACTS[0])
    assert torch.allclose(changed @ key, present @ key + target.added[0], rtol=1e-8, atol=1e-9)
    assert torch.equal(network.layers[1].down_matrix, present)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "settings",
    [
        MemitSettings(target=SEARCH, preserve=0.05, rounds=2, keys="each"),
        EmmetSettings(target=SEARCH),
        AlphaEditSettings(target=SEARCH, threshold=1.0, damping=1e-4, rounds=2, keys="each"),
    ],
    ids=lambda settings: settings.method,
)
def test_the_new_answers_win_and_the_model_stays(name, settings):
    network = make_network(name)
    before = parameters(network)
    layers, least = ([1] if name == "gemma2" else [0, 1]), log_probability(network)
    with Workspace(network) as workspace:
        outcome = change_layers(workspace, FACTS, layers, settings, counted(network, layers))
        assert log_probability(network) > least + 1
        inside = parameters(network)
        edit = workspace.edit(fingerprint="f" * 64, recipe=TRIED)
    assert set(outcome.keys) == set(layers)
    assert same(before, parameters(network))
    assert not same(before, inside)
    apply_object(dict(network.model.named_parameters()), decode(encode(edit), "x"))
    assert same(inside, parameters(network))
    apply_object(dict(network.model.named_parameters()), edit, reverse=True)
    assert same(before, parameters(network))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_narrow_model_is_planned_on_what_will_be_stored(dtype):
    network = make_network("llama", dtype)
    before = parameters(network)
    with Workspace(network) as workspace:
        change_layers(workspace, FACTS, [0, 1], MemitSettings(target=SEARCH, preserve=0.1), counted_wide(network))
        wide = {layer: workspace.network.layers[layer].slots.clone() for layer in (0, 1)}
        edit = workspace.edit(fingerprint="f" * 64, recipe=TRIED)
    assert same(before, parameters(network))
    apply_object(dict(network.model.named_parameters()), edit)
    for layer, values in wide.items():
        assert torch.equal(network.layers[layer].slots.float(), values)


def counted_wide(network: Network) -> dict[int, covariances.Covariance]:
    return counted(Workspace(network).network, (0, 1))


def test_a_change_of_few_facts_is_kept_as_factors():
    model = tiny_model("gpt2", 4, width=48, neurons=200, roughness=0.3).requires_grad_(False)
    network = Network(model, adapter_for(model.config))
    with Workspace(network) as workspace:
        change_layers(workspace, FACTS, [1], MemitSettings(target=SEARCH), counted(network, [1]))
        edit = workspace.edit(fingerprint="f" * 64, recipe=TRIED)
    ((part,), plain) = edit.tensors, edit.parameters
    assert not plain
    assert part.factors is not None
    assert part.factors.rank == len(FACTS)
    assert part.factors.forward.count == 0
    before = parameters(network)
    read = decode(encode(edit), "x")
    apply_object(dict(network.model.named_parameters()), read)
    apply_object(dict(network.model.named_parameters()), read, reverse=True)
    assert same(before, parameters(network))


def test_a_change_of_many_facts_keeps_rank_up_to_the_number_of_keys():
    """A hundred keys: more than what is looked for in checkpoints of other tools."""
    network = Network(tiny_model("gpt2", 1, layers=1, width=120, neurons=500).requires_grad_(False), _gpt2())
    generator = torch.Generator().manual_seed(1)
    left = 1e-3 * torch.randn(120, 40, generator=generator, dtype=torch.float64)
    right = torch.randn(40, 500, generator=generator, dtype=torch.float64)
    with Workspace(network) as workspace:
        workspace.add(0, left, right)
        workspace.add(0, left.flip(1), right.flip(1))
        workspace.add(0, left, right.flip(1))
        edit = workspace.edit(fingerprint="f" * 64, recipe=TRIED)
        whole = left @ right + (left.flip(1) + left) @ right.flip(1)
        assert torch.allclose(workspace.changes[0], whole, atol=1e-6)
    assert edit.tensors[0].factors is not None
    assert edit.tensors[0].factors.rank == 80
    decode(encode(edit), "x")


def _gpt2():
    return adapter_for(tiny_model("gpt2").config)


def test_alphaedit_leaves_other_keys_outputs():
    network = make_network("gpt2", torch.float64)
    few = others()[:8]
    origin = covariances.Origin("f" * 64, "v1", "texts", "place", 8, "0" * 64)
    counts = covariances.count_keys(network, few, {1: covariances.empty(1, network.neurons, origin)})
    settings = AlphaEditSettings(target=SEARCH, threshold=1e-8, damping=1e-4, rounds=2)
    kept = at_places(network, few, [1])[1].keys
    before = kept @ network.layers[1].slots
    with Workspace(network) as workspace:
        outcome = change_layers(workspace, FACTS, [1], settings, counts)
        after = kept @ network.layers[1].slots
    assert outcome.ranks == {1: network.neurons - 8}
    assert torch.allclose(before, after, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", MODELS)
def test_finetuning_makes_the_answers_win_by_one_layer_alone(name):
    network = make_network(name)
    before, least = parameters(network), log_probability(network)
    with Workspace(network) as workspace:
        outcome = finetune(workspace, FACTS, 1, FinetuneSettings(steps=80, learning_rate=0.3, probability=0.6))
        inside = parameters(network)
        assert outcome.questions == 6
        assert log_probability(network) > least + 1
        if name in ("gpt2", "llama"):
            assert outcome.won == 6
            assert all(wins(network, fact) for fact in FACTS)
        edit = workspace.edit(fingerprint="f" * 64, recipe=TRIED)
    changed = [key for key in before if not torch.equal(before[key], inside[key])]
    assert changed == [network.down_parameter(1)]
    assert same(before, parameters(network))
    apply_object(dict(network.model.named_parameters()), decode(encode(edit), "x"))
    assert same(inside, parameters(network))


def test_finetuning_stays_within_its_bound():
    network = make_network("gpt2")
    scale = network.layers[1].slots.abs().mean()
    with Workspace(network) as workspace:
        finetune(workspace, FACTS, 1, FinetuneSettings(steps=10, learning_rate=1.0, bound=0.5))
        assert workspace.changes[1].abs().max().item() == pytest.approx(0.5 * scale.item(), rel=1e-4)


def test_an_error_inside_puts_the_weights_back():
    network = make_network("gpt2")
    before = parameters(network)

    def fail() -> None:
        with Workspace(network) as workspace:
            workspace.add(1, torch.ones(24, 1).double(), torch.ones(1, 40).double())
            assert not same(before, parameters(network))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert same(before, parameters(network))


@pytest.mark.parametrize(
    ("name", "layers", "words"),
    [
        ("gpt2", [1, 7], r"no layers \[1, 7\]; it has layers 0 to 2"),
        ("gemma2", [0, 1], "norms what its feed-forward blocks write"),
        ("albert", [0, 1], "share a parameter"),
    ],
)
def test_layers_that_cant_be_are_refused(name, layers, words):
    if name == "albert":
        model = masked_model("albert").requires_grad_(False)
        network = Network(model, adapter_for(model.config))
    else:
        network = make_network(name)
    with pytest.raises(EditError, match=words), Workspace(network) as workspace:
        change_layers(workspace, FACTS, layers, MemitSettings(), {})


def test_nothing_changed_is_no_edit():
    network = make_network("gpt2")
    with Workspace(network) as workspace, pytest.raises(EditError, match="no value slot"):
        workspace.edit(fingerprint="f" * 64, recipe=TRIED)
