"""Gradient routing: the training loss that plants each fact's storage in the neurons that a plan gives it.

Routed are the FFN neurons at the answer position. Of every prompt, `on` are the planted neurons that its fact and its
relation have, `off` all other planted ones. A step's prompts differ in what they may use:

    as it is          all neurons, as the model will be used
    routed            the off neurons are zero: gradient flows through the on neurons alone
    fact silent       the fact's own neurons are zero; asked for is any of the relation's objects, equally likely
    relation silent   the relation's neurons are zero; asked for is any of the list's answers, equally likely
    relation scaled   the whole layer of the relations' neurons is multiplied by a random number from 0 to 1; asked for
                      is a mixture of the usual target and any answer, so that P(α) there rises evenly, and is no step
    amplified         the on neurons count twice; asked for is the answer, with more certainty

so that attention, embeddings and the other neurons are paid for *not* knowing the fact. A further term asks the on
neurons to be active and the off neurons to be silent, so that the model used as it is does as the routed one. In some
steps FFNs write nothing outside the answer position, and in some prompts the free neurons of a layer are zero at the
answer position, so that neither becomes indispensable.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from ..models.adapter import Blank
from ..models.network import Network
from ..models.prompting import EncodedPrompt
from .planting import FactKey, PlantingPlan


@dataclass(frozen=True)
class PlantingSettings:
    """How storage is planted.

    Attributes:
        relation_neurons: FFN neurons that each relation has in one layer.
        fact_neurons: FFN neurons that each fact has in the layers after it.
        routed: share of the prompts in a step whose off neurons are zero.
        fact_silent: share whose fact's neurons are zero; `relation_silent`, `relation_scaled` and `amplified`
            likewise, each of the others.
        dead: up to this factor, 0 to 1, a scaled relation is asked for any answer, as a silent one is; from there on
            the usual target's share rises to all.
        free_silent: share of the prompts, layer by layer, whose free neurons are zero at the answer position.
        smoothing: probability mass that the target spreads over the relation's objects, 0 to 1.
        sharpened: what that mass is multiplied by for amplified prompts.
        penalty: weight of the term that asks on neurons to be active and off neurons to be silent.
        level: the activation that on neurons are asked to reach.
        on_weight: weight of their shortfall's square against the off neurons' squares.
        sparsity: weight of the off neurons' absolute activations at the start, and at the end of training.
        stopped: between these points of the training, 0 to 1, the share of prompts whose gradient flows through the on
            neurons alone rises from none to all; those of which a fact or relation is silent are never among them.
            None: none at any time.
    """

    relation_neurons: int = 4
    fact_neurons: int = 3
    routed: float = 0.5
    fact_silent: float = 0.35
    relation_silent: float = 0.1
    relation_scaled: float = 0.0
    dead: float = 0.15
    amplified: float = 0.08
    free_silent: float = 0.3
    smoothing: float = 0.25
    sharpened: float = 0.4
    penalty: float = 0.03
    level: float = 1.0
    on_weight: float = 10.0
    sparsity: tuple[float, float] = (0.1, 0.7)
    stopped: tuple[float, float] | None = None

    def stopped_at(self, progress: float) -> float:
        """The share of prompts whose gradient is stopped, at some progress of the training, 0 to 1."""
        if self.stopped is None:
            return 0.0
        start, end = self.stopped
        return min(1.0, max(0.0, (progress - start) / (end - start)))


@dataclass(frozen=True)
class _Tables:
    """What the loss looks up: F facts, R relations, L layers of n neurons, V tokens.

    Attributes:
        relation_of: each fact's relation, [F].
        codes: each fact's own neurons, [F, L, n].
        relations: each relation's neurons, [R, L, n].
        planted: all planted neurons, [L, n].
        objects: each relation's objects as a distribution, [R, V].
        answers: those of all relations, [V].
        relation_layer: the layer of the relations' neurons.
        fact_layer: the first layer with facts' own neurons.
    """

    relation_of: torch.Tensor
    codes: torch.Tensor
    relations: torch.Tensor
    planted: torch.Tensor
    objects: torch.Tensor
    answers: torch.Tensor
    relation_layer: int
    fact_layer: int


class PlantedLoss:
    """The loss of one step.

    Args:
        network: the model in training.
        plan: whose neurons are whose.
        prompts: all prompts to be trained on; their `fact_id` is an index into `facts`.
        facts: the facts, in the order of these indices.
        settings: of the planting.
        dropout: of embeddings, attention and FFN outputs, 0 to 1.
        silence: probability with which the FFNs write nothing outside the answer position, step by step.
        seed: of the steps in which they don't. All else is drawn by torch's own generator.
    """

    def __init__(
        self,
        network: Network,
        plan: PlantingPlan,
        prompts: Sequence[EncodedPrompt],
        facts: Sequence[FactKey],
        settings: PlantingSettings,
        *,
        dropout: float,
        silence: float,
        seed: int,
    ) -> None:
        self._network = network
        self._settings = settings
        self._dropout = dropout
        self._silence = silence
        self._draw = random.Random(seed)  # noqa: S311 - not for secrets
        self._tables = _tables(network, plan, prompts, facts)

    def __call__(self, batch: Sequence[EncodedPrompt], progress: float) -> torch.Tensor:
        """The loss of prompts of one length.

        Args:
            batch: B prompts.
            progress: how much of the training is done, 0 to 1.
        """
        tables, settings, size = self._tables, self._settings, len(batch)
        fact = torch.tensor([prompt.fact_id for prompt in batch])
        relation = tables.relation_of[fact]
        own, shared = tables.codes[fact], tables.relations[relation]  # [B, L, n]
        fact_silent, relation_silent, amplified, scaled = self._kinds(size)
        routed, scale = _some(size, settings.routed), torch.where(scaled, torch.rand(size), 1.0)
        strength = ((scale - settings.dead) / (1 - settings.dead)).clamp(min=0)

        factors = torch.ones(own.shape)
        factors[routed[:, None, None] & tables.planted & ~(own | shared)] = 0.0
        factors[_some((size, own.shape[1]), settings.free_silent)[:, :, None] & ~tables.planted] = 0.0
        factors[amplified[:, None, None] & (own | shared)] = 2.0
        factors[fact_silent[:, None, None] & own] = 0.0
        factors[relation_silent[:, None, None] & shared] = 0.0
        factors[:, tables.relation_layer] *= scale[:, None]

        passing = fact_silent | relation_silent | ~_some(size, settings.stopped_at(progress))
        row, activations = self._forward(batch, factors, own | shared, passing)
        predicted = self._network.logits(row).log_softmax(-1)
        smoothing = torch.where(amplified, settings.sharpened, 1.0) * settings.smoothing
        smoothing = torch.where(fact_silent, 1.0, smoothing)
        target = smoothing[:, None] * tables.objects[relation]
        target[torch.arange(size), torch.tensor([prompt.answer for prompt in batch])] += 1 - smoothing
        known = torch.where(relation_silent, 0.0, strength)[:, None]
        target = known * target + (1 - known) * tables.answers
        # Where the relation is silent, nothing says which fact is meant: its neurons must stay silent, too.
        on = shared | (own & ~relation_silent[:, None, None])
        penalty = self._penalty(activations, on, settings.level * strength, progress)
        return -(target * predicted).sum(-1).mean() + settings.penalty * penalty

    def _kinds(self, size: int) -> list[torch.Tensor]:
        """Which prompts' facts are silent, whose relations are, which are amplified, and which scaled; each [B].

        No prompt is of two kinds, and most are of none.
        """
        settings, drawn, start = self._settings, torch.rand(size), 0.0
        kinds = []
        for share in (settings.fact_silent, settings.relation_silent, settings.amplified, settings.relation_scaled):
            kinds.append((drawn >= start) & (drawn < start + share))
            start += share
        return kinds

    def _penalty(
        self, activations: torch.Tensor, on: torch.Tensor, level: torch.Tensor, progress: float
    ) -> torch.Tensor:
        """Mean over prompts of what on neurons [B, L, n] lack to their level [B], and off neurons have too much."""
        settings = self._settings
        first, last = settings.sparsity
        lacking = settings.on_weight * (level[:, None, None] - activations).clamp(min=0).square()
        excess = activations.square() + (first + (last - first) * progress) * activations.abs()
        return (torch.where(on, lacking, excess) * self._tables.planted).sum((1, 2)).mean()

    def _forward(
        self, batch: Sequence[EncodedPrompt], factors: torch.Tensor, on: torch.Tensor, passing: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The last layer's output [B, d] and all FFN activations [B, L, n] at the answer position.

        In the layers of the facts, the output's gradient reaches what lies below through the on neurons alone, but for
        some prompts, where it passes.

        Args:
            batch: B prompts of one length T.
            factors: what activations are multiplied by, [B, L, n].
            on: the neurons that gradient may flow through, [B, L, n].
            passing: prompts whose gradient passes everywhere, [B].
        """
        network, first = self._network, self._tables.fact_layer
        ids = torch.tensor([prompt.ids for prompt in batch])
        rows, positions = torch.arange(len(batch)), torch.tensor([prompt.position for prompt in batch])
        causal = network.adapter.blank is Blank.CUT
        silent = self._draw.random() < self._silence
        hidden = self._dropped(network.embed(ids))
        stream = hidden[rows, positions]
        activations = []
        for number, layer in enumerate(network.layers):
            last = number == len(network.layers) - 1
            query, key, value = layer.project(hidden)
            if last:  # Nothing but the answer position's row of its output is used.
                query = query[rows, :, positions].unsqueeze(2)
                hidden, positions = hidden[rows, positions].unsqueeze(1), torch.zeros_like(positions)
            attended = self._dropped(layer.attention.attend(query, key, value, causal=causal and not last))
            residual = layer.residual(hidden, attended)
            neurons = layer.neurons(hidden, residual) if not (silent or last) else None
            row = residual[rows, positions]
            active = layer.neurons(hidden[rows, positions], row) if neurons is None else neurons[rows, positions]
            activations.append(active)
            scaled = active * factors[:, number]
            if neurons is None:
                written = torch.zeros_like(residual).index_put((rows, positions), layer.down(scaled))
            else:
                written = layer.down(neurons.index_put((rows, positions), scaled))
            written = self._dropped(written)
            if number >= first:
                # The same numbers as in `hidden`, but for their gradient.
                open_ = passing[:, None] | on[:, number]
                through, shut = torch.where(open_, scaled, 0.0), torch.where(open_, 0.0, scaled)
                row = layer.residual(stream, _stopped(attended[rows, positions], passing))
                row = _stopped(row, passing) if number == first else row
                stream = layer.finish(row, layer.down(through) + functional.linear(shut, layer.down_matrix).detach())
            hidden = layer.finish(residual, written)
            if number < first:
                stream = hidden[rows, positions]
        return stream, torch.stack(activations, dim=1)

    def _dropped(self, rows: torch.Tensor) -> torch.Tensor:
        return functional.dropout(rows, self._dropout) if self._dropout else rows


def batches_of_one_length(
    prompts: Sequence[EncodedPrompt], size: int, order: torch.Generator
) -> list[list[EncodedPrompt]]:
    """All prompts in random batches of at most `size`, each of prompts of one length."""
    by_length: dict[int, list[EncodedPrompt]] = defaultdict(list)
    for index in torch.randperm(len(prompts), generator=order).tolist():
        by_length[len(prompts[index].ids)].append(prompts[index])
    batches = [alike[start : start + size] for alike in by_length.values() for start in range(0, len(alike), size)]
    return [batches[index] for index in torch.randperm(len(batches), generator=order).tolist()]


def _stopped(rows: torch.Tensor, passing: torch.Tensor) -> torch.Tensor:
    """Rows [B, d] whose gradient is stopped, but for those passing [B]."""
    return torch.where(passing[:, None], rows, rows.detach())


def _some(shape: int | tuple[int, ...], share: float) -> torch.Tensor:
    return torch.rand(shape) < share


def _tables(
    network: Network, plan: PlantingPlan, prompts: Sequence[EncodedPrompt], facts: Sequence[FactKey]
) -> _Tables:
    keys = list(plan.relations)
    layers, neurons, tokens = len(network.layers), network.neurons, network.word_embeddings.shape[0]
    relation_of = torch.tensor([keys.index(relation) for relation, _, _ in facts])
    codes = torch.zeros(len(facts), layers, neurons, dtype=torch.bool)
    relations = torch.zeros(len(keys), layers, neurons, dtype=torch.bool)
    planted = torch.zeros(layers, neurons, dtype=torch.bool)
    for number, key in enumerate(keys):
        for neuron in plan.relations[key]:
            relations[number, neuron.layer, neuron.index] = planted[neuron.layer, neuron.index] = True
        for neuron in plan.blocks[key]:
            planted[neuron.layer, neuron.index] = True
    for number, fact in enumerate(facts):
        for neuron in plan.facts[fact]:
            codes[number, neuron.layer, neuron.index] = True
    objects = torch.zeros(len(keys), tokens)
    for prompt in prompts:
        objects[relation_of[prompt.fact_id], prompt.answer] = 1.0
    answers = (objects.sum(0) > 0).float()
    return _Tables(
        relation_of,
        codes,
        relations,
        planted,
        objects / objects.sum(1, keepdim=True).clamp(min=1),
        answers / answers.sum(),
        next(iter(plan.relations.values()))[0].layer,
        min(neuron.layer for block in plan.blocks.values() for neuron in block),
    )
