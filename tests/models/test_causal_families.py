"""Every causal family: scores against brute force, answers, value slots, edits, checkpoints, and what is refused.

The brute force runs whole transformers models in double precision with hooks, and knows nothing of the adapters. Some
families compute attention or norms in single precision even then, so the reference is good to about 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from causal_families import LAYERS, VARIANTS, WIDTH, causal_config, causal_model
from tiny_models import (
    POSITIONS,
    VOCABULARY,
    brute_force,
    doubled,
    down_projections,
    opened,
    probability,
    probability_changes,
    relative_error,
    towards_zero,
)

from kndb.attribution.base_pass import continue_from, freeze
from kndb.attribution.batches import to_tensors
from kndb.attribution.engine import Engine
from kndb.attribution.integrated_gradients import integrated_gradients
from kndb.attribution.quadrature import Quadrature
from kndb.attribution.settings import AttributionSettings
from kndb.editing.objects.slots import apply_object
from kndb.editing.planning.recipes import UpdateRule, erase_rule, plan
from kndb.errors import ModelError, UnsupportedModelError
from kndb.models.acceptance import describe
from kndb.models.adapter import Adapter, Heads, Rotation
from kndb.models.answers import answer_logits
from kndb.models.fingerprint import fingerprint
from kndb.models.loading import LoadedModel, load
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt
from kndb.models.registry import ADAPTERS, adapter_for, require_known
from kndb.records.models import Neuron
from kndb.records.recipes import read_recipe

EVERY = pytest.mark.parametrize("name", VARIANTS)
WINDOW = 12
WINDOWED = {"gpt_neo", "mistral", "qwen2", "gemma2", "gemma3", "starcoder2", "cohere2", "gpt_oss"}
PARALLEL = {"gptj", "gpt_neox", "phi", "phi-normed", "cohere", "cohere-normed", "cohere2"} | {
    f"falcon{special}" for special in ("", "-new", "-one-norm", "-slopes")
}
NORMED_OUTPUT = ("gemma2", "gemma2-uncapped", "gemma3", "olmo2")
CPU = torch.device("cpu")

GAUSS_3 = ([0.5 - 0.15**0.5, 0.5, 0.5 + 0.15**0.5], [5 / 18, 4 / 9, 5 / 18])
"""Nodes and weights on [0, 1], from tables (Abramowitz and Stegun 25.4.30, halved)."""

SMOOTH: dict[str, dict[str, Any]] = {
    **{name: {"initializer_range": 0.1} for name in VARIANTS},
    "opt": {"init_std": 0.1},
    # A norm on the FFN's output makes P(α) jump near 0, the sooner the smaller its epsilon is.
    **{name: {"initializer_range": 0.1, "rms_norm_eps": 0.3} for name in NORMED_OUTPUT},
    # Where experts are chosen, P(α) may have a step: another choice in a layer above. Here all are chosen.
    "mixtral": {"initializer_range": 0.1, "num_experts_per_tok": 4},
    "qwen3_moe": {"initializer_range": 0.1, "num_experts_per_tok": 5},
    "gpt_oss": {"initializer_range": 0.1, "num_experts_per_tok": 3, "swiglu_limit": 50.0},
}
del SMOOTH["opt-bare"]  # ReLU has kinks.
del SMOOTH["qwen3_moe-one"]
"""Settings under which the gradient has no kinks and no spikes along the path."""


@dataclass
class Case:
    """A tiny model as kndb sees it, and the same weights in double precision."""

    exact: Any
    network: Network


@pytest.fixture(scope="module")
def make_case() -> Callable[..., Case]:
    made: dict[str, Case] = {}

    def make(name: str, **settings: Any) -> Case:
        key = f"{name} {settings}"
        if key not in made:
            model = causal_model(name, **settings)
            exact = doubled(model)
            freeze(model)
            made[key] = Case(exact, Network(model, adapter_for(model.config)))
        return made[key]

    return make


@pytest.fixture
def fresh() -> Callable[..., Network]:
    """A network that a test may change."""
    return lambda name, **settings: Network(
        causal_model(name, **settings).requires_grad_(False), adapter_for(causal_config(name, **settings))
    )


def make_prompts(lengths: list[int], seed: int = 3, answers: int = 1) -> list[EncodedPrompt]:
    """Random prompts; those of several answer tokens are teacher-forced."""
    chance = torch.Generator().manual_seed(seed)
    prompts = []
    for number, length in enumerate(lengths):
        ids = tuple(torch.randint(1, VOCABULARY, (length + answers,), generator=chance).tolist())
        questions = [
            EncodedPrompt(number, ids[: length + step], length + step - 1, ids[length + step])
            for step in range(answers)
        ]
        prompts.append(replace(questions[0], further=tuple(questions[1:])))
    return prompts


def attribute(case: Case, prompts: list[EncodedPrompt], *rule: Any, most_rows: int = 64) -> Any:
    continuation = continue_from(case.network, to_tensors(prompts, CPU))
    return integrated_gradients(continuation, torch.arange(len(prompts)), Quadrature.choose(*rule), most_rows)


def by_definition(case: Case, prompt: EncodedPrompt, rule: Any = None) -> torch.Tensor:
    return brute_force(case.exact, prompt.ids, prompt.position, prompt.answer, rule)


# --- attribution ---------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_a_fixed_rule_gives_its_sum(make_case, name, tokens):
    case = make_case(name)
    prompts = make_prompts([tokens] * 3, seed=tokens)
    found = attribute(case, prompts, "gauss-legendre", 3, most_rows=4)
    assert found.scores.shape == (3, LAYERS, VARIANTS[name].neurons)
    for prompt, scores in zip(prompts, found.scores, strict=True):
        assert relative_error(scores, by_definition(case, prompt, GAUSS_3)) <= 1e-4


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("tokens", [1, 6])
def test_the_default_gives_the_integral(make_case, name, tokens):
    case = make_case(name, **SMOOTH[name])
    prompts = make_prompts([tokens] * 2, seed=tokens)
    found = attribute(case, prompts)
    assert found.completeness_error.max() <= 1e-3
    for prompt, scores in zip(prompts, found.scores, strict=True):
        assert relative_error(scores, by_definition(case, prompt)) <= 1e-3
        changes = probability_changes(case.exact, prompt.ids, prompt.position, prompt.answer)
        torch.testing.assert_close(scores.double().sum(-1), changes, rtol=0, atol=2e-3 * float(changes.abs().max()))


@pytest.mark.parametrize("name", ["gemma2", "opt-bare"])
def test_paths_that_no_rule_follows_are_followed_by_panels(make_case, name):
    """Under a norm on the FFN's output only α near 0 counts; ReLU bends the path."""
    case, prompts = make_case(name), make_prompts([5] * 3)
    fixed = attribute(case, prompts, "lobatto", 17)
    assert fixed.completeness_error.max() > 1e-2
    found = attribute(case, prompts, "bisection", None, 1e-3, 2000)
    assert found.completeness_error.max() <= 2e-3
    scale = float(found.scores.abs().max())
    for prompt, scores in zip(prompts, found.scores, strict=True):
        expected = by_definition(case, prompt, towards_zero())
        assert float((scores - expected).abs().max()) <= 3e-3 * scale


@pytest.mark.parametrize("name", ["gemma2", "opt-bare"])
def test_too_few_evaluations_show_in_the_completeness_error(make_case, name):
    found = attribute(make_case(name), make_prompts([5] * 3), "bisection", None, 1e-3, 8)
    assert found.completeness_error.max() > 1e-2


def run_engine(network: Network, prompts: list[EncodedPrompt], **settings: Any) -> dict[int, Any]:
    rule = Quadrature.choose("gauss-legendre", 3)
    engine = Engine(network, str, AttributionSettings(rule, batch_size=2, **settings))
    return {result.prompt_id: result for batch in engine.run(prompts) for result in batch.results}


@EVERY
def test_the_engine_agrees_with_the_models_forward_pass(make_case, name):
    case = make_case(name)
    for answers in (1, 3):
        prompts = make_prompts([4, 1, 7, 4, 4], answers=answers)
        results = run_engine(case.network, prompts)
        for prompt in prompts:
            parts = [probability(case.exact, one.ids, one.position, one.answer) for one in prompt.questions]
            assert results[prompt.prompt_id].probability == pytest.approx(float(torch.stack(parts).prod()), rel=1e-4)
            assert results[prompt.prompt_id].answer_tokens == answers


@EVERY
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_other_precisions(name, dtype, fresh):
    network = LoadedModel(fresh(name).model, None, adapter_for(causal_config(name)), None).moved(
        CPU, getattr(torch, dtype)
    )
    assert run_engine(network, make_prompts([5, 2]), dtype=dtype).keys() == {0, 1}


def adapter(**changes: Any) -> Callable[[Adapter], Adapter]:
    return lambda right: replace(right, **changes)


def attention(**changes: Any) -> Callable[[Adapter], Adapter]:
    return lambda right: replace(right, attention=replace(right.attention, **changes))


WRONG = {
    "serial": ("gpt_neox", adapter(parallel=False)),
    "parallel": ("llama", adapter(parallel=True)),
    "halves": ("gptj", adapter(rotation=Rotation.HALVES)),
    "no-rotation": ("phi", adapter(rotary=None)),
    "no-bias": ("bloom", adapter(bias=None)),
    "no-final-norm": ("mistral", adapter(final_norm=None)),
    "uncapped-logits": ("gemma2", adapter(head=("lm_head",))),
    "unscaled-words": ("gemma", adapter(embed=lambda model, ids: model.model.embed_tokens.weight[ids])),
    "side-by-side": ("gpt_neox", attention(heads=Heads.SIDE_BY_SIDE)),
    "scaled": ("gpt_neo", attention(scaling=None)),
    "no-head-norms": ("qwen3", attention(query_norm=None)),
    "uncapped-scores": ("gemma2", attention(softcap=None)),
    "no-output-norm": ("gemma2", lambda right: replace(right, norms=replace(right.norms, ffn_output=None))),
    "no-gate": ("gemma", lambda right: replace(right, ffn=replace(right.ffn, gate=None))),
    "one-kind-of-angles": ("gemma3", adapter(rotary_kinds=None)),
    "all-layers-turned": ("smollm3", adapter(rotary_kinds=None)),
    "other-layers-turned": ("cohere2", adapter(rotary_kinds=lambda config: [None, 0, None])),
    "unscaled-blocks": ("granite", adapter(factor=None)),
    "unscaled-logits": ("cohere", adapter(head=("lm_head",))),
    "halves-of-cohere": ("cohere-normed", adapter(rotation=Rotation.HALVES)),
    "unnormed-keys": ("olmo2", attention(key_norm=None)),
    "queries-first": ("falcon-new", attention(heads=Heads.SIDE_BY_SIDE)),
    "no-slopes": ("falcon-slopes", adapter(bias=None)),
    "no-sinks": ("gpt_oss", attention(sinks=None)),
    "other-activations": (
        "mixtral",
        lambda right: replace(right, ffn=replace(right.ffn, activation=lambda _, made: made.chunk(2, -1)[0])),
    ),
    "norms-exchanged": (
        "falcon-new",
        lambda right: replace(right, norms=replace(right.norms, attention_input="ln_mlp", ffn_input="ln_attn")),
    ),
    "gate-for-up": (
        "qwen2",
        lambda right: replace(right, ffn=replace(right.ffn, gate=right.ffn.up, up=right.ffn.gate)),
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_the_engine_refuses_a_wrong_adapter(wrong, fresh):
    name, spoil = WRONG[wrong]
    network = fresh(name)
    with pytest.raises(ModelError, match="gives other probabilities"):
        run_engine(Network(network.model, spoil(network.adapter)), make_prompts([6, 6]))


# --- whole models: answers, value slots, edits ---------------------------------------------------------------


@EVERY
@torch.no_grad()
def test_padding_changes_no_answer(make_case, name):
    case = make_case(name)
    exact = Network(case.exact, case.network.adapter)
    prompts = make_prompts([4, 9, 1, 6, WINDOW, 2])
    for prompt, logits in zip(prompts, answer_logits(exact, prompts), strict=True):
        alone = case.exact(input_ids=torch.tensor([prompt.ids])).logits[0, -1]
        torch.testing.assert_close(logits, alone, rtol=1e-5, atol=1e-5)


def silenced(model: Any, neurons: list[Neuron], ids: torch.Tensor) -> torch.Tensor:
    """The model's logits with some neurons at zero, at every position."""

    def zero(indices: list[int]) -> Any:
        def hook(_module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            changed = inputs[0].clone()
            changed[..., indices] = 0
            return (changed,)

        return hook

    model = opened(model)
    handles = [
        module.register_forward_pre_hook(zero([neuron.index for neuron in neurons if neuron.layer == layer]))
        for layer, module in enumerate(down_projections(model))
    ]
    logits = model(input_ids=ids).logits
    for handle in handles:
        handle.remove()
    return logits


def make_plan(network: Network, neurons: list[Neuron], rule: Any) -> Any:
    return plan(network, neurons, rule, fingerprint="f" * 64, recipe=read_recipe("erase", {}))


@EVERY
@torch.no_grad()
def test_an_erased_value_slot_is_a_silent_neuron(fresh, name):
    network = fresh(name)
    model = network.model
    neurons = [Neuron(0, 0), Neuron(1, 7), Neuron(1, 24), Neuron(2, VARIANTS[name].neurons - 1)]
    ids = torch.tensor([[4, 9, 2, 33, 6], [8, 8, 1, 50, 3]])
    before = model(input_ids=ids).logits
    expected = silenced(model, neurons, ids)
    apply_object(dict(model.named_parameters()), make_plan(network, neurons, erase_rule))
    after = model(input_ids=ids).logits
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-5)
    assert relative_error(after, before) > 100 * relative_error(after, expected)


def raw(model: Any) -> dict[str, bytes]:
    return {
        name: tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()
        for name, tensor in model.named_parameters()
    }


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_edit_taken_back_leaves_every_bit(fresh, name, dtype):
    network = fresh(name)
    network = LoadedModel(network.model, None, network.adapter, None).moved(CPU, dtype)
    before = raw(network.model)
    parameters = dict(network.model.named_parameters())
    neurons = [Neuron(2, 3), Neuron(0, 39), Neuron(0, 2)]
    for rule in (erase_rule, UpdateRule(5, 11, 1.0, 8.0).on(network)):
        edit = make_plan(network, neurons, rule)
        assert raw(network.model) == before
        apply_object(parameters, edit)
        changed = {name for name, content in raw(network.model).items() if content != before[name]}
        assert changed == {network.down_parameter(0), network.down_parameter(2)}
        apply_object(parameters, edit, reverse=True)
        assert raw(network.model) == before


# --- checkpoints ---------------------------------------------------------------------------------------------


@EVERY
def test_a_saved_checkpoint_is_described_and_loaded(tmp_path, byte_tokenizer, name):
    model = causal_model(name, vocab_size=400)
    model.save_pretrained(tmp_path)
    byte_tokenizer.save_pretrained(tmp_path)
    found = describe(tmp_path)
    family = VARIANTS[name].family
    assert (found.family, found.layers, found.neurons) == (family, LAYERS, VARIANTS[name].neurons)
    assert found.fingerprint == fingerprint(tmp_path)
    loaded = load(tmp_path)
    for (key, one), (_, original) in zip(loaded.model.named_parameters(), model.named_parameters(), strict=True):
        assert torch.equal(one, original), key
    network = loaded.moved(CPU, torch.float64)
    assert (network.neurons, network.hidden_size) == (VARIANTS[name].neurons, WIDTH)
    prompt = loaded.encoder.encode(1, "The capital of France is [Y].", "Paris")
    assert byte_tokenizer.decode(prompt.ids) == "The capital of France is"
    assert loaded.decode(prompt.answers) == "Paris"
    with torch.no_grad():
        expected = doubled(model)(input_ids=torch.tensor([prompt.ids])).logits[0, -1]
        torch.testing.assert_close(answer_logits(network, [prompt])[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "phi", "gptj"])
def test_half_precision_leaves_the_angles_alone(fresh, name):
    network = fresh(name)
    before = {key: buffer.clone() for key, buffer in network.model.named_buffers()}
    half = LoadedModel(network.model, None, network.adapter, None).moved(CPU, torch.bfloat16)
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.bfloat16}
    assert before
    assert all(torch.equal(before[key], buffer) for key, buffer in half.model.named_buffers())


# --- attention windows ---------------------------------------------------------------------------------------


@EVERY
def test_windows_limit_the_prompt(name):
    config = causal_config(name)
    assert adapter_for(config).max_tokens(config) == (WINDOW if name in WINDOWED | {"phi3-long"} else POSITIONS)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("gpt_neo", {"attention_types": [[["global"], 3]]}),
        ("gpt_neo", {"window_size": 99}),
        ("mistral", {"sliding_window": None}),
        ("qwen2", {"use_sliding_window": False}),
        ("qwen2", {"max_window_layers": LAYERS}),
        ("gemma2", {"layer_types": ["full_attention"] * LAYERS}),
        ("gemma3", {"layer_types": ["full_attention"] * LAYERS}),
        ("starcoder2", {"sliding_window": None}),
        ("smollm3", {"sliding_window": 12}),
    ],
)
def test_windows_that_are_not_in_force_limit_nothing(name, settings):
    config = causal_config(name, **settings)
    assert adapter_for(config).max_tokens(config) == POSITIONS


@pytest.mark.parametrize("name", sorted(WINDOWED))
def test_a_window_matters_from_one_token_more_than_allowed(make_case, name):
    network = make_case(name).network
    run_engine(network, make_prompts([WINDOW] * 2))
    with pytest.raises(ModelError, match="gives other probabilities"):
        run_engine(network, make_prompts([WINDOW + 1] * 2))


@pytest.mark.parametrize(("stated", "limit"), [({"seq_length": 77}, 77), ({"seq_length": None}, 2048)])
def test_bloom_has_the_length_that_it_was_trained_on(stated, limit):
    config = causal_config("bloom", **stated)
    assert adapter_for(config).max_tokens(config) == limit


# --- the registry --------------------------------------------------------------------------------------------


def test_an_unknown_architecture_is_refused_with_the_list_of_known_ones():
    with pytest.raises(UnsupportedModelError, match="no adapter for the architecture 'mamba'") as caught:
        require_known(SimpleNamespace(model_type="mamba"))
    for variant in VARIANTS.values():
        assert f" {variant.model_type}" in str(caught.value)


@EVERY
def test_each_variant_has_its_own_adapter(name):
    found = adapter_for(causal_config(name))
    assert found.family == VARIANTS[name].family
    assert found in ADAPTERS
    assert found.parallel == (name in PARALLEL)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            SimpleNamespace(model_type="gpt_neox", use_parallel_residual="sometimes"),
            "use_parallel_residual=True or use_parallel_residual=False",
        ),
        (SimpleNamespace(model_type="phi"), "qk_layernorm=False or qk_layernorm=True"),
        (SimpleNamespace(model_type="qwen3_moe", mlp_only_layers=[1]), r"decoder_sparse_step=1, mlp_only_layers=\[\]"),
        (SimpleNamespace(model_type="cohere"), "use_qk_norm=False or use_qk_norm=True"),
        (SimpleNamespace(model_type="falcon", num_ln_in_parallel_attn=3), "new_decoder_architecture=False, "),
        (SimpleNamespace(model_type="opt", hidden_size=1024, word_embed_proj_dim=512), "word_embed_proj_dim=1024"),
    ],
)
def test_settings_that_no_adapter_is_for_are_refused(config, message):
    with pytest.raises(UnsupportedModelError, match=f"without {message}"):
        adapter_for(config)


CHANGING = {
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 100.0,
        "factor": 2.0,
        "original_max_position_embeddings": POSITIONS // 2,
        "partial_rotary_factor": 0.5,
        "short_factor": [1.0, 1.0],
        "long_factor": [2.0, 2.0],
    }
}
UNSUPPORTED = [
    ("opt", {"do_layer_norm_before": False}),
    ("bloom", {"apply_residual_connection_post_layernorm": True}),
    ("bloom", {"slow_but_exact": True}),
    ("gemma", {"use_bidirectional_attention": True}),
    ("gemma2", {"use_bidirectional_attention": True}),
    ("gemma3", {"use_bidirectional_attention": True}),
    ("gemma3", {"rope_parameters": {"full_attention": CHANGING["rope_parameters"]}}),
    *((name, CHANGING) for name in ("gpt_neox", "phi", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2")),
    *((name, CHANGING) for name in ("mixtral", "qwen3_moe", "gpt_oss")),
    ("qwen3_moe", {"num_experts": 0}),
    *((name, CHANGING) for name in ("olmo2", "smollm3", "granite", "starcoder2", "cohere", "cohere2", "falcon")),
]


@pytest.mark.parametrize(("name", "settings"), UNSUPPORTED)
def test_unsupported_settings_are_refused(name, settings):
    with pytest.raises(UnsupportedModelError, match=f"adapter for {VARIANTS[name].family} can't handle that"):
        adapter_for(causal_config(name, **settings))


def test_every_unsupported_setting_has_a_test():
    tested = {(VARIANTS[name].family, key) for name, settings in UNSUPPORTED for key in settings}
    families = {variant.family for variant in VARIANTS.values()}
    stated = {(one.family, setting.split(".")[0]) for one in ADAPTERS for setting, _ in one.unsupported}
    assert {pair for pair in stated if pair[0] in families} == tested


@pytest.mark.parametrize("kind", ["linear", "dynamic", "llama3"])
def test_other_kinds_of_rotary_positions_are_right(kind):
    rope = {"rope_type": kind, "rope_theta": 100.0, "factor": 3.0}
    if kind == "llama3":
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8}
    model = causal_model("llama", rope_parameters=rope).requires_grad_(False)
    run_engine(Network(model, adapter_for(model.config)), make_prompts([POSITIONS] * 2))
