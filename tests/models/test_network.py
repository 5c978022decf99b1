"""The network's pieces against the whole transformers model, layer by layer; value slots; answers in batches."""

from __future__ import annotations

import pytest
import torch
from tiny_models import VOCABULARY, activations, doubled, down_projections, tiny_model

from kndb.models.answers import answer_logits, batched_log_probabilities
from kndb.models.families.bert import BERT
from kndb.models.families.gpt2 import GPT2
from kndb.models.network import Network
from kndb.models.paths import resolve
from kndb.models.prompting import EncodedPrompt

ADAPTERS = {"bert": BERT, "gpt2": GPT2}
FAMILIES = pytest.mark.parametrize("family", ["bert", "gpt2"])


@pytest.fixture
def network(family):
    return Network(doubled(tiny_model(family, 3, roughness=0.3)), ADAPTERS[family])


def draw_ids(*shape: int) -> torch.Tensor:
    return torch.randint(1, VOCABULARY, shape, generator=torch.Generator().manual_seed(5))


@FAMILIES
@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_pieces_give_the_models_hidden_states(network, family, tokens):
    ids = draw_ids(2, tokens)
    with torch.no_grad():
        expected = network.model(input_ids=ids, output_hidden_states=True)
        hidden = network.embed(ids)
        for number, layer in enumerate(network.layers):
            torch.testing.assert_close(hidden, expected.hidden_states[number])
            query, key, value = layer.project(hidden)
            assert query.shape == (2, 4, tokens, 6)
            attended = layer.attention.attend(query, key, value, causal=family == "gpt2")
            residual = layer.residual(hidden, attended)
            neurons = layer.neurons(hidden, residual)
            for sequence in range(2):
                found = activations(network.model, ids[sequence].tolist(), tokens - 1)
                torch.testing.assert_close(neurons[sequence, -1], found[number])
            by_matrix = neurons @ layer.down_matrix.T + layer.bias
            torch.testing.assert_close(layer.down(neurons), by_matrix)
            completed = layer.complete(hidden, residual)
            hidden = layer.finish(residual, by_matrix)
            torch.testing.assert_close(completed, hidden)
        torch.testing.assert_close(network.logits(hidden), expected.logits)


@pytest.mark.parametrize("prefix", [0, 1, 6])
def test_rows_after_a_prefix_see_it_and_themselves_alone(prefix):
    network = Network(doubled(tiny_model("gpt2", 4, roughness=0.4)), GPT2)
    layer = network.layers[1]
    attention = layer.attention
    chance = torch.Generator().manual_seed(1)
    before = torch.randn(2, prefix, 24, generator=chance, dtype=torch.float64)
    rows = torch.randn(2, 3, 24, generator=chance, dtype=torch.float64)
    _, prefix_key, prefix_value = layer.project(before)
    query, key, value = layer.project(rows)
    found = attention.attend_after_prefix(query, key, value, prefix_key, prefix_value)
    for row in range(3):
        whole = torch.cat([before, rows[:, row : row + 1]], dim=1)
        expected = attention.attend(*layer.project(whole), causal=True)[:, -1]
        torch.testing.assert_close(found[:, row], expected)


@FAMILIES
@pytest.mark.parametrize("neuron", [0, 17, 39])
def test_a_value_slot_is_what_its_neuron_writes(network, family, neuron):
    """Adding u to neuron i's slot adds w_i·u to the FFN's output, and changes no other neuron's part."""
    module = down_projections(network.model)[1]
    assert network.layers[1].down is module
    inputs = torch.randn(5, network.neurons, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    step = torch.randn(network.hidden_size, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    before = module(inputs)
    slot = network.layers[1].down_matrix[:, neuron].clone()
    parameter = dict(network.model.named_parameters())[network.down_parameter(1)]
    assert parameter is module.weight
    if family == "gpt2":
        parameter[neuron, :] += step
    else:
        parameter[:, neuron] += step
    torch.testing.assert_close(module(inputs), before + inputs[:, neuron : neuron + 1] * step)
    torch.testing.assert_close(network.layers[1].down_matrix[:, neuron], slot + step)
    assert network.layers[1].down_matrix.shape == (24, 40)


@FAMILIES
def test_layouts_hold_where_a_shape_would_not_tell(family):
    """As many neurons as hidden numbers: the slot's side can't be guessed from the matrix's shape."""
    network = Network(doubled(tiny_model(family, neurons=24)), ADAPTERS[family])
    vector = torch.eye(24, dtype=torch.float64)[5]
    module = network.layers[0].down
    torch.testing.assert_close(module(vector) - module.bias, network.layers[0].down_matrix[:, 5])


@FAMILIES
def test_names_and_sizes(network, family):
    assert (
        network.down_parameter(2)
        == {
            "bert": "bert.encoder.layer.2.output.dense.weight",
            "gpt2": "transformer.h.2.mlp.c_proj.weight",
        }[family]
    )
    assert resolve(network.model, network.down_parameter(2)) is network.layers[2].down.weight
    assert network.word_embeddings.shape == (VOCABULARY, 24)
    assert (network.neurons, network.hidden_size, network.heads) == (40, 24, 4)
    assert network.device == torch.device("cpu")


def test_a_down_projection_without_bias():
    network = Network(doubled(tiny_model("bert")), BERT)
    network.layers[0].down.bias = None
    assert torch.equal(network.layers[0].bias, torch.zeros(24, dtype=torch.float64))


# --- answers -------------------------------------------------------------------------------------------------


def make_prompts(family: str) -> list[EncodedPrompt]:
    prompts = []
    for number, length in enumerate([4, 9, 1, 6, 9, 2]):
        ids = tuple(draw_ids(10, 24)[number, :length].tolist())
        position = length - 1 if family == "gpt2" else length // 2
        prompts.append(EncodedPrompt(number, ids, position, number))
    return prompts


@FAMILIES
def test_padding_changes_no_answer(network, family):
    prompts = make_prompts(family)
    with torch.no_grad():
        found = answer_logits(network, prompts)
        for prompt, logits in zip(prompts, found, strict=True):
            alone = network.model(input_ids=torch.tensor([prompt.ids])).logits[0, prompt.position]
            torch.testing.assert_close(logits, alone)


@FAMILIES
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_log_probabilities_come_back_in_any_order_with_their_prompts(network, family, batch_size):
    prompts = make_prompts(family)
    seen = []
    for indices, values in batched_log_probabilities(network, prompts, batch_size):
        assert len(indices) == len(values) <= batch_size
        assert values.dtype == torch.float32
        for index, row in zip(indices, values, strict=True):
            prompt = prompts[index]
            with torch.no_grad():
                alone = network.model(input_ids=torch.tensor([prompt.ids])).logits[0, prompt.position]
            torch.testing.assert_close(row, alone.log_softmax(-1).float(), rtol=1e-4, atol=1e-4)
            seen.append(index)
    assert sorted(seen) == list(range(len(prompts)))


@FAMILIES
def test_of_an_answer_of_several_tokens_the_first_is_asked_for(network, family):
    first, *others = make_prompts(family)
    whole = EncodedPrompt(first.prompt_id, first.ids, first.position, first.answer, (), tuple(others))
    with torch.no_grad():
        assert torch.equal(answer_logits(network, [whole]), answer_logits(network, [first]))


@FAMILIES
def test_the_head_on_the_bodys_last_hidden_state_gives_the_logits(network, family):
    ids = draw_ids(2, 5)
    with torch.no_grad():
        hidden = resolve(network.model, network.adapter.body)(input_ids=ids).last_hidden_state
        torch.testing.assert_close(network.head(hidden), network.model(input_ids=ids).logits)


def test_places_of_a_family_without_rotary_embeddings_or_bias_bring_nothing():
    network = Network(doubled(tiny_model("gpt2")), GPT2)
    places = network.positions(7)
    assert (places.turn, places.bias) == (None, None)
    assert places.turn_of(torch.tensor([3])) is None
    assert places.turn_slice(0, 3) is None
    assert places.bias_of(torch.tensor([3])) is None
    assert network.positions(7) is places
