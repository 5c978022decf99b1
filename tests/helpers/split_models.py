"""Tiny checkpoints of several families, whole and with layers elsewhere, and their scores by kndb's engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from causal_families import causal_model
from masked_families import masked_model
from tiny_models import VOCABULARY, tiny_model

from kndb.attribution.base_pass import freeze
from kndb.attribution.engine import Engine
from kndb.attribution.quadrature import Quadrature
from kndb.attribution.settings import AttributionSettings
from kndb.models.adapter import Blank
from kndb.models.checkpoint_files import checkpoint_files
from kndb.models.device_maps import split_for
from kndb.models.loading import configuration
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt
from kndb.models.registry import adapter_for
from kndb.models.split_loading import without_weights

CPU = torch.device("cpu")
MAKE = {
    **dict.fromkeys(("bert", "gpt2"), tiny_model),
    **dict.fromkeys(("llama", "gpt_neox", "gemma2", "mixtral", "falcon-new"), causal_model),
    **dict.fromkeys(("albert-groups", "deberta-v2-buckets", "t5-gated"), masked_model),
}
SPLIT = {"": "disk", "1": "cpu"}


class Tiny:
    """A tiny checkpoint, whole and split."""

    def __init__(self, folder: Path, name: str, **settings: Any) -> None:
        self.folder, self.name = folder / name, name
        model = MAKE[name](name, **settings)
        model.save_pretrained(self.folder)
        freeze(model)
        self.adapter = adapter_for(model.config)
        self.whole = Network(model, self.adapter)

    def split(self, given: Any = SPLIT, dtype: torch.dtype = torch.float32, device: torch.device = CPU) -> Network:
        files = checkpoint_files(self.folder)
        chosen = split_for(given, device, dtype)
        model, residency = without_weights(files, configuration(files), self.adapter, chosen)
        residency.settle(device, dtype)
        return Network(model, self.adapter, "tiny", residency)

    def prompts(self, count: int = 3, length: int = 6) -> list[EncodedPrompt]:
        chance = torch.Generator().manual_seed(1)
        drawn = torch.randint(5, VOCABULARY, (count, length + 1), generator=chance).tolist()
        position = 2 if self.adapter.blank is Blank.MASK else length - 1
        prompts = [EncodedPrompt(number, tuple(ids[1:]), position, ids[0]) for number, ids in enumerate(drawn)]
        if self.adapter.encoder is None:
            return prompts
        return [replace(one, ids=(0, 7), position=1, source=one.ids) for one in prompts]

    def scores(self, network: Network, **settings: Any) -> dict[tuple[int, int, int], float]:
        few = Quadrature.choose("bisection", None, 1e-2, 24)
        chosen = AttributionSettings(**{"quadrature": few, "floor": 0.0, "negative": True, **settings})
        found = {}
        for batch in Engine(network, str, chosen).run(self.prompts()):
            one = batch.scores
            places = zip(one.prompt_ids, one.layers, one.neurons, one.scores, strict=True)
            found |= {(prompt, layer, neuron): score for prompt, layer, neuron, score in places}
        return found


def alike(found: dict[Any, float], expected: dict[Any, float], most: float) -> bool:
    largest = max(map(abs, expected.values()))
    return max(abs(found.get(key, 0.0) - expected.get(key, 0.0)) for key in {*found, *expected}) <= most * largest


def maker(folder: Path) -> Callable[[str], Tiny]:
    """Makes the checkpoint of a name below a folder, once."""
    return lru_cache(maxsize=None)(lambda name: Tiny(folder, name))
