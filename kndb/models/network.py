"""A model cut into the pieces that attribution runs on their own, by its adapter: embeddings, layers, head.

`layer.py` says how a layer is computed. Every step calls the model's own modules; nothing is copied, so a weight edited
in the model counts here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from ..errors import UnsupportedModelError
from .adapter import Adapter, HeadStep, WordLogits
from .attention import Positions
from .layer import Layer
from .paths import identity, optional, resolve
from .residency import Residency
from .wide_logits import wide_linear


class Network:
    """A loaded model with its layers and head in pieces. Parameters need no gradient.

    Args:
        model: a transformers model with its head.
        adapter: of its family.
        name: what messages call it.
        residency: brings its weights, if not all of them are where it is computed.

    Raises:
        UnsupportedModelError: if the model has no layers.
    """

    def __init__(
        self, model: nn.Module, adapter: Adapter, name: str = "the model", residency: Residency | None = None
    ) -> None:
        config = cast("Any", model.config)
        self.model = model
        self.adapter = adapter
        self.name = name
        self.residency = residency
        self.heads = int(config.num_attention_heads)
        paths = layer_paths(model, adapter)
        if not paths:
            raise UnsupportedModelError(f"this {adapter.family} model has no layers; at least one is needed")
        kinds = [0] * len(paths) if adapter.rotary_kinds is None else adapter.rotary_kinds(config)
        self.layers = [self._layer(path, kind) for path, kind in zip(paths, kinds, strict=True)]
        self._final_norm = optional(model, adapter.final_norm) or identity
        self._head = [_head_step(model, step) for step in adapter.head]
        self._positions: dict[tuple[int, torch.device, torch.dtype], Positions] = {}

    def _layer(self, path: str, kind: int | None) -> Layer:
        module, stated = resolve(self.model, path), self.adapter.distances
        distances = None if stated is None else partial(stated, self.model, module)
        return Layer(module, path, self.adapter, self.heads, kind, distances)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """While open, no parameter asks for a gradient: what lies below the first changed value needs no graph then."""
        asking = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        try:
            self.model.requires_grad_(False)
            yield
        finally:
            for parameter in asking:
                parameter.requires_grad_()

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return self.word_embeddings.device

    def bring_layer(self, number: int, *, slots_only: bool = False) -> None:
        """Brings a layer's weights to where they are computed, or its value slots alone, unless they are there."""
        if self.residency is not None:
            self.residency.bring_layer(number, self.layers[number].down_path if slots_only else None)

    def whole_head(self) -> AbstractContextManager[None]:
        """While open, the head's matrix is where it is computed."""
        return nullcontext() if self.residency is None else self.residency.head()

    @property
    def neurons(self) -> int:
        """FFN neurons per layer."""
        return self.layers[0].layout.slots(self.layers[0].down_shape)

    @property
    def active_neurons(self) -> int:
        """FFN neurons per layer that are computed for a token: all, or those of the experts that it is given to."""
        return self.layers[0].block.active

    @property
    def hidden_size(self) -> int:
        """Width d of the residual stream."""
        return self.layers[0].layout.width(self.layers[0].down_shape)

    @property
    def word_embeddings(self) -> torch.Tensor:
        """The input word embeddings, [vocabulary, e]; e is d, unless the model widens them for its residual stream."""
        embeddings = cast("Any", self.model).get_input_embeddings()
        return cast("torch.Tensor", embeddings.weight)

    @property
    def output_embeddings(self) -> torch.Tensor:
        """The matrix that gives the logits, [vocabulary, e]: row y times the head's last vector is token y's logit."""
        return cast("torch.Tensor", self.output_module.weight)

    @property
    def output_module(self) -> nn.Module:
        """The module that gives the logits, or a part of a step of the head."""
        if isinstance(self._head[-1], _WordLogits):
            return self._head[-1]
        return cast("nn.Module", cast("Any", self.model).get_output_embeddings())

    @property
    def final_norms(self) -> list[nn.Module]:
        """The norm between the last layer and the head; none where the last layer ends with one."""
        return [self._final_norm] if isinstance(self._final_norm, nn.Module) else []

    @property
    def head_steps(self) -> list[Any]:
        """The head's steps in order: modules, and functions of rows."""
        return list(self._head)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids [N, T] to the hidden state [N, T, d] that enters the first layer."""
        return self.adapter.embed(self.model, ids)

    def encode(self, source: torch.Tensor) -> torch.Tensor | None:
        """The encoder's output for token ids [N, E]: [N, E, d]; None for models without an encoder."""
        if self.adapter.encoder is None:
            return None
        encoder = resolve(self.model, self.adapter.encoder)
        return cast("torch.Tensor", encoder(input_ids=source).last_hidden_state)

    def positions(self, tokens: int) -> Positions:
        """What the positions of sequences of a length bring to attention; kept for each length."""
        like = self.word_embeddings
        key = (tokens, like.device, like.dtype)
        if key not in self._positions:
            turn = bias = None
            if self.adapter.rotary is not None:
                positions = torch.arange(tokens, device=like.device)
                cosine, sine = self.adapter.rotary(self.model, positions)
                by_kind = (-1, *cosine.shape[-2:])
                turn = cosine.to(like.dtype).view(by_kind)[None], sine.to(like.dtype).view(by_kind)[None]
            if self.adapter.bias is not None:
                bias = self.adapter.bias(self.model, tokens).detach().to(like.dtype)
            if self.adapter.distances is not None:
                every = torch.arange(tokens, device=like.device)
                bias = (every.unsqueeze(1) - every + tokens - 1).unsqueeze(0)
            self._positions[key] = Positions(turn, bias)
        return self._positions[key]

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """The head on rows of the last layer's output: [..., d] to [..., vocabulary], in float32 at least."""
        return self.head(self._final_norm(rows))

    def head(self, rows: torch.Tensor) -> torch.Tensor:
        """The head on rows of the body's last hidden state: [..., d] to [..., vocabulary], in float32 at least."""
        with self.whole_head(), self._wide_logits():
            for step in self._head:
                rows = step(rows)
        return rows

    @contextmanager
    def _wide_logits(self) -> Iterator[None]:
        """While open, the module that gives the logits gives them in single precision at least."""
        if not isinstance(self.output_module, nn.Linear):
            yield
            return
        module = cast("Any", self.output_module)
        module.forward = lambda rows: wide_linear(rows, module.weight, module.bias)
        try:
            yield
        finally:
            del module.forward

    def down_parameter(self, layer: int) -> str:
        """The name that the down projection's weight has among the model's parameters; shared layers share it."""
        return self.layers[layer].down_path

    def canonical_layer(self, layer: int) -> int:
        """The lowest layer with the same down projection: the layer itself unless the model shares layers."""
        path = self.layers[layer].down_path
        return next(number for number, other in enumerate(self.layers) if other.down_path == path)


def layer_paths(model: nn.Module, adapter: Adapter) -> list[str]:
    """The path of each layer of a model."""
    if callable(adapter.layers):
        return adapter.layers(model)
    return [f"{adapter.layers}.{number}" for number in range(len(resolve(model, adapter.layers)))]


class _WordLogits(nn.Module):
    """Rows times the word embeddings, plus a bias."""

    def __init__(self, embeddings: nn.Module, bias: torch.Tensor) -> None:
        super().__init__()
        self.embeddings, self.bias = embeddings, bias

    @property
    def weight(self) -> torch.Tensor:
        """The word embeddings, [vocabulary, e]."""
        return cast("torch.Tensor", self.embeddings.weight)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Logits of rows [..., e]."""
        return wide_linear(rows, self.weight, self.bias)


def _head_step(model: nn.Module, step: HeadStep) -> Any:
    if isinstance(step, str):
        return resolve(model, step)
    if isinstance(step, WordLogits):
        return _WordLogits(cast("Any", model).get_input_embeddings(), resolve(model, step.bias))
    return lambda rows: step(model, rows)
