"""Tiny random models of every causal family, with settings under which no part of an adapter can be forgotten.

Nothing here uses kndb. Biases and norms are random, the number of neurons is not the hidden size, and heads share
keys or have a size of their own where the family lets them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from tiny_models import POSITIONS, VOCABULARY
from transformers import AutoConfig, AutoModelForCausalLM

LAYERS = 3
WIDTH = 24
NEURONS = 40
ROUGHNESS = 0.2

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": NEURONS,
    "max_position_embeddings": POSITIONS,
    "initializer_range": ROUGHNESS,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
"""What most configurations call their sizes."""


@dataclass(frozen=True)
class Variant:
    """One kind of model to test.

    Attributes:
        model_type: of its configuration.
        settings: where it differs from `SIZES`.
        renamed: its own names of some of `SIZES`; None where it has no such setting.
        neurons: per layer.
    """

    model_type: str
    settings: dict[str, Any] = field(default_factory=dict)
    renamed: dict[str, str | None] = field(default_factory=dict)
    neurons: int = NEURONS

    @property
    def family(self) -> str:
        """What kndb calls it."""
        return self.model_type.removesuffix("_text")


SHARED_KEYS = {"num_key_value_heads": 2}
OWN_HEAD_SIZE = {**SHARED_KEYS, "head_dim": 8}
BIASES = {"attention_bias": True}

NAMES_OF_GPTJ: dict[str, str | None] = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
}
NAMES_OF_BLOOM: dict[str, str | None] = {
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": None,
    "max_position_embeddings": None,
}
NAMES_OF_OPT: dict[str, str | None] = {"intermediate_size": "ffn_dim", "initializer_range": "init_std"}

STRETCHED = {
    "rope_type": "yarn",
    "rope_theta": 100.0,
    "factor": 3.0,
    "original_max_position_embeddings": POSITIONS // 3,
}
BARE = {"enable_bias": False, "layer_norm_elementwise_affine": False, "_remove_final_layer_norm": True}
CAPPED = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}
LOCAL = {
    "sliding_window": 12,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "query_pre_attn_scalar": 5,
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
        "full_attention": {"rope_type": "linear", "rope_theta": 200.0, "factor": 3.0},
    },
}
PARTIAL = {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.67}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 100.0,
    "factor": 2.0,
    "short_factor": [1.0, 1.5, 2.0],
    "long_factor": [3.0, 4.0, 5.0],
}
FACTORS = {
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.3,
    "residual_multiplier": 0.7,
    "logits_scaling": 0.5,
}
SMALL_EXPERTS = {"num_experts": 5, "moe_intermediate_size": 20, "norm_topk_prob": True}
LOCAL_EXPERTS = {
    "num_local_experts": 3,
    "num_experts_per_tok": 2,
    "swiglu_limit": 0.5,
    "sliding_window": 12,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},
}
NAMES_OF_FALCON: dict[str, str | None] = {"intermediate_size": "ffn_hidden_size"}
NEWER_FALCON = {"new_decoder_architecture": True, "num_kv_heads": 2}

VARIANTS = {
    "gpt_neo": Variant("gpt_neo", {"attention_types": [[["global", "local"], 1], [["global"], 1]], "window_size": 12}),
    "gptj": Variant("gptj", {"rotary_dim": 4}, NAMES_OF_GPTJ),
    "gpt_neox": Variant("gpt_neox", {"rotary_pct": 0.67}),
    "gpt_neox-serial": Variant("gpt_neox", {"rotary_pct": 0.67, "use_parallel_residual": False}),
    "opt": Variant("opt", {"activation_function": "gelu"}, NAMES_OF_OPT),
    "opt-bare": Variant("opt", BARE, NAMES_OF_OPT),
    "bloom": Variant("bloom", {"n_head": 6, "seq_length": POSITIONS}, NAMES_OF_BLOOM, neurons=4 * WIDTH),
    "phi": Variant("phi", {**SHARED_KEYS, "partial_rotary_factor": 0.67}),
    "phi-normed": Variant("phi", {**SHARED_KEYS, "partial_rotary_factor": 0.67, "qk_layernorm": True}),
    "llama": Variant("llama", {**OWN_HEAD_SIZE, **BIASES, "mlp_bias": True, "hidden_act": "gelu_pytorch_tanh"}),
    "llama-stretched": Variant("llama", {**SHARED_KEYS, "rope_parameters": STRETCHED}),
    "mistral": Variant("mistral", {**OWN_HEAD_SIZE, "sliding_window": 12}),
    "qwen2": Variant(
        "qwen2", {**SHARED_KEYS, "use_sliding_window": True, "sliding_window": 12, "max_window_layers": 1}
    ),
    "qwen3": Variant("qwen3", {**OWN_HEAD_SIZE, **BIASES}),
    "gemma": Variant("gemma", {**OWN_HEAD_SIZE, **BIASES}),
    "gemma2": Variant("gemma2", {**OWN_HEAD_SIZE, **CAPPED, "sliding_window": 12, "query_pre_attn_scalar": 5}),
    "gemma2-uncapped": Variant("gemma2", {**OWN_HEAD_SIZE, **dict.fromkeys(CAPPED)}),
    "gemma3": Variant("gemma3_text", {**OWN_HEAD_SIZE, **BIASES, **LOCAL, "final_logit_softcapping": 3.0}),
    "phi3": Variant("phi3", {**SHARED_KEYS, "rope_parameters": PARTIAL}),
    "phi3-long": Variant(
        "phi3", {**SHARED_KEYS, "rope_parameters": LONG, "original_max_position_embeddings": POSITIONS // 2}
    ),
    "olmo2": Variant("olmo2", {**SHARED_KEYS, **BIASES}),
    "smollm3": Variant("smollm3", {**SHARED_KEYS, **BIASES, "mlp_bias": True, "no_rope_layers": [1, 0, 1, 1]}),
    "granite": Variant("granite", {**SHARED_KEYS, **BIASES, "mlp_bias": True, **FACTORS}),
    "starcoder2": Variant("starcoder2", {**SHARED_KEYS, "sliding_window": 12}),
    "cohere": Variant("cohere", {**SHARED_KEYS, **BIASES, "logit_scale": 0.4}),
    "cohere-normed": Variant("cohere", {**SHARED_KEYS, "use_qk_norm": True, "logit_scale": 0.4}),
    "cohere2": Variant(
        "cohere2", {**SHARED_KEYS, "sliding_window": 12, "sliding_window_pattern": 2, "logit_scale": 0.4}
    ),
    "falcon": Variant("falcon", {"bias": True}, NAMES_OF_FALCON),
    "falcon-serial": Variant("falcon", {"parallel_attn": False, "multi_query": False, "alibi": True}, NAMES_OF_FALCON),
    "falcon-new": Variant("falcon", {**NEWER_FALCON, "bias": True}, NAMES_OF_FALCON),
    "falcon-one-norm": Variant("falcon", {**NEWER_FALCON, "num_ln_in_parallel_attn": 1}, NAMES_OF_FALCON),
    "falcon-slopes": Variant("falcon", {**NEWER_FALCON, "alibi": True}, NAMES_OF_FALCON),
    "mixtral": Variant("mixtral", {**OWN_HEAD_SIZE, "num_local_experts": 4}, neurons=4 * NEURONS),
    "qwen3_moe": Variant("qwen3_moe", {**OWN_HEAD_SIZE, **SMALL_EXPERTS, "num_experts_per_tok": 3}, neurons=5 * 20),
    "qwen3_moe-one": Variant(
        "qwen3_moe",
        {**OWN_HEAD_SIZE, **SMALL_EXPERTS, "num_experts_per_tok": 1, "norm_topk_prob": False},
        neurons=5 * 20,
    ),
    "gpt_oss": Variant("gpt_oss", {**OWN_HEAD_SIZE, **LOCAL_EXPERTS}, neurons=3 * NEURONS),
}
"""By name: a family, or a family and what is special, joined by a dash."""


def causal_config(name: str, **settings: Any) -> Any:
    """The configuration of a variant, with some settings changed."""
    variant = VARIANTS[name]
    named = {variant.renamed.get(key, key): value for key, value in SIZES.items()}
    given = {key: value for key, value in named.items() if key is not None}
    return AutoConfig.for_model(variant.model_type, **{**given, **variant.settings, **settings})


def causal_model(name: str, seed: int = 0, **settings: Any) -> Any:
    """A random model of a variant, in evaluation mode."""
    torch.manual_seed(seed)
    # Fused attention leaves out Gemma 2's cap on scores.
    attention = "eager" if VARIANTS[name].model_type == "gemma2" else None
    config = causal_config(name, **settings)
    experts = {"experts_implementation": "eager"} if getattr(config, "num_experts_per_tok", None) else {}
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, **experts)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim == 1 or key.endswith("_bias"):
                parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()
