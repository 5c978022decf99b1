"""What kndb must know of an architecture family, stated and never inferred.

An `Adapter` is plain data: dotted paths from the model or from one of its layers to the modules that attribution
and edits need, and a few facts that no path tells (on which side of a block its norms stand, whether a value slot
is a row or a column of the down projection, how a blank is shown to the model). One file per family holds one
adapter; `registry.py` lists them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch


class Blank(Enum):
    """How a prompt's `[Y]` is shown to the model."""

    MASK = "mask"
    """By the mask token, at whose place the answer is read (masked language models)."""
    CUT = "cut"
    """Not at all: the text ends there, and the answer is read at the last token (causal language models)."""


class NormPlace(Enum):
    """Where a block's layer norms stand."""

    POST = "post"
    """norm(x + f(x)): after the residual sum, as in BERT."""
    PRE = "pre"
    """x + f(norm(x)): on the sublayer's input, as in GPT-2."""


class SlotLayout(Enum):
    """Where the down projection's parameter holds the value slot of neuron i."""

    ROW = "row"
    """parameter[i, :], as in GPT-2's Conv1D."""
    COLUMN = "column"
    """parameter[:, i], as in torch's Linear."""


@dataclass(frozen=True)
class Adapter:
    """One architecture family. Paths of the second group start at a layer, the others at the model.

    Attributes:
        family: the name that the store shows.
        model_types: the `model_type` values of transformers configurations that belong to it.
        auto_class: the transformers class that loads it with its head.
        blank: how a prompt's blank is shown.
        norms: where the norms stand.
        slots: where the down projection holds a value slot.
        layers: the list of layers.
        head: modules applied in turn to the last hidden state, giving logits over the vocabulary.
        embed: (model, token ids [B, T]) to the hidden state [B, T, d] that enters the first layer.
        query_key_value: either three projections, or one that holds query, key and value side by side.
        scaling: the factor on query·key, an attribute of the attention module.
        attention_output: the projection after attention.
        attention_norm: the norm that belongs to attention.
        up: the projection into the FFN; `activation`: its non-linearity; `down`: the projection out of it.
        ffn_norm: the norm that belongs to the FFN.
        unsupported: configuration attributes, with values under which this adapter would be wrong.
    """

    family: str
    model_types: tuple[str, ...]
    auto_class: str
    blank: Blank
    norms: NormPlace
    slots: SlotLayout
    layers: str
    head: tuple[str, ...]
    embed: Callable[[Any, torch.Tensor], torch.Tensor]
    query_key_value: tuple[str, ...]
    scaling: str
    attention_output: str
    attention_norm: str
    up: str
    activation: str
    down: str
    ffn_norm: str
    unsupported: tuple[tuple[str, object], ...] = ()
