"""Sentences through layers in pieces: against whole forward passes of the model with hooks on its modules."""

from __future__ import annotations

import pytest
import torch
from causal_families import causal_model
from masked_families import masked_model
from tiny_models import activations, down_projections, tiny_model

from kndb.editing.many.keys import at_places, every_key, mean_of_each
from kndb.editing.many.passes import UpwardPasses
from kndb.editing.many.sentences import Rewrite, Sentence
from kndb.errors import EditError
from kndb.models.network import Network
from kndb.models.registry import adapter_for

MAKE = {
    "bert": lambda: tiny_model("bert", 4, roughness=0.3),
    "albert": lambda: masked_model("albert"),
    "gpt2": lambda: tiny_model("gpt2", 4, roughness=0.3),
    "gpt_neox": lambda: causal_model("gpt_neox"),
    "bloom": lambda: causal_model("bloom"),
    "opt": lambda: causal_model("opt"),
    "llama": lambda: causal_model("llama"),
    "gemma2": lambda: causal_model("gemma2"),
    "granite": lambda: causal_model("granite"),
    "falcon-slopes": lambda: causal_model("falcon-slopes"),
    "modernbert": lambda: masked_model("modernbert"),
    "deberta-v2-buckets": lambda: masked_model("deberta-v2-buckets"),
}
SENTENCES = [
    Sentence((5, 9, 4, 33, 7), 2, (4,), (11,)),
    Sentence((8, 21, 4), 0, (1, 2), (3, 9)),
    Sentence((40, 6, 17, 11, 2), 2, (2, 4), (30, 8)),
    Sentence((7, 1, 12, 9, 2), 4, (4,), (30,)),
]


def make_network(name: str) -> Network:
    model = MAKE[name]().double().requires_grad_(False).eval()
    return Network(model, adapter_for(model.config))


@pytest.mark.parametrize("name", MAKE)
def test_keys_are_what_goes_into_the_down_projection(name):
    network = make_network(name)
    found = at_places(network, SENTENCES, [0, 2])
    for number, sentence in enumerate(SENTENCES):
        expected = activations(network.model, sentence.ids, sentence.place)
        for layer in (0, 2):
            assert torch.allclose(found[layer].keys[number], expected[layer], rtol=1e-5, atol=1e-5)


def test_every_key_is_that_of_every_position_but_a_decoders_first():
    network = make_network("gpt2")
    ((layer, found),) = every_key(network, SENTENCES, [1])
    expected = [activations(network.model, one.ids, at)[1] for one in SENTENCES for at in range(1, len(one.ids))]
    assert layer == 1
    assert torch.allclose(found.double().T @ found, torch.stack(expected).T @ torch.stack(expected))


@pytest.mark.parametrize("name", MAKE)
def test_logits_are_those_of_the_model_whose_layer_writes_more(name):
    network = make_network(name)
    if name == "albert":
        pytest.skip("one module for all layers: a hook would add at each")
    layer = 1
    added = 0.5 * torch.randn(4, network.hidden_size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    passes = UpwardPasses(network, layer, SENTENCES)
    numbers = [3, 0, 2, 1]
    found = passes.logits(numbers, added)
    for number, vector, logits in zip(numbers, added, found, strict=True):
        sentence = SENTENCES[number]

        def more(_module, _inputs, output, place=sentence.place, vector=vector):
            changed = output.clone()
            changed.view(1, -1, output.shape[-1])[0, place] += vector
            return changed

        handle = down_projections(network.model)[layer].register_forward_hook(more)
        whole = network.model(input_ids=torch.tensor([sentence.ids])).logits[0]
        handle.remove()
        assert torch.allclose(logits, whole[list(sentence.reads)], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MAKE)
def test_without_anything_added_they_are_the_models_own(name):
    network = make_network(name)
    for number, logits in enumerate(UpwardPasses(network, 1, SENTENCES).logits(range(4))):
        whole = network.model(input_ids=torch.tensor([SENTENCES[number].ids])).logits[0]
        assert torch.allclose(logits, whole[list(SENTENCES[number].reads)], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_gradients_are_those_of_finite_differences(name):
    network = make_network(name)
    passes = UpwardPasses(network, 0, SENTENCES)
    generator = torch.Generator().manual_seed(5)
    added = torch.zeros(4, network.hidden_size, dtype=torch.float64).requires_grad_()
    direction = torch.randn(added.shape, generator=generator, dtype=torch.float64)

    def total(at: torch.Tensor) -> torch.Tensor:
        return torch.stack([part.log_softmax(-1)[:, 3].sum() for part in passes.logits(range(4), at)]).sum()

    (gradient,) = torch.autograd.grad(total(added), added)
    step = 1e-2
    with torch.no_grad():
        slope = (total(step * direction) - total(-step * direction)) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-2, abs=1e-3)


def test_the_stream_is_the_layers_output_where_no_norm_stands_on_it():
    network = make_network("llama")
    layers = network.model.model.layers
    passes = UpwardPasses(network, 1, SENTENCES)
    found = at_places(network, SENTENCES, [1])[1]
    for number, sentence in enumerate(SENTENCES):
        kept = []
        handle = layers[1].register_forward_hook(lambda _module, _inputs, output, kept=kept: kept.append(output))
        network.model(input_ids=torch.tensor([sentence.ids]))
        handle.remove()
        output = kept[0][0] if isinstance(kept[0], tuple) else kept[0]
        expected = output.view(len(sentence.ids), -1)[sentence.place]
        assert torch.allclose(passes.stream[number], expected)
        assert torch.allclose(found.stream[number], expected)


def test_means_are_over_each_rewrite():
    values = torch.arange(12.0).view(4, 3)
    pair, one = Rewrite(tuple(SENTENCES[:3])), Rewrite((SENTENCES[3],))
    assert torch.equal(mean_of_each(values, [pair, one]), torch.stack([values[:3].mean(0), values[3]]))


def test_an_encoder_is_refused():
    network = make_network_with_encoder()
    with pytest.raises(EditError, match="has an encoder"):
        at_places(network, SENTENCES, [0])


def test_experts_are_refused():
    model = causal_model("mixtral").double().requires_grad_(False).eval()
    with pytest.raises(EditError, match="this mixtral model is a mixture of experts"):
        UpwardPasses(Network(model, adapter_for(model.config)), 1, SENTENCES)


def make_network_with_encoder() -> Network:
    model = masked_model("t5").requires_grad_(False).eval()
    return Network(model, adapter_for(model.config))
