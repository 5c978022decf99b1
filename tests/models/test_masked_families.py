"""Every masked and encoder–decoder family: scores against brute force, answers, value slots, edits, checkpoints.

The brute force runs whole transformers models in double precision with hooks, and knows nothing of the adapters. T5's
norms compute in single precision even then, so its reference is good to about 1e-7.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from masked_families import NEURONS, TOKENIZERS, VARIANTS, WIDTH, masked_config, masked_model
from tiny_models import (
    POSITIONS,
    VOCABULARY,
    brute_force,
    doubled,
    down_projections,
    probability,
    probability_changes,
    relative_error,
)
from transformers import BertTokenizer

from kndb.attribution.base_pass import continue_from, freeze
from kndb.attribution.batches import to_tensors
from kndb.attribution.engine import Engine
from kndb.attribution.integrated_gradients import integrated_gradients
from kndb.attribution.quadrature import Quadrature
from kndb.attribution.settings import AttributionSettings
from kndb.editing.objects import diff_file
from kndb.editing.objects.slots import apply_object, put_slots, read_slots
from kndb.editing.planning.recipes import UpdateRule, erase_rule, plan
from kndb.errors import EditError, ModelError, UnsupportedModelError
from kndb.models.acceptance import describe
from kndb.models.adapter import Adapter
from kndb.models.answers import answer_logits, batched_log_probabilities
from kndb.models.fingerprint import fingerprint
from kndb.models.loading import load
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt
from kndb.models.registry import ADAPTERS, adapter_for
from kndb.records.models import Neuron
from kndb.records.recipes import read_recipe

EVERY = pytest.mark.parametrize("name", VARIANTS)
SENTINELS = pytest.mark.parametrize("name", [name for name in VARIANTS if name.startswith("t5")])
SMOOTH = pytest.mark.parametrize(
    "name", [name for name in VARIANTS if name not in ("distilbert-sinusoidal", "t5-relu")]
)
"""ReLU has kinks, on which no rule is exact."""

CPU = torch.device("cpu")
START, SENTINEL = 0, 57
"""What T5's decoder is given first."""

GAUSS_3 = ([0.5 - 0.15**0.5, 0.5, 0.5 + 0.15**0.5], [5 / 18, 4 / 9, 5 / 18])
"""Nodes and weights on [0, 1], from tables (Abramowitz and Stegun 25.4.30, halved)."""

IDS = torch.tensor([[4, 9, 2, 33, 6], [8, 8, 5, 50, 3]])


@dataclass
class Case:
    """A tiny model as kndb sees it, and the same weights in double precision."""

    exact: Any
    network: Network


@pytest.fixture(scope="module")
def make_case() -> Callable[[str], Case]:
    """Makes a random model of a variant once; tests only read it."""
    made: dict[str, Case] = {}

    def make(name: str) -> Case:
        if name not in made:
            model = masked_model(name)
            exact = doubled(model)
            freeze(model)
            made[name] = Case(exact, Network(model, adapter_for(model.config)))
        return made[name]

    return make


@pytest.fixture
def fresh() -> Callable[..., Network]:
    """Makes a network that a test may change."""

    def make(name: str, dtype: torch.dtype = torch.float32, **settings: Any) -> Network:
        model = masked_model(name, **settings).to(dtype).requires_grad_(False)
        return Network(model, adapter_for(model.config))

    return make


def make_prompts(name: str, lengths: Sequence[int], seed: int = 3, answers: int = 1) -> list[EncodedPrompt]:
    """Random prompts: the answer stands anywhere; for T5, its tokens are teacher-forced after start and sentinel."""
    chance = torch.Generator().manual_seed(seed)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, VOCABULARY, (count,), generator=chance).tolist())

    prompts = []
    for number, length in enumerate(lengths):
        ids, answer = draw(length), draw(answers)
        if name.startswith("t5"):
            questions = [
                EncodedPrompt(number, (START, SENTINEL, *answer[:step]), 1 + step, answer[step], ids)
                for step in range(answers)
            ]
        else:
            first = (length - answers) * number // max(1, len(lengths) - 1)
            questions = [EncodedPrompt(number, ids, first + step, answer[step]) for step in range(answers)]
        prompts.append(replace(questions[0], further=tuple(questions[1:])))
    return prompts


def attribute(case: Case, prompts: list[EncodedPrompt], *rule: Any, most_rows: int = 64) -> Any:
    continuation = continue_from(case.network, to_tensors(prompts, CPU))
    return integrated_gradients(continuation, torch.arange(len(prompts)), Quadrature.choose(*rule), most_rows)


def by_definition(case: Case, prompt: EncodedPrompt, rule: Any = None) -> torch.Tensor:
    return brute_force(case.exact, prompt.ids, prompt.position, prompt.answer, rule, source=prompt.source)


# --- attribution ---------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("tokens", [1, 9])
def test_a_fixed_rule_gives_its_sum(make_case, name, tokens):
    case = make_case(name)
    prompts = [prompt.questions[-1] for prompt in make_prompts(name, [tokens] * 3, seed=tokens, answers=tokens)]
    found = attribute(case, prompts, "gauss-legendre", 3, most_rows=4)
    assert found.scores.shape == (3, VARIANTS[name].layers, NEURONS)
    for prompt, scores in zip(prompts, found.scores, strict=True):
        assert relative_error(scores, by_definition(case, prompt, GAUSS_3)) <= 1e-4


@SMOOTH
@pytest.mark.parametrize("tokens", [1, 7])
def test_the_default_gives_the_integral(make_case, name, tokens):
    case = make_case(name)
    prompts = make_prompts(name, [tokens] * 2, seed=tokens)
    found = attribute(case, prompts)
    assert found.completeness_error.max() <= 1e-3
    for prompt, scores in zip(prompts, found.scores, strict=True):
        assert relative_error(scores, by_definition(case, prompt)) <= 1e-3
        changes = probability_changes(case.exact, prompt.ids, prompt.position, prompt.answer, prompt.source)
        torch.testing.assert_close(scores.double().sum(-1), changes, rtol=0, atol=1e-3 * float(changes.abs().max()))


def run_engine(network: Network, prompts: list[EncodedPrompt], **settings: Any) -> tuple[dict[int, Any], torch.Tensor]:
    """Results by prompt, and the scores of all prompts."""
    rule = Quadrature.choose("gauss-legendre", 3)
    scores = torch.zeros(len(prompts), len(network.layers), network.neurons)
    results = {}
    for batch in Engine(network, str, AttributionSettings(rule, batch_size=2, **settings)).run(prompts):
        results.update({result.prompt_id: result for result in batch.results})
        columns = batch.scores
        scores[columns.prompt_ids, columns.layers, columns.neurons] = torch.tensor(columns.scores)
    return results, scores


@EVERY
def test_the_engine_takes_the_mean_over_the_answers_tokens(make_case, name):
    case = make_case(name)
    prompts = make_prompts(name, [6, 4], answers=3)
    results, scores = run_engine(case.network, prompts, floor=0.0, negative=True)
    for prompt in prompts:
        one_by_one = [by_definition(case, question, GAUSS_3) for question in prompt.questions]
        assert relative_error(scores[prompt.prompt_id], torch.stack(one_by_one).mean(0)) <= 1e-4
        parts = [probability(case.exact, q.ids, q.position, q.answer, source=q.source) for q in prompt.questions]
        found = results[prompt.prompt_id]
        assert found.probability == pytest.approx(float(torch.stack(parts).prod()), rel=1e-4)
        assert (found.answer_tokens, found.tokens) == (3, len(prompt.ids) + len(prompt.source))


@EVERY
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_the_engine_agrees_with_the_models_forward_pass_in_other_precisions(fresh, name, dtype):
    network = fresh(name, getattr(torch, dtype))
    assert run_engine(network, make_prompts(name, [5, 2]), dtype=dtype)[0].keys() == {0, 1}


def _no_bias(right: Adapter) -> Adapter:
    return replace(right, bias=lambda model, tokens: right.bias(model, tokens) * 0)


def _exchanged(right: Adapter) -> Any:
    return lambda model, layer, tokens: right.distances(model, layer, tokens)[::-1]


WRONG: dict[str, tuple[str, Callable[[Adapter], Adapter]]] = {
    "words-alone": ("roberta", lambda right: replace(right, embed=lambda model, ids: _words(model, ids))),
    "no-activation": ("distilbert", lambda right: replace(right, head=(right.head[0], *right.head[2:]))),
    "norms-exchanged": (
        "distilbert",
        lambda right: replace(
            right,
            norms=replace(right.norms, attention_sum=right.norms.ffn_sum, ffn_sum=right.norms.attention_sum),
        ),
    ),
    "groups-reversed": ("albert-groups", lambda right: replace(right, layers=lambda m: right.layers(m)[::-1])),
    "one-layer-twice": ("albert-groups", lambda right: replace(right, layers=lambda m: right.layers(m)[:1] * 6)),
    "one-kind-of-angles": ("modernbert", lambda right: replace(right, rotary_kinds=None)),
    "unnormed": ("modernbert", lambda right: replace(right, norms=replace(right.norms, attention_input=None))),
    "no-distances-in-deberta": ("deberta-v2", lambda right: replace(right, distances=None)),
    "scaled-as-bert": (
        "deberta-v2-buckets",
        lambda right: replace(right, attention=replace(right.attention, scaling=None)),
    ),
    "distances-from-behind": ("deberta-v2-queries", lambda right: replace(right, distances=_exchanged(right))),
    "head-cut": ("electra-wide", lambda right: replace(right, head=right.head[1:])),
    "no-distances": ("t5", _no_bias),
    "scaled-scores": ("t5", lambda right: replace(right, attention=replace(right.attention, scaling=None))),
    "no-encoder-norm": ("t5", lambda right: replace(right, norms=replace(right.norms, cross_input=None))),
    "no-final-norm": ("t5", lambda right: replace(right, final_norm=None)),
    "unscaled-head": ("t5", lambda right: replace(right, head=("lm_head",))),
    "gate-for-up": (
        "t5-gated",
        lambda right: replace(right, ffn=replace(right.ffn, gate=right.ffn.up, up=right.ffn.gate)),
    ),
}


def _words(model: Any, ids: torch.Tensor) -> torch.Tensor:
    return model.get_input_embeddings()(ids)


@pytest.mark.parametrize("wrong", WRONG)
def test_the_engine_refuses_a_wrong_adapter(fresh, wrong):
    name, spoil = WRONG[wrong]
    network = fresh(name)
    with pytest.raises(ModelError, match="gives other probabilities"):
        run_engine(Network(network.model, spoil(network.adapter)), make_prompts(name, [6, 6], answers=2))


# --- whole models: answers, value slots ----------------------------------------------------------------------


def model_logits(model: Any, ids: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Logits of token ids [B, T]; T5 is given a source [B, E] too."""
    if model.config.is_encoder_decoder:
        return model(input_ids=source, decoder_input_ids=ids).logits
    return model(input_ids=ids).logits


@EVERY
@torch.no_grad()
def test_padding_changes_no_answer(make_case, name):
    case = make_case(name)
    exact = Network(case.exact, case.network.adapter)
    prompts = [
        prompt
        for answers, lengths in ((1, [4, 9, 1]), (3, [6, 12, 4]))
        for prompt in make_prompts(name, lengths, answers=answers)
    ]
    prompts = [question for prompt in prompts for question in prompt.questions]
    expected = torch.stack(
        [
            model_logits(case.exact, torch.tensor([one.ids]), torch.tensor([one.source]))[0, one.position]
            for one in prompts
        ]
    )
    torch.testing.assert_close(answer_logits(exact, prompts), expected, rtol=1e-6, atol=1e-6)
    for indices, found in batched_log_probabilities(exact, prompts, 4):
        torch.testing.assert_close(found, expected[indices].log_softmax(-1).float(), rtol=1e-4, atol=1e-4)


def silenced(model: Any, neurons: list[Neuron]) -> torch.Tensor:
    """The model's logits with some neurons at zero, at every position, in all layers that share their parameters."""

    def zero(index: int) -> Any:
        def hook(_module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            changed = inputs[0].clone()
            changed[..., index] = 0
            return (changed,)

        return hook

    modules = down_projections(model)
    handles = [modules[neuron.layer].register_forward_pre_hook(zero(neuron.index)) for neuron in neurons]
    logits = model_logits(model, IDS, IDS)
    for handle in handles:
        handle.remove()
    return logits


@EVERY
@torch.no_grad()
def test_a_value_slot_is_what_its_neuron_writes(fresh, name):
    """Through every layer's own parameter: the slot's place is the adapter's, the neuron's the hook's."""
    network = fresh(name, torch.float64)
    parameters = dict(network.model.named_parameters())
    before = model_logits(network.model, IDS, IDS)
    for layer, module in enumerate(down_projections(network.model)):
        neuron = Neuron(layer, (11 * layer + 5) % NEURONS)
        expected = silenced(network.model, [neuron])
        parameter = parameters[network.down_parameter(layer)]
        assert parameter is module.weight
        index = torch.tensor([neuron.index])
        slot = read_slots(parameter, "column", index)
        torch.testing.assert_close(slot[0], network.layers[layer].down_matrix[:, neuron.index])
        put_slots(parameter, "column", index, torch.zeros_like(slot))
        found = model_logits(network.model, IDS, IDS)
        torch.testing.assert_close(found, expected)
        assert relative_error(found, before) > 1e-4
        put_slots(parameter, "column", index, slot)
        assert torch.equal(model_logits(network.model, IDS, IDS), before)


# --- edits ---------------------------------------------------------------------------------------------------


def make_plan(network: Network, neurons: list[Neuron], rule: Any) -> diff_file.EditObject:
    return plan(network, neurons, rule, fingerprint="f" * 64, recipe=read_recipe("erase", {"top": 3}))


@EVERY
@torch.no_grad()
def test_an_erasure_silences_its_neurons(fresh, name):
    network = fresh(name, torch.float64)
    neurons = [Neuron(0, 0), Neuron(1, 7), Neuron(1, 24), Neuron(2, NEURONS - 1)]
    expected = silenced(network.model, neurons)
    apply_object(dict(network.model.named_parameters()), make_plan(network, neurons, erase_rule))
    torch.testing.assert_close(model_logits(network.model, IDS, IDS), expected)


def raw(model: Any) -> dict[str, bytes]:
    return {
        name: tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()
        for name, tensor in model.state_dict().items()
    }


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_edit_from_its_file_can_be_taken_back_to_the_last_bit(fresh, tmp_path, name, dtype):
    network = fresh(name, dtype)
    before, parameters = raw(network.model), dict(network.model.named_parameters())
    rules: list[Any] = [erase_rule]
    if VARIANTS[name].embedding == WIDTH:
        rules.append(UpdateRule(5, 11, 1.0, 8.0).on(network))
    for rule in rules:
        planned = make_plan(network, [Neuron(2, 3), Neuron(0, 39), Neuron(0, 2)], rule)
        assert raw(network.model) == before
        object_hash, path = diff_file.write(planned, tmp_path)
        edit = diff_file.read(tmp_path, path, object_hash)
        apply_object(parameters, edit)
        changed = {key for key, content in raw(network.model).items() if content != before[key]}
        assert changed == {network.down_parameter(0), network.down_parameter(2)}
        apply_object(parameters, edit, reverse=True)
        assert raw(network.model) == before


@pytest.mark.parametrize("name", [name for name, variant in VARIANTS.items() if variant.embedding != WIDTH])
def test_narrow_word_embeddings_are_no_update(make_case, name):
    network = make_case(name).network
    family = network.adapter.family
    with pytest.raises(EditError, match=f"this {family} model's embeddings have 10 numbers and its slots 24"):
        UpdateRule(5, 11, 1.0, 8.0).on(network)


# --- checkpoints ---------------------------------------------------------------------------------------------


def save(folder: Any, name: str, tokenizer: Any = None, **settings: Any) -> Any:
    """A checkpoint with a tokenizer of its kind; gives the model."""
    tokenizer = tokenizer or TOKENIZERS[VARIANTS[name].tokenizer]()
    model = masked_model(name, **{"vocab_size": len(tokenizer), **settings})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


@EVERY
@torch.no_grad()
def test_a_saved_checkpoint_is_described_and_loaded(tmp_path, name):
    model = save(tmp_path, name)
    found = describe(tmp_path)
    assert found.family == {"xlm-roberta": "roberta"}.get(VARIANTS[name].model_type, VARIANTS[name].model_type)
    assert (found.layers, found.neurons) == (VARIANTS[name].layers, NEURONS)
    assert found.fingerprint == fingerprint(tmp_path)
    loaded = load(tmp_path)
    for (key, one), (_, original) in zip(loaded.model.named_parameters(), model.named_parameters(), strict=True):
        assert torch.equal(one, original), key
    network = loaded.moved(CPU, torch.float64)
    assert (network.neurons, network.hidden_size) == (NEURONS, WIDTH)
    assert network.word_embeddings.shape[1] == VARIANTS[name].embedding
    prompt = loaded.encoder.encode(1, "The capital of France is [Y].", "Paris")
    assert loaded.decode(prompt.answers) == "Paris"
    expected = model_logits(doubled(model), torch.tensor([prompt.ids]), torch.tensor([prompt.source]))
    torch.testing.assert_close(answer_logits(network, [prompt])[0], expected[0, prompt.position], rtol=1e-6, atol=1e-6)


@SENTINELS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_parameter_is_loaded_in_the_dtype_on_disk(tmp_path, name, dtype):
    """Transformers would keep T5's down projections in float32, and edits of them would not fit the checkpoint."""
    expected = save(tmp_path, name).to(dtype)
    expected.save_pretrained(tmp_path)
    model = load(tmp_path).model
    assert raw(model) == raw(expected)


@SENTINELS
@pytest.mark.parametrize("stated", [None, 3])
def test_the_decoders_first_token(tmp_path, name, stated):
    save(tmp_path, name, decoder_start_token_id=stated)
    tokenizer = load(tmp_path).tokenizer
    expected = tokenizer.pad_token_id if stated is None else stated
    assert load(tmp_path).encoder.encode(1, "[Y] is a city", None).ids[0] == expected


MASKLESS = {"byte-level": "roberta", "word-piece": "electra", "metaspace": "albert", "sentinels": "distilbert"}


@pytest.mark.parametrize("kind", MASKLESS)
def test_a_tokenizer_without_a_mask_is_refused(tmp_path, kind):
    tokenizer = TOKENIZERS[kind]()
    tokenizer.mask_token = None
    save(tmp_path, MASKLESS[kind], tokenizer)
    with pytest.raises(ModelError, match=f"{tmp_path.name} can't be asked: the tokenizer has no mask token, which"):
        load(tmp_path)


@pytest.mark.parametrize("kind", ["byte-level", "word-piece", "metaspace"])
def test_a_tokenizer_without_sentinels_is_refused(tmp_path, kind):
    save(tmp_path, "t5", TOKENIZERS[kind]())
    with pytest.raises(ModelError, match="can't be asked: the tokenizer has no token <extra_id_0>"):
        load(tmp_path)


def test_a_decoder_that_can_not_start_is_refused(tmp_path):
    tokenizer = TOKENIZERS["sentinels"]()
    tokenizer.pad_token = None
    save(tmp_path, "t5", tokenizer, decoder_start_token_id=None)
    with pytest.raises(ModelError, match="no decoder_start_token_id, the token with which the decoder starts"):
        load(tmp_path)


def test_a_mask_that_the_model_does_not_know_is_refused(tmp_path):
    """A tokenizer class of transformers adds the mask that its vocabulary lacks."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "paris", "is"]
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    save(tmp_path, "distilbert", tokenizer, vocab_size=len(words))
    with pytest.raises(ModelError, match="its blank is number 6, and the model knows tokens 0 to 5"):
        load(tmp_path)


def test_electras_discriminator_is_refused(tmp_path):
    save(tmp_path, "electra").electra.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"lacks \d+ weights that AutoModelForMaskedLM needs.*generator_"):
        load(tmp_path)


# --- settings ------------------------------------------------------------------------------------------------


@EVERY
def test_each_variant_has_its_own_adapter(name):
    found = adapter_for(masked_config(name))
    assert found in ADAPTERS
    assert VARIANTS[name].model_type in found.model_types
    assert (found.ffn.gate is not None) == (name == "t5-gated" or name.startswith("modernbert"))


@EVERY
def test_the_number_of_tokens_that_a_prompt_may_have(name):
    config = masked_config(name)
    expected = {"roberta": POSITIONS - 2, "xlm-roberta": POSITIONS - 5, "modernbert": 13}.get(name, POSITIONS)
    assert adapter_for(config).max_tokens(config) == (512 if name.startswith("t5") else expected)


def test_t5_may_state_the_number_of_tokens():
    config = masked_config("t5", n_positions=77)
    assert adapter_for(config).max_tokens(config) == 77


def test_modernberts_windows_matter_from_one_token_more_than_allowed(make_case):
    network = make_case("modernbert").network
    run_engine(network, make_prompts("modernbert", [13] * 2))
    with pytest.raises(ModelError, match="gives other probabilities"):
        run_engine(network, make_prompts("modernbert", [14] * 2))


def test_modernbert_without_windows_takes_all_positions(make_case):
    run_engine(make_case("modernbert-biases").network, make_prompts("modernbert", [POSITIONS] * 2))


BOUNDLESS = ("t5", "modernbert", "deberta-v2-buckets")
"""No table of positions ends."""


@pytest.mark.parametrize("name", [name for name in VARIANTS if not name.startswith(BOUNDLESS)])
def test_the_longest_prompt_fits_the_positions(make_case, name):
    case = make_case(name)
    longest = case.network.adapter.max_tokens(case.exact.config)
    run_engine(case.network, make_prompts(name, [longest] * 2))
    with pytest.raises((IndexError, RuntimeError)):
        model_logits(case.exact, torch.tensor([[5] * (longest + 1)]), torch.empty(0))


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        *[
            (name, setting, True)
            for name in ("roberta", "xlm-roberta", "electra")
            for setting in ("is_decoder", "add_cross_attention")
        ],
        ("roberta", "pad_token_id", None),
        ("albert", "num_hidden_groups", 0),
        ("albert", "inner_group_num", 0),
    ],
)
def test_settings_under_which_an_adapter_would_be_wrong(tmp_path, name, setting, value):
    save(tmp_path, name)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {setting: value}))
    for use in (describe, load):
        with pytest.raises(UnsupportedModelError, match=f"{setting}={value}.*{VARIANTS[name].model_type[-7:]}"):
            use(tmp_path)


@pytest.mark.parametrize(
    ("setting", "value", "wanted"), [("relative_attention", False, True), ("conv_kernel_size", 3, 0)]
)
def test_settings_that_no_adapter_for_deberta_is_for(tmp_path, setting, value, wanted):
    """A convolution's kernel size is no kernel that a configuration chooses."""
    save(tmp_path, "deberta-v2")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {setting: value}))
    for use in (describe, load):
        with pytest.raises(UnsupportedModelError, match=f"a deberta-v2 configuration without .*{setting}={wanted}"):
            use(tmp_path)


def test_models_without_layers(tmp_path):
    save(tmp_path, "albert", num_hidden_layers=0)
    with pytest.raises(ModelError, match="says that the model has 0 layers"):
        describe(tmp_path)


@pytest.mark.parametrize(
    ("hidden", "groups", "inner"), [(1, 1, 1), (12, 1, 1), (5, 2, 1), (7, 3, 2), (2, 3, 1), (4, 4, 2)]
)
def test_alberts_layers_are_taken_in_the_models_order(fresh, hidden, groups, inner):
    network = fresh("albert", num_hidden_layers=hidden, num_hidden_groups=groups, inner_group_num=inner)
    modules = {id(module): name for name, module in network.model.named_modules()}
    turns: list[str] = []
    for module in {id(module): module for module in down_projections(network.model)}.values():
        module.register_forward_hook(lambda module, _inputs, _output: turns.append(modules[id(module)]))
    model_logits(network.model, IDS, IDS)
    assert [network.down_parameter(layer) for layer in range(len(network.layers))] == [
        f"{path}.weight" for path in turns
    ]
    assert [network.canonical_layer(layer) for layer in range(len(turns))] == [turns.index(path) for path in turns]
