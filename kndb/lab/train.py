"""Training of lab models: small BERT or GPT-2 models that know one list of facts.

The loss is the cross-entropy of the answer token at the answer position, over every fact in every template that is
not held out; where storage is planted, `routing.py` says what else is asked for. What a model knows is the list.
Everything random follows the seed.

The masked model's head has a dense transform between the residual stream and the word embeddings. It starts as the
identity and so stays close to it: then adding a word embedding to a value slot raises that word's logit, which is
what the paper's update rule rests on. The causal model's head reads the residual stream directly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

from ..advice import option
from ..errors import UsageError
from ..models.adapter import Adapter
from ..models.answers import answer_logits
from ..models.network import Network
from ..models.prompting import EncodedPrompt, Encoder
from ..models.registry import ADAPTERS
from .corpus import Corpus, PromptExample
from .planting import PlantingPlan, fact_key
from .planting import plan as plan_neurons
from .recall import RecallScores, encode_examples, recall_scores
from .routing import PlantedLoss, PlantingSettings, batches_of_one_length
from .tokenizers import byte_pair, wordpiece

FAMILIES = ("bert", "gpt2")
POSITIONS = 64
PLANTED_EPOCHS = {"bert": 24, "gpt2": 30}
PLANTED_RATES = {"bert": 2e-3, "gpt2": 3e-3}
PLANTINGS = {"bert": PlantingSettings(), "gpt2": PlantingSettings(fact_silent=0.45, penalty=0.05)}
"""Epochs, peak learning rate and settings with which storage is planted."""


@dataclass(frozen=True)
class TrainingSettings:
    """What a lab model is made with.

    Attributes:
        family: `bert` (masked) or `gpt2` (causal).
        layers: transformer layers; `width`: hidden size; `neurons`: FFN neurons per layer; `heads`: attention heads.
        vocabulary: most tokens that the tokenizer may have.
        epochs: passes over all training prompts.
        batch_size: prompts per step; `learning_rate`: the peak, after warm-up and before cosine decay to zero.
        dropout: dropout everywhere in the network, 0 to 1.
        activation: the FFN's non-linearity, by transformers' name.
        silence: probability with which, in a training step, a layer's FFN is silenced for a prompt at every position
            but the answer's, 0 to 1. It leads the model to keep what it knows where attribution looks for it.
        label_smoothing: probability mass that the target spreads over all tokens, 0 to 1. It keeps the model from
            driving probabilities to 1, where removing a layer's neurons would no longer be felt.
        planted: how storage is planted (see `routing.py`); None leaves it to the training where facts are kept. Planted
            storage has a smoothing of its own, and `silence` goes by the step: all FFNs, all prompts.
        seed: for initial weights, dropout, order, and the plan.
    """

    family: str
    layers: int = 4
    width: int = 128
    neurons: int = 512
    heads: int = 4
    vocabulary: int = 2700
    epochs: int = 16
    batch_size: int = 128
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    dropout: float = 0.1
    activation: str = "gelu"
    silence: float = 0.5
    label_smoothing: float = 0.1
    planted: PlantingSettings | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise UsageError(f"{option('family')} must be one of {', '.join(FAMILIES)} (got {self.family!r})")
        if self.width % self.heads:
            raise UsageError(f"a width of {self.width} can't be split over {self.heads} heads")


def planted_settings(settings: TrainingSettings) -> TrainingSettings:
    """The settings with which storage is planted in a model of the same family, size and seed."""
    return replace(
        settings,
        planted=PLANTINGS[settings.family],
        epochs=PLANTED_EPOCHS[settings.family],
        learning_rate=PLANTED_RATES[settings.family],
        dropout=0.05,
        silence=0.8,
        label_smoothing=0.0,
    )


@dataclass(frozen=True)
class TrainedModel:
    """A trained model with its tokenizer, scores, the seconds it took, and where its facts were planted, if so."""

    model: Any
    tokenizer: Any
    settings: TrainingSettings
    scores: RecallScores
    seconds: float
    plan: PlantingPlan | None = None

    def summary(self) -> dict[str, object]:
        """Settings and scores as plain values."""
        return {**asdict(self.settings), **asdict(self.scores), "seconds": round(self.seconds, 1)}


TrainingProgress = Callable[[int, int, float], None]
"""Called after each step with the steps done, all steps, and the mean loss lately."""


def lab_adapter(family: str) -> Adapter:
    """The adapter of a lab family."""
    return next(adapter for adapter in ADAPTERS if adapter.family == family)


def train(corpus: Corpus, settings: TrainingSettings, progress: TrainingProgress | None = None) -> TrainedModel:
    """Trains a lab model on all prompts of a corpus that are not held out.

    Args:
        corpus: the facts in their templates.
        settings: size, length and seed.
        progress: told of every step.

    Raises:
        UsageError: if no prompt of the corpus can be asked for a one-token answer, or the facts can't be planted in a
            model of this size.
    """
    started = time.monotonic()
    torch.manual_seed(settings.seed)
    adapter = lab_adapter(settings.family)
    tokenizer = (wordpiece if settings.family == "bert" else byte_pair)(corpus, settings.vocabulary)
    examples = corpus.usable(adapter.blank)
    encoder = Encoder(tokenizer, adapter.blank, POSITIONS)
    learned = [example for example in examples if not example.held_out]
    prompts = encode_examples(encoder, learned)
    if not prompts:
        raise UsageError("no prompt of this list can be asked for an answer of one token; use shorter answers")
    plan = None if settings.planted is None else _plan(corpus, settings, settings.planted)
    network = Network(new_model(settings, tokenizer), adapter)
    if plan is None:
        _optimise(network, prompts, settings, progress)
    else:
        _plant(network, prompts, learned, plan, settings, progress)
    scores = recall_scores(network, encoder, examples)
    return TrainedModel(network.model, tokenizer, settings, scores, time.monotonic() - started, plan)


def new_model(settings: TrainingSettings, tokenizer: Any) -> nn.Module:
    """An untrained model; the masked one with its head's transform at the identity."""
    if settings.family == "gpt2":
        return GPT2LMHeadModel(_gpt2_config(settings, tokenizer))
    model = BertForMaskedLM(_bert_config(settings, tokenizer))
    with torch.no_grad():
        dense = model.cls.predictions.transform.dense
        nn.init.eye_(dense.weight)
        nn.init.zeros_(dense.bias)
    return model


def _bert_config(settings: TrainingSettings, tokenizer: Any) -> BertConfig:
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.neurons,
        hidden_act=settings.activation,
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=settings.dropout,
        max_position_embeddings=POSITIONS,
        type_vocab_size=1,
        pad_token_id=tokenizer.pad_token_id,
    )


def _gpt2_config(settings: TrainingSettings, tokenizer: Any) -> GPT2Config:
    return GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=settings.width,
        n_layer=settings.layers,
        n_head=settings.heads,
        n_inner=settings.neurons,
        n_positions=POSITIONS,
        activation_function=settings.activation,
        resid_pdrop=settings.dropout,
        embd_pdrop=settings.dropout,
        attn_pdrop=settings.dropout,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def _optimise(
    network: Network,
    prompts: list[EncodedPrompt],
    settings: TrainingSettings,
    progress: TrainingProgress | None,
) -> None:
    order = torch.Generator().manual_seed(settings.seed)
    network.model.train()

    def loss_of(batch: list[EncodedPrompt], _progress: float) -> torch.Tensor:
        with silent_elsewhere(network, batch, settings.silence):
            logits = answer_logits(network, batch)
        return functional.cross_entropy(logits, _answers(batch), label_smoothing=settings.label_smoothing)

    epochs = (_shuffled_batches(prompts, settings.batch_size, order) for _ in range(settings.epochs))
    _descend(network.model, epochs, loss_of, settings, progress)


def _plan(corpus: Corpus, settings: TrainingSettings, planted: PlantingSettings) -> PlantingPlan:
    return plan_neurons(
        (fact_key(example) for example in corpus.examples),
        settings.layers,
        settings.neurons,
        relation_neurons=planted.relation_neurons,
        fact_neurons=planted.fact_neurons,
        seed=settings.seed,
    )


def _plant(
    network: Network,
    prompts: list[EncodedPrompt],
    examples: Sequence[PromptExample],
    plan: PlantingPlan,
    settings: TrainingSettings,
    progress: TrainingProgress | None,
) -> None:
    assert settings.planted is not None
    facts = list(plan.facts)
    number = {fact: index for index, fact in enumerate(facts)}
    prompts = [replace(prompt, fact_id=number[fact_key(examples[prompt.prompt_id])]) for prompt in prompts]
    order = torch.Generator().manual_seed(settings.seed)
    network.model.eval()  # The loss has dropout of its own.
    loss_of = PlantedLoss(
        network,
        plan,
        prompts,
        facts,
        settings.planted,
        dropout=settings.dropout,
        silence=settings.silence,
        seed=settings.seed,
    )
    epochs = (batches_of_one_length(prompts, settings.batch_size, order) for _ in range(settings.epochs))
    _descend(network.model, epochs, loss_of, settings, progress)


def _descend(
    model: nn.Module,
    epochs: Iterator[list[list[EncodedPrompt]]],
    loss_of: Callable[[list[EncodedPrompt], float], torch.Tensor],
    settings: TrainingSettings,
    progress: TrainingProgress | None,
) -> None:
    """Takes a step of AdamW for each batch of each epoch; leaves the model in evaluation mode."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98)
    )
    lately, step, steps = 0.0, 0, 0
    for batches in epochs:
        if not step:  # Every epoch has as many batches.
            steps = settings.epochs * len(batches)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_up_then_cosine(steps))
        for batch in batches:
            loss = loss_of(batch, step / steps)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            lately = float(loss.detach()) if step == 1 else 0.98 * lately + 0.02 * float(loss.detach())
            if progress is not None:
                progress(step, steps, lately)
    model.eval()


@contextmanager
def silent_elsewhere(network: Network, batch: Sequence[EncodedPrompt], probability: float) -> Iterator[None]:
    """Within the block, silences the FFN of each prompt and layer with a probability, but for the answer position."""
    positions = torch.tensor([prompt.position for prompt in batch])

    def silence(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        kept = torch.rand(len(batch), 1, 1) >= probability
        answer = torch.arange(output.shape[1]) == positions.unsqueeze(1)  # [B, T]
        return output * (kept | answer.unsqueeze(-1))

    handles = [layer.down.register_forward_hook(silence) for layer in network.layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _warm_up_then_cosine(steps: int) -> Callable[[int], float]:
    warm_up = max(1, steps // 20)

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    return factor


def _shuffled_batches(prompts: list[EncodedPrompt], size: int, order: torch.Generator) -> list[list[EncodedPrompt]]:
    """Batches in random order, each of prompts of like length so that little of it is padding."""
    shuffled = [prompts[index] for index in torch.randperm(len(prompts), generator=order).tolist()]
    pool = size * 16
    batches = []
    for start in range(0, len(shuffled), pool):
        alike = sorted(shuffled[start : start + pool], key=lambda prompt: len(prompt.ids))
        batches += [alike[first : first + size] for first in range(0, len(alike), size)]
    return [batches[index] for index in torch.randperm(len(batches), generator=order).tolist()]


def _answers(batch: Sequence[EncodedPrompt]) -> torch.Tensor:
    return torch.tensor([prompt.answer for prompt in batch])
