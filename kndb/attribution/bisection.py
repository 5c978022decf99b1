"""Adaptive bisection: where to evaluate an integrand next, and what each evaluation weighs in the end.

Many integrals go on at once, one for each prompt and layer; here an integral is a number from 0. P(α) is known
wherever its derivative P′(α) is, so that a panel [a, b] brings its own error: the difference between a rule's ∫ P′ over
the panel and P(b) − P(a). Panels whose errors are too much for their integral get a finer rule or are halved.
Everything here is bookkeeping of a few numbers a node, in double precision; what is integrated in fact is a vector, the
gradient, of which P′ is one component. Whoever runs the network keeps the vectors, and sums them by `weights` when
nothing is asked any more.

Rules are Lobatto's, whose nodes include both ends: a panel's ends are its neighbours', the first panel's are α = 0,
which also gives P(0), and α = 1, the unmodified network. All of them nest, so that nothing is evaluated in vain until a
panel is halved:

    2 nodes (trapezoid) → 3 (Simpson) → 5, or 2 → 4 → 7 (Kronrod's extension); 5 and 7 have the middle, where they split

How far a panel may be off is its completeness error; as that may be small by chance, the estimate is at least a part of
what the second highest Legendre coefficient of P′ would give in place of the highest (see `panel_rules`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .panel_rules import WIDEST, Floats, panel_rule

Indices = NDArray[np.int64]

RELATIVE_FLOOR = 0.1
"""A layer's error is relative to its |P(1) − P(0)|, but at least to this share of the largest among all layers."""

OF_LARGEST_SCORE, OF_LARGEST_SCORE_WHERE_ROUGH = 1.0, 0.5
"""An integral may be off by no more than the tolerance times so many times the prompt's largest score, either: where a
layer changes P by far more than any of its neurons does, an error that is small for the layer is not for them. On the
whole of [0, 1], and where panels were halved: there, single scores may be off by more than their sum."""

SMALLEST = 1e-30
"""Keeps an error relative to nothing at all from being infinite."""

ROUNDING = 16.0
"""Units of rounding that log odds are taken to be off by."""

NOISE = 48.0
"""Units of rounding by which a panel's difference of P may be off, its ends' odds and what they pass through included:
a panel that is off by less is not refined, and counts as exact."""

STALLED = 1024.0
"""A half of five nodes that is off by no less than half of what its whole was, and by fewer units of rounding than
these, shows rounding, too: halving a panel of a smooth integrand takes away far more."""

FADING, FADING_WHERE_ROUGH = 0.2, 0.3
"""How much of the second highest coefficient is taken for the highest, should that one be small by chance: on the whole
of [0, 1], and on the panels of an integrand that no rule follows there, whose coefficients fade slowly."""

LEFT_ALONE = 0.7
"""The share of an integral's tolerance that panels which are not refined may use up together."""

FIRST_RULES = ((3, 0.2), (4, 0.002))
"""(nodes m, c): a first panel's m nodes are expected to be off by c·e^(m−1), with e the trapezoid's error."""

HOPELESS = 1000.0
"""A panel of three nodes that is off by more than this many times its share is halved without trying five."""

HALVES, STAY = 0, -1
"""In place of a number of nodes: the panel becomes two; nothing is done to it."""

NARROWEST = 2.0**-20
"""Panels are not halved below this width: there, single precision has no more points to offer."""


def probability_changes(odds: Floats, odds_before: Floats) -> Floats:
    """P − P_before from log odds, without the cancellation that two probabilities close to 1 would suffer."""
    low, high = np.minimum(odds, odds_before), np.maximum(odds, odds_before)
    size = -_sigmoid(high) * _sigmoid(-low) * np.expm1(low - high)
    found: Floats = np.where(odds >= odds_before, size, -size)
    return found


def _sigmoid(values: Floats) -> Floats:
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)


def _running_totals(owner: Indices, values: NDArray[Any]) -> NDArray[Any]:
    """Sums of values up to and with each, begun again for each owner; owners never fall."""
    running = np.concatenate([[0], np.cumsum(values)])
    found: NDArray[Any] = running[1:] - running[np.searchsorted(owner, owner)]
    return found


@dataclass
class _Panels:
    """Panels of all integrals: nodes [P, WIDEST] by number, rising in α, −1 beyond `size`.

    `estimate` is the error to be expected, absolute; `parent` that of the panel whose half this is, infinite for a
    first panel.
    """

    owner: Indices
    nodes: Indices
    size: Indices
    estimate: Floats
    parent: Floats

    def __len__(self) -> int:
        return len(self.owner)

    @property
    def last(self) -> Indices:
        """The node at each panel's right end, [P]."""
        found: Indices = self.nodes[np.arange(len(self)), self.size - 1]
        return found

    def where(self, mask: NDArray[np.bool_]) -> _Panels:
        return _Panels(self.owner[mask], self.nodes[mask], self.size[mask], self.estimate[mask], self.parent[mask])

    @staticmethod
    def joined(*parts: _Panels) -> _Panels:
        return _Panels(
            np.concatenate([part.owner for part in parts]),
            np.concatenate([part.nodes for part in parts]),
            np.concatenate([part.size for part in parts]),
            np.concatenate([part.estimate for part in parts]),
            np.concatenate([part.parent for part in parts]),
        )

    @staticmethod
    def made(owner: Indices, nodes: Indices, parent: Floats) -> _Panels:
        """Panels of one size m that are not estimated yet, from nodes [P, m]."""
        wide = np.full((len(owner), WIDEST), -1, dtype=np.int64)
        wide[:, : nodes.shape[1]] = nodes
        unknown = np.full(len(owner), np.inf)
        return _Panels(owner, wide, np.full(len(owner), nodes.shape[1]), unknown, parent)


class Bisection:
    """Integrals of all layers and prompts of a batch, from [0, 1] in ever more panels.

    Node k < L·S is α = 1 of integral k; the nodes that `ask` names follow, in its order. Call `ask` and `tell` in turn
    until `ask` names none; then `bound`, which may make it name some again.

    Args:
        odds: log odds at α = 1 of each layer and prompt, [L, S]; integral l·S + s is layer l's of prompt s.
        slopes: P′(1) of each, [L, S].
        tolerance: the error wanted of each integral, relative to max(|P(1) − P(0)|, 0.1 · the largest |P(1) − P(0)|
            among the prompt's layers).
        most_evaluations: evaluations that one integral may take, its shared node left out.
        unit: the unit of rounding that log odds were computed with; errors that rounding explains are not chased.
    """

    def __init__(self, odds: Floats, slopes: Floats, tolerance: float, most_evaluations: int, unit: float) -> None:
        self._shape = odds.shape
        count = odds.size
        self._tolerance, self._most, self._unit = tolerance, most_evaluations, unit
        self.owner: Indices = np.arange(count)
        self.alpha: Floats = np.ones(count)
        self._odds: Floats = odds.astype(np.float64).reshape(-1)
        self._slopes: Floats = slopes.astype(np.float64).reshape(-1)
        self.evaluations: Indices = np.zeros(count, dtype=np.int64)
        self.scale: Floats = np.full(count, np.nan)
        self._settled = _Panels.made(np.arange(0), np.empty((0, 2), dtype=np.int64), np.empty(0))
        self._fresh: list[_Panels] = []
        self._asked = count
        self._largest: Floats = np.full(count, np.inf)
        self._peak = _sigmoid(self._odds) * _sigmoid(-self._odds)
        self._begin()

    @property
    def changes(self) -> Floats:
        """P(1) − P(0) of each integral, [L·S], once the first answers are told."""
        count = len(self.evaluations)
        return probability_changes(self._odds[:count], self._odds[count : 2 * count])

    def ask(self) -> tuple[Indices, Floats]:
        """The integrals [N] and their α [N] at which log odds and P′ are wanted next; none once all is done."""
        return self.owner[self._asked :], self.alpha[self._asked :]

    def tell(self, odds: Floats, slopes: Floats) -> None:
        """Takes what was asked for, [N] and [N], and works out what to ask next."""
        asked = self.owner[self._asked :]
        self._odds = np.concatenate([self._odds, odds.astype(np.float64)])
        self._slopes = np.concatenate([self._slopes, slopes.astype(np.float64)])
        np.add.at(self.evaluations, asked, 1)
        told = self._odds[self._asked :]
        np.maximum.at(self._peak, asked, _sigmoid(told) * _sigmoid(-told))
        self._asked = len(self.owner)
        if np.isnan(self.scale).any():
            self._set_scale()
        for panels in self._fresh:
            panels.estimate = self._estimates(panels)
        panels = _Panels.joined(self._settled, *self._fresh)
        self._fresh = []
        self._refine(panels)

    def bound(self, largest: Floats) -> None:
        """Takes the largest score of each prompt, [S], as far as it is known, and asks for what it makes necessary."""
        self._largest = np.tile(largest, self._shape[0])
        self._refine(self._settled)

    def weights(self) -> Floats:
        """The weight of every node in its integral, [nodes]: 0 for those that finer panels have passed over."""
        found = np.zeros(len(self.owner))
        for size in np.unique(self._settled.size):
            some = self._settled.where(self._settled.size == size)
            nodes = some.nodes[:, :size]
            np.add.at(found, nodes, self._widths(some)[:, None] * panel_rule(int(size)).weights)
        return found

    def _widths(self, panels: _Panels) -> Floats:
        widths: Floats = self.alpha[panels.last] - self.alpha[panels.nodes[:, 0]]
        return widths

    # --- what happens in a round ---------------------------------------------------------------------------

    def _begin(self) -> None:
        every = np.arange(len(self.evaluations))
        at_zero = self._request(every, np.zeros(len(every)))
        self._fresh = [_Panels.made(every, np.stack([at_zero, every], axis=1), np.full(len(every), np.inf))]

    def _request(self, owner: Indices, alpha: Floats) -> Indices:
        """Asks for a node each; their numbers."""
        first = len(self.owner)
        self.owner = np.concatenate([self.owner, owner])
        self.alpha = np.concatenate([self.alpha, alpha])
        return np.arange(first, len(self.owner))

    def _set_scale(self) -> None:
        changes = np.abs(self.changes).reshape(self._shape)
        floor = RELATIVE_FLOOR * changes.max(axis=0, initial=0.0)
        self.scale = np.maximum(np.maximum(changes, floor), SMALLEST).reshape(-1)

    def _estimates(self, panels: _Panels) -> Floats:
        """How far panels of one size may be off."""
        if not len(panels):
            return panels.estimate
        size = int(panels.size[0])
        rule, nodes = panel_rule(size), panels.nodes[:, :size]
        width = self._widths(panels)
        slopes = self._slopes[nodes] * width[:, None]
        odds = self._odds[nodes]
        changes = probability_changes(odds[:, 1:], odds[:, :-1])
        missing = np.abs(slopes @ rule.weights - probability_changes(odds[:, -1], odds[:, 0]))
        second = np.abs(slopes @ rule.from_slopes + changes @ rule.from_changes)
        fading = np.where(width < 1.0, FADING_WHERE_ROUGH, FADING)
        return np.maximum(missing, fading * rule.reach * second)

    def _refine(self, panels: _Panels) -> None:
        """Asks for the nodes of finer panels where an integral is not good enough yet; the others settle."""
        goal = self._goal(panels)
        target = self._targets(panels, self._too_much(panels, goal), goal)
        target = np.where(self._affordable(panels, target), target, STAY)
        for size in (HALVES, 3, 4, 5, 7):
            some = panels.where(target == size)
            for had in np.unique(some.size):
                alike = some.where(some.size == had)
                self._fresh += self._halved(alike) if size == HALVES else [self._finer(alike, size)]
        self._settled = panels.where(target == STAY)

    def _goal(self, panels: _Panels) -> Floats:
        """How far each integral may be off."""
        rough = np.zeros(len(self.scale), dtype=bool)
        rough[panels.owner[self._widths(panels) < 1.0]] = True
        bound = self._largest * np.where(rough, OF_LARGEST_SCORE_WHERE_ROUGH, OF_LARGEST_SCORE)
        goal: Floats = np.maximum(self._tolerance * np.minimum(self.scale, bound), ROUNDING * self._unit * self._peak)
        return goal

    def _affordable(self, panels: _Panels, target: Indices) -> NDArray[np.bool_]:
        """Whose steps the bound on evaluations allows: of each integral, the worst panels first."""
        cost = np.where(target == STAY, 0, np.where(target == HALVES, 2, target - panels.size))
        order = np.lexsort((-panels.estimate, panels.owner))
        owner = panels.owner[order]
        found = np.zeros(len(panels), dtype=bool)
        found[order] = self.evaluations[owner] + _running_totals(owner, cost[order]) <= self._most
        return found

    def _too_much(self, panels: _Panels, goal: Floats) -> NDArray[np.bool_]:
        """Panels to refine: the worst of each integral that is not good enough, until the rest is."""
        units = panels.estimate / (self._unit * self._peak[panels.owner])
        stalled = (panels.size > 3) & (panels.estimate > panels.parent / 2) & (units < STALLED)
        refinable = (units > NOISE) & (self._widths(panels) > NARROWEST) & ~stalled
        errors = np.where(refinable, panels.estimate, 0.0)
        order = np.lexsort((errors, panels.owner))
        owner, estimate = panels.owner[order], errors[order]
        total = np.bincount(owner, estimate, minlength=len(self.evaluations))
        chosen = (total[owner] > goal[owner]) & (_running_totals(owner, estimate) > LEFT_ALONE * goal[owner])
        found = np.zeros(len(panels), dtype=bool)
        found[order] = chosen
        return found

    def _targets(self, panels: _Panels, chosen: NDArray[np.bool_], goal: Floats) -> Indices:
        """What becomes of each panel: the number of nodes to go to, HALVES, or STAY."""
        size = panels.size
        relative, wanted = (errors / self.scale[panels.owner] for errors in (panels.estimate, goal[panels.owner]))
        first = np.full(len(panels), 5)
        for nodes, factor in reversed(FIRST_RULES):
            first = np.where(factor * relative ** (nodes - 1) <= wanted, nodes, first)
        hopeless = panels.estimate > HOPELESS * goal[panels.owner]
        target = np.select([size == 2, (size == 3) & ~hopeless, size == 4], [first, 5, 7], HALVES)
        return np.where(chosen, target, STAY)

    def _finer(self, panels: _Panels, size: int) -> _Panels:
        """The same panels, all of one size, with more nodes."""
        had = int(panels.size[0])
        old, new = panel_rule(had).nodes, panel_rule(size).nodes
        start = self.alpha[panels.nodes[:, 0]]
        width = self._widths(panels)
        columns = []
        for node in new:
            same = np.flatnonzero(np.abs(old - node) < 1e-12)
            if len(same):
                columns.append(panels.nodes[:, same[0]])
            else:
                columns.append(self._request(panels.owner, start + node * width))
        return _Panels.made(panels.owner, np.stack(columns, axis=1), panels.parent)

    def _halved(self, panels: _Panels) -> list[_Panels]:
        """Both halves of panels, each with three nodes; sizes are odd, so that the middle is a node."""
        middle = panels.nodes[np.arange(len(panels)), panels.size // 2]
        halves = []
        for low, high in ((panels.nodes[:, 0], middle), (middle, panels.last)):
            between = self._request(panels.owner, (self.alpha[low] + self.alpha[high]) / 2)
            halves.append(_Panels.made(panels.owner, np.stack([low, between, high], axis=1), panels.estimate))
        return halves
