"""What kndb must know of an architecture family, stated and never inferred.

An `Adapter` is plain data: dotted paths from the model, or from one of its layers, to the modules that attribution
and edits need, and the facts that no path tells (where the norms stand, how heads lie in a projection, whether a value
slot is a row or a column of the down projection, how a blank is shown to the model). One file per family holds its
adapter; `registry.py` lists them. `layer.py` says how a layer is computed from these parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch

from .layout import SlotLayout


class Blank(Enum):
    """How a prompt's `[Y]` is shown to the model."""

    MASK = "mask"
    """By the mask token, at whose place the answer is read (masked language models)."""
    CUT = "cut"
    """Not at all: the text ends there, and the answer is read at the last token (causal language models)."""
    SENTINEL = "sentinel"
    """By a sentinel in the encoder's text; the decoder repeats it, and the answer is read there (T5)."""


class Heads(Enum):
    """How a projection that gives query, key and value together lays them out. Three projections need none of it."""

    SIDE_BY_SIDE = "side-by-side"
    """All queries, then all keys, then all values, as in GPT-2."""
    BY_HEAD = "by-head"
    """Query, key and value of the first head, then those of the second, as in GPT-NeoX; where heads share a key and
    value, the queries of these heads, their key and their value, as in Falcon."""


class Rotation(Enum):
    """Which entries of a query or key a rotary embedding turns together."""

    HALVES = "halves"
    """Entry i with entry i + r/2, as in Llama."""
    PAIRS = "pairs"
    """Entry 2i with entry 2i + 1, as in GPT-J."""


@dataclass(frozen=True)
class Attention:
    """Paths from a layer to the parts of one attention block.

    Attributes:
        query_key_value: three projections, or one that gives all three.
        output: the projection after attention.
        heads: how one projection lays out the three; unused where there are three.
        scaling: the factor on query·key: an attribute's path, a number, a function of the layer, or None for
            1/√(head size).
        query_norm: a norm on each head's query, if any; likewise `key_norm`.
        normed_together: these norms are on the queries or keys of all heads at once.
        softcap: the path of an attribute c: scores become c·tanh(score/c), unless it is None.
        sinks: the path of a number for each head [h]: a score beside the others' that takes a share and gives nothing.
    """

    query_key_value: tuple[str, ...]
    output: str
    heads: Heads = Heads.SIDE_BY_SIDE
    scaling: str | float | Callable[[Any], float] | None = None
    query_norm: str | None = None
    key_norm: str | None = None
    normed_together: bool = False
    softcap: str | None = None
    sinks: str | None = None


@dataclass(frozen=True)
class FeedForward:
    """Paths from a layer to the parts of its feed-forward block.

    Attributes:
        up: the projection in.
        activation: the non-linearity, a module or function.
        down: the projection out; its input are the neurons.
        slots: where its weight holds a value slot.
        gate: in a gated block, the projection that goes through the non-linearity: neurons = act(gate)·up. The path
            of `up`, where one projection gives both: all gates, then all that they are multiplied by.
    """

    up: str
    activation: str
    down: str
    slots: SlotLayout = SlotLayout.COLUMN
    gate: str | None = None


@dataclass(frozen=True)
class Experts:
    """Paths from a layer to the parts of a mixture of experts, in place of `FeedForward`.

    Attributes:
        router: gives rows' logits, and the weights and numbers of the experts that they are given to.
        experts: the module of all experts, with `gate_up_proj` and `down_proj` [E, …].
        activation: (that module, an expert's `gate_up_proj` of rows [r, 2m]) to the expert's activations [r, m].
        slots: where an expert's part of `down_proj` holds a value slot.
    """

    router: str
    experts: str
    activation: Callable[[Any, torch.Tensor], torch.Tensor]
    slots: SlotLayout = SlotLayout.COLUMN


@dataclass(frozen=True)
class Norms:
    """Paths from a layer to its norms, by where they stand. Each may be missing.

    Attributes:
        attention_input: on what goes into attention (pre-norm); likewise `cross_input`, `ffn_input`.
        attention_output: on what comes out of it, before the sum; likewise `ffn_output`.
        attention_sum: on the sum with the residual stream (post-norm); likewise `ffn_sum`.
    """

    attention_input: str | None = None
    attention_output: str | None = None
    attention_sum: str | None = None
    cross_input: str | None = None
    ffn_input: str | None = None
    ffn_output: str | None = None
    ffn_sum: str | None = None


@dataclass(frozen=True)
class WordLogits:
    """A head's step where no module has it: rows times the word embeddings, plus a bias.

    Attributes:
        bias: the path of the bias, from the model.
    """

    bias: str


HeadStep = str | WordLogits | Callable[[Any, torch.Tensor], torch.Tensor]


def config_positions(config: Any) -> int:
    """The number of positions that most configurations state."""
    return int(config.max_position_embeddings)


def limited_by_window(window: str, kinds: str | None = None, windowed: str = "") -> Callable[[Any], int]:
    """For `Adapter.max_tokens`, where a layer's attention sees only a window of the last tokens.

    kndb computes no windows: in a prompt no longer than the window, there is nothing to see beyond it.

    Args:
        window: the configuration's attribute for the number of tokens in a window; None stands there for no window.
        kinds: its attribute for the kind of each layer, where windows are for some layers only.
        windowed: the kind of layer that has the window.

    Returns:
        A function of the configuration: its positions, or the window if that is smaller and a layer has it.
    """

    def limit(config: Any) -> int:
        positions, size = config_positions(config), getattr(config, window)
        everywhere = kinds is None or windowed in getattr(config, kinds)
        return positions if size is None or not everywhere else min(positions, int(size))

    return limit


ConfigurationValues = tuple[tuple[str, object], ...]
"""Configuration attributes, `a.b` for entry b of a mapping a, with their values."""

CHANGING_ROTARY: ConfigurationValues = (("rope_parameters.rope_type", "longrope"),)
"""Rotary embeddings whose angles depend on how long the sequence is, padding included."""
CHANGING_ROTARY_OF_KINDS: ConfigurationValues = tuple(
    (f"rope_parameters.{kind}.rope_type", "longrope") for kind in ("full_attention", "sliding_attention")
)
"""The same of layers of different kinds."""


@dataclass(frozen=True)
class Adapter:
    """One architecture family. Paths start at the model; those in `attention`, `ffn`, `norms` at a layer.

    Attributes:
        family: the name that the store shows.
        model_types: the `model_type` values of transformers configurations that belong to it.
        auto_class: the transformers class that loads it with its head.
        blank: how a prompt's blank is shown.
        body: the module that gives the last hidden state, for whole forward passes.
        layers: the list of layers; or a function of the model that gives each layer's path, where layers share one
            module.
        embed: (model, token ids [B, T]) to the hidden state [B, T, d] that enters the first layer.
        attention, ffn, norms: the parts of a layer.
        head: modules, or functions of (model, rows), applied in turn to the body's last hidden state, giving logits.
        final_norm: the norm between the last layer and the head that the body applies itself.
        parallel: attention and feed-forward block both read the layer's input.
        rotation: which entries rotary embeddings turn together; None without rotary embeddings.
        rotary: (model, positions [T]) to cosines and sines [T, r] of the rotated entries; [k, T, r] where layers are of
            k kinds.
        rotary_kinds: a function of the configuration that gives each layer's kind, 0 to k − 1, or None where a layer
            does not turn anything; without it, all are of kind 0.
        bias: (model, T) to what is added to the attention scores between T positions, [heads or 1, T, T].
        distances: (model, layer, T) to keys and queries, each [h, 2T − 1, s] or None, that stand for the distances
            −(T − 1) to T − 1 of a query's position from a key's: scores count each query times the key of its distance,
            and each key times the query.
        factor: the path, from a layer, of a number that multiplies what either block adds to the residual stream.
        cross_attention: a decoder layer's attention over the encoder's output.
        encoder: the encoder.
        max_tokens: the number of tokens that a configuration allows, before attention windows would matter.
        requires: the settings for which this adapter is meant, where a model type has several; a value may be a
            function of the configuration that gives it.
        unsupported: settings under which this adapter would be wrong.
    """

    family: str
    model_types: tuple[str, ...]
    auto_class: str
    blank: Blank
    body: str
    layers: str | Callable[[Any], list[str]]
    embed: Callable[[Any, torch.Tensor], torch.Tensor]
    attention: Attention
    ffn: FeedForward | Experts
    norms: Norms
    head: tuple[HeadStep, ...]
    final_norm: str | None = None
    parallel: bool = False
    rotation: Rotation | None = None
    rotary: Callable[[Any, torch.Tensor], tuple[torch.Tensor, torch.Tensor]] | None = None
    rotary_kinds: Callable[[Any], Sequence[int | None]] | None = None
    bias: Callable[[Any, int], torch.Tensor] | None = None
    distances: Callable[[Any, Any, int], tuple[torch.Tensor | None, torch.Tensor | None]] | None = None
    factor: str | None = None
    cross_attention: Attention | None = None
    encoder: str | None = None
    max_tokens: Callable[[Any], int] = config_positions
    requires: ConfigurationValues = ()
    unsupported: ConfigurationValues = ()
