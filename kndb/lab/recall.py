"""How much of a fact list a model knows: how often its most probable token is the answer, and how surely."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..models.answers import batched_log_probabilities
from ..models.network import Network
from ..models.prompting import EncodedPrompt, Encoder
from .corpus import PromptExample


@dataclass(frozen=True)
class RecallScores:
    """How much of the list a model knows.

    Attributes:
        training: share of training prompts whose most probable token is the answer, 0 to 1.
        held_out: the same over prompts of held-out templates; NaN if the list has none.
        training_probability: mean probability of the answer over training prompts; `held_out_probability` likewise.
        training_prompts: how many there were; `held_out_prompts` likewise.
        skipped: prompts that can't be asked for a one-token answer.
    """

    training: float
    held_out: float
    training_probability: float
    held_out_probability: float
    training_prompts: int
    held_out_prompts: int
    skipped: int


def encode_examples(encoder: Encoder, examples: Sequence[PromptExample]) -> list[EncodedPrompt]:
    """The examples as token ids, without those that can't be asked for an answer of one token."""
    encoded = (
        encoder.encode(index, example.text, example.answer, single_token=True) for index, example in enumerate(examples)
    )
    return [prompt for prompt in encoded if isinstance(prompt, EncodedPrompt)]


def recall_scores(network: Network, encoder: Encoder, examples: Sequence[PromptExample]) -> RecallScores:
    """Measures how often, and how surely, the model gives the answer, held-out templates apart."""
    training = encode_examples(encoder, [example for example in examples if not example.held_out])
    held_out = encode_examples(encoder, [example for example in examples if example.held_out])
    accuracy, probability = _measured(network, training)
    held_out_accuracy, held_out_probability = _measured(network, held_out)
    return RecallScores(
        training=accuracy,
        held_out=held_out_accuracy,
        training_probability=probability,
        held_out_probability=held_out_probability,
        training_prompts=len(training),
        held_out_prompts=len(held_out),
        skipped=len(examples) - len(training) - len(held_out),
    )


def _measured(network: Network, prompts: Sequence[EncodedPrompt]) -> tuple[float, float]:
    """The share of prompts whose most probable token is the answer, and the answer's mean probability."""
    if not prompts:
        return math.nan, math.nan
    network.model.eval()
    right, probability = 0, 0.0
    for indices, log_probabilities in batched_log_probabilities(network, prompts):
        answers = torch.tensor([prompts[index].answer for index in indices])
        right += int((log_probabilities.argmax(-1) == answers).sum())
        probability += float(log_probabilities.gather(1, answers[:, None]).exp().sum())
    return right / len(prompts), probability / len(prompts)
