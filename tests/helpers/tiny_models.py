"""Tiny random transformers models, and attributions of them by brute force.

Nothing here uses kndb: modules are found by their transformers paths, and every number comes from the whole model,
run in double precision with hooks, one prompt and one layer at a time, and one node unless asked otherwise.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


def down_projections(model: Any) -> list[nn.Module]:
    """The modules whose input is the vector of FFN neurons."""
    if hasattr(model, "bert"):
        return [layer.output.dense for layer in model.bert.encoder.layer]
    return [block.mlp.c_proj for block in model.transformer.h]


def up_projections(model: Any) -> list[nn.Module]:
    """The modules that give the FFN neurons before their non-linearity."""
    if hasattr(model, "bert"):
        return [layer.intermediate.dense for layer in model.bert.encoder.layer]
    return [block.mlp.c_fc for block in model.transformer.h]


def doubled(model: Any) -> Any:
    """The same weights in double precision."""
    return copy.deepcopy(model).double().requires_grad_(False).eval()


def gauss(count: int = 64) -> tuple[list[float], list[float]]:
    """Gauss–Legendre nodes and weights on [0, 1], from numpy."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return ((nodes + 1) / 2).tolist(), (weights / 2).tolist()


@contextmanager
def _hooked(module: nn.Module, hook: Any) -> Iterator[None]:
    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def activations(model: Any, ids: Sequence[int], position: int) -> torch.Tensor:
    """The FFN neurons of every layer at a position of the unmodified network, [L, n]."""
    found = []
    for module in down_projections(model):
        with torch.no_grad(), _hooked(module, lambda _module, inputs: found.append(inputs[0][0, position].clone())):
            model(input_ids=torch.tensor([ids]))
    return torch.stack(found)


def probability(
    model: Any, ids: Sequence[int], position: int, answer: int, layer: int | None = None, rows: Any = None
) -> torch.Tensor:
    """P(answer) at a position, a layer's FFN activation vector there replaced by `rows`.

    Rows [n] give one probability; rows [K, n] give K, from K copies of the prompt.
    """
    copies = 1 if rows is None or rows.ndim == 1 else len(rows)
    tokens = torch.tensor([ids]).expand(copies, -1)

    def replace(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        changed = inputs[0].clone()
        changed[:, position] = rows
        return (changed, *inputs[1:])

    if layer is None:
        logits = model(input_ids=tokens).logits
    else:
        with _hooked(down_projections(model)[layer], replace):
            logits = model(input_ids=tokens).logits
    found = logits[:, position].softmax(-1)[:, answer]
    return found if rows is not None and rows.ndim == 2 else found[0]


def brute_force(
    model: Any,
    ids: Sequence[int],
    position: int,
    answer: int,
    rule: tuple[Sequence[float], Sequence[float]] | None = None,
    at_once: int = 1,
) -> torch.Tensor:
    """Attr(l, i) = w̄_i · Σ_k weight_k · ∂P/∂w_i(node_k · w̄), by definition: [L, n] in the model's dtype."""
    nodes, weights = (torch.tensor(values, dtype=torch.float64) for values in rule or gauss())
    scores = []
    for layer, base in enumerate(activations(model, ids, position)):
        integral = torch.zeros_like(base)
        for some, their_weights in zip(nodes.split(at_once), weights.split(at_once), strict=True):
            rows = (some.to(base.dtype).unsqueeze(1) * base).requires_grad_()
            total = probability(model, ids, position, answer, layer, rows).sum()
            (gradients,) = torch.autograd.grad(total, rows)
            integral += their_weights.to(base.dtype) @ gradients
        scores.append(base * integral)
    return torch.stack(scores)


@torch.no_grad()
def probability_changes(model: Any, ids: Sequence[int], position: int, answer: int) -> torch.Tensor:
    """P(1) − P(0) of every layer, [L]."""
    before = probability(model, ids, position, answer)
    base = activations(model, ids, position)
    return torch.stack(
        [
            before - probability(model, ids, position, answer, layer, torch.zeros_like(row))
            for layer, row in enumerate(base)
        ]
    )


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2 distance over everything."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())
