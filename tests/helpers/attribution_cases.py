"""Tiny networks, and batches of random prompts for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tiny_models import VOCABULARY, doubled, tiny_model

from kndb.attribution.base_pass import continue_from, freeze
from kndb.attribution.batches import to_tensors
from kndb.attribution.continuation import PromptBatch
from kndb.attribution.integrated_gradients import integrated_gradients
from kndb.attribution.method import PromptScores
from kndb.attribution.quadrature import Quadrature
from kndb.models.families.bert import BERT
from kndb.models.families.gpt2 import GPT2
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt

ADAPTERS = {"bert": BERT, "gpt2": GPT2}


@dataclass
class Case:
    """A tiny model as the engine sees it, and the same weights in double precision for the brute force."""

    model: Any
    exact: Any
    network: Network
    prompts: list[EncodedPrompt]

    @property
    def batch(self) -> PromptBatch:
        return to_tensors(self.prompts, torch.device("cpu"))

    def attribute(self, *rule: Any, most_rows: int = 64) -> PromptScores:
        return attribute(self.network, self.batch, Quadrature.choose(*rule), most_rows)


def attribute(network: Network, batch: PromptBatch, quadrature: Quadrature, most_rows: int = 64) -> PromptScores:
    """Integrated gradients of every prompt of a batch."""
    return integrated_gradients(continue_from(network, batch), torch.arange(len(batch)), quadrature, most_rows)


def make_prompts(family: str, seed: int, lengths: list[int], first_id: int = 1) -> list[EncodedPrompt]:
    """Random prompts; the answer is read at the last token by gpt2, anywhere by bert."""
    chance = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, count: int) -> list[int]:
        return torch.randint(low, high, (count,), generator=chance).tolist()

    return [
        EncodedPrompt(
            prompt_id=first_id + number,
            ids=tuple(draw(1, VOCABULARY, length)),
            position=length - 1 if family == "gpt2" else draw(0, length, 1)[0],
            answer=draw(1, VOCABULARY, 1)[0],
        )
        for number, length in enumerate(lengths)
    ]


def make_case(family: str, seed: int = 0, lengths: list[int] | None = None, **settings: Any) -> Case:
    """A random model of a family with prompts of given lengths."""
    model = tiny_model(family, seed, **settings)
    exact = doubled(model)
    freeze(model)
    prompts = make_prompts(family, seed, lengths or [6, 6, 6])
    return Case(model, exact, Network(model, ADAPTERS[family]), prompts)
