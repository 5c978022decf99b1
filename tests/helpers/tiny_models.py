"""Tiny random transformers models, and attributions of them by brute force.

Nothing here uses kndb: modules are found by their transformers paths, and every number comes from the whole model,
run in double precision with hooks, one prompt and one layer at a time; the nodes of a rule are rows of a batch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

VOCABULARY = 61
POSITIONS = 24


def tiny_model(
    family: str,
    seed: int = 0,
    *,
    layers: int = 3,
    width: int = 24,
    neurons: int = 40,
    heads: int = 4,
    roughness: float = 0.2,
    **settings: Any,
) -> Any:
    """A random `bert` or `gpt2` model in evaluation mode.

    Biases and norms are random too, so that none of them can be forgotten. `roughness` is the initial weights'
    standard deviation: the larger, the less linear the network.
    """
    torch.manual_seed(seed)
    model = _bert if family == "bert" else _gpt2
    made = model(layers, width, neurons, heads, roughness, settings)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    return made.eval()


def _bert(layers: int, width: int, neurons: int, heads: int, roughness: float, settings: dict[str, Any]) -> Any:
    return BertForMaskedLM(
        BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=neurons,
            max_position_embeddings=POSITIONS,
            initializer_range=roughness,
            **settings,
        )
    )


def _gpt2(layers: int, width: int, neurons: int, heads: int, roughness: float, settings: dict[str, Any]) -> Any:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=width,
            n_layer=layers,
            n_head=heads,
            n_inner=neurons,
            n_positions=POSITIONS,
            initializer_range=roughness,
            bos_token_id=0,
            eos_token_id=0,
            **settings,
        )
    )


DOWN = {
    "bert": "bert.encoder.layer.{}.output.dense",
    "roberta": "roberta.encoder.layer.{}.output.dense",
    "xlm-roberta": "roberta.encoder.layer.{}.output.dense",
    "distilbert": "distilbert.transformer.layer.{}.ffn.lin2",
    "electra": "electra.encoder.layer.{}.output.dense",
    "t5": "decoder.block.{}.layer.2.DenseReluDense.wo",
    "gpt2": "transformer.h.{}.mlp.c_proj",
    "gpt_neo": "transformer.h.{}.mlp.c_proj",
    "gptj": "transformer.h.{}.mlp.fc_out",
    "gpt_neox": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
    "opt": "model.decoder.layers.{}.fc2",
    "bloom": "transformer.h.{}.mlp.dense_4h_to_h",
    "phi": "model.layers.{}.mlp.fc2",
    "llama": "model.layers.{}.mlp.down_proj",
    "mistral": "model.layers.{}.mlp.down_proj",
    "qwen2": "model.layers.{}.mlp.down_proj",
    "qwen3": "model.layers.{}.mlp.down_proj",
    "gemma": "model.layers.{}.mlp.down_proj",
    "gemma2": "model.layers.{}.mlp.down_proj",
    "gemma3_text": "model.layers.{}.mlp.down_proj",
    "phi3": "model.layers.{}.mlp.down_proj",
    "olmo2": "model.layers.{}.mlp.down_proj",
    "smollm3": "model.layers.{}.mlp.down_proj",
    "granite": "model.layers.{}.mlp.down_proj",
    "starcoder2": "model.layers.{}.mlp.c_proj",
    "cohere": "model.layers.{}.mlp.down_proj",
    "cohere2": "model.layers.{}.mlp.down_proj",
    "falcon": "transformer.h.{}.mlp.dense_4h_to_h",
    "mixtral": "model.layers.{}.mlp.experts.down",
    "qwen3_moe": "model.layers.{}.mlp.experts.down",
    "gpt_oss": "model.layers.{}.mlp.experts.down",
    "modernbert": "model.layers.{}.mlp.Wo",
    "deberta-v2": "deberta.encoder.layer.{}.output.dense",
}
"""Where a model type keeps the module whose input is the vector of a layer's FFN neurons."""


def opened(model: Any) -> Any:
    """The model, or if it has experts a copy in which `down` of all experts is given the vector of all their neurons.

    Every expert is computed for every token, and multiplied by its share: 0 where the token is not given to it.
    """
    if not any(map(_are_experts, model.modules())):
        return model
    model = copy.deepcopy(model)
    for experts in filter(_are_experts, list(model.modules())):
        slots = experts.down_proj.detach() if hasattr(experts, "alpha") else experts.down_proj.detach().transpose(1, 2)
        experts.down = nn.Linear(slots.shape[0] * slots.shape[1], slots.shape[2], bias=False)
        experts.down.weight = nn.Parameter(slots.flatten(0, 1).T.clone(), requires_grad=False)
        experts.forward = MethodType(_run_all, experts)
    return model


def _are_experts(module: nn.Module) -> bool:
    return getattr(getattr(module, "down_proj", None), "ndim", 0) == 3


def _run_all(experts: Any, rows: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    count = len(experts.down_proj)
    shares = (nn.functional.one_hot(chosen, count) * weights.to(rows.dtype).unsqueeze(-1)).sum(1)
    if hasattr(experts, "alpha"):
        made = torch.einsum("rd,edm->rem", rows, experts.gate_up_proj) + experts.gate_up_proj_bias
        gate, up = made.unflatten(-1, (-1, 2)).unbind(-1)
        gate, up = gate.clamp(max=experts.limit), up.clamp(-experts.limit, experts.limit)
        own, beside = (up + 1) * gate * torch.sigmoid(gate * experts.alpha), shares @ experts.down_proj_bias
    else:
        gate, up = torch.einsum("rd,emd->rem", rows, experts.gate_up_proj).chunk(2, dim=-1)
        own, beside = experts.act_fn(gate) * up, 0
    return experts.down((shares.unsqueeze(-1) * own).flatten(1)) + beside


def down_projections(model: Any) -> list[nn.Module]:
    """The modules whose input is the vector of FFN neurons, one for each layer (the same one where layers share it)."""
    config = model.config
    layers = getattr(config, "num_decoder_layers", None) or config.num_hidden_layers
    if config.model_type == "albert":
        groups = model.albert.encoder.albert_layer_groups
        in_turn = [groups[number * len(groups) // layers] for number in range(layers)]
        return [layer.ffn_output for group in in_turn for layer in group.albert_layers]
    return [model.get_submodule(DOWN[config.model_type].format(number)) for number in range(layers)]


def up_projections(model: Any) -> list[nn.Module]:
    """The modules that give the FFN neurons before their non-linearity."""
    if hasattr(model, "bert"):
        return [layer.intermediate.dense for layer in model.bert.encoder.layer]
    return [block.mlp.c_fc for block in model.transformer.h]


def doubled(model: Any) -> Any:
    """The same weights in double precision."""
    return opened(copy.deepcopy(model).double().requires_grad_(False).eval())


def gauss(count: int = 64) -> tuple[list[float], list[float]]:
    """Gauss–Legendre nodes and weights on [0, 1], from numpy."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return ((nodes + 1) / 2).tolist(), (weights / 2).tolist()


def composite(panels: int = 32) -> tuple[list[float], list[float]]:
    """Ten Gauss nodes on each of some equal panels: for paths with a step somewhere."""
    nodes, weights = gauss(10)
    places = [(panel + node) / panels for panel in range(panels) for node in nodes]
    return places, [weight / panels for _ in range(panels) for weight in weights]


def towards_zero() -> tuple[list[float], list[float]]:
    """Ten Gauss nodes on each eighth of 24 panels that halve towards α = 0: for paths that no single rule follows."""
    nodes, weights = gauss(10)
    ends = [0.0, *(2.0**-power for power in range(23, -1, -1))]
    panels = [(low + (high - low) * part / 8, (high - low) / 8) for low, high in pairwise(ends) for part in range(8)]
    places = [start + width * node for start, width in panels for node in nodes]
    return places, [width * weight for _, width in panels for weight in weights]


@contextmanager
def _hooked(model: Any, layer: int, hook: Any) -> Iterator[None]:
    """Calls a pre-hook on a layer's down projection; where layers share the module, at that layer's turn only."""
    modules = down_projections(model)
    turn = sum(module is modules[layer] for module in modules[:layer])
    calls = iter(range(len(modules)))
    handle = modules[layer].register_forward_pre_hook(
        lambda module, inputs: hook(module, inputs) if next(calls) == turn else None
    )
    try:
        yield
    finally:
        handle.remove()


def _logits(model: Any, ids: torch.Tensor, source: Sequence[int]) -> torch.Tensor:
    if not source:
        return model(input_ids=ids).logits
    return model(input_ids=torch.tensor([source]).expand(len(ids), -1), decoder_input_ids=ids).logits


def _by_token(rows: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    """A view [B, T, n] of what a down projection is given, which OPT flattens to [B·T, n]."""
    return rows.view(-1, len(ids), rows.shape[-1])


def activations(model: Any, ids: Sequence[int], position: int | slice, source: Sequence[int] = ()) -> torch.Tensor:
    """The FFN neurons of every layer at a position of the unmodified network, [L, n]; at several, [L, T, n]."""
    found: list[torch.Tensor] = []
    for layer in range(len(down_projections(model))):
        keep = _hooked(
            model, layer, lambda _module, inputs: found.append(_by_token(inputs[0], ids)[0, position].clone())
        )
        with torch.no_grad(), keep:
            _logits(model, torch.tensor([ids]), source)
    return torch.stack(found)


def probability(
    model: Any,
    ids: Sequence[int],
    position: int,
    answer: int,
    layer: int | None = None,
    rows: Any = None,
    source: Sequence[int] = (),
) -> torch.Tensor:
    """P(answer) at a position, a layer's FFN activation vector there replaced by `rows`.

    Rows [n] give one probability; rows [K, n] give K, from K copies of the prompt. `source` is the encoder's text, for
    a model with an encoder.
    """
    copies = 1 if rows is None or rows.ndim == 1 else len(rows)
    tokens = torch.tensor([ids]).expand(copies, -1)

    def replace(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        changed = inputs[0].clone()
        _by_token(changed, ids)[:, position] = rows
        return (changed, *inputs[1:])

    if layer is None:
        logits = _logits(model, tokens, source)
    else:
        with _hooked(model, layer, replace):
            logits = _logits(model, tokens, source)
    found = logits[:, position].softmax(-1)[:, answer]
    return found if rows is not None and rows.ndim == 2 else found[0]


def brute_force(
    model: Any,
    ids: Sequence[int],
    position: int,
    answer: int,
    rule: tuple[Sequence[float], Sequence[float]] | None = None,
    at_once: int = 64,
    source: Sequence[int] = (),
) -> torch.Tensor:
    """Attr(l, i) = w̄_i · Σ_k weight_k · ∂P/∂w_i(node_k · w̄), by definition: [L, n] in the model's dtype."""
    nodes, weights = (torch.tensor(values, dtype=torch.float64) for values in rule or gauss())
    scores = []
    for layer, base in enumerate(activations(model, ids, position, source)):
        integral = torch.zeros_like(base)
        for some, their_weights in zip(nodes.split(at_once), weights.split(at_once), strict=True):
            rows = (some.to(base.dtype).unsqueeze(1) * base).requires_grad_()
            total = probability(model, ids, position, answer, layer, rows, source).sum()
            (gradients,) = torch.autograd.grad(total, rows)
            integral += their_weights.to(base.dtype) @ gradients
        scores.append(base * integral)
    return torch.stack(scores)


@torch.no_grad()
def probability_changes(
    model: Any, ids: Sequence[int], position: int, answer: int, source: Sequence[int] = ()
) -> torch.Tensor:
    """P(1) − P(0) of every layer, [L]."""
    before = probability(model, ids, position, answer, source=source)
    base = activations(model, ids, position, source)
    return torch.stack(
        [
            before - probability(model, ids, position, answer, layer, torch.zeros_like(row), source)
            for layer, row in enumerate(base)
        ]
    )


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2 distance over everything."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())
