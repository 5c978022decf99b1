"""The rules that bisection applies to panels, and what estimates their errors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from .quadrature import QuadratureRule, gauss_lobatto, lobatto_kronrod

Floats = NDArray[np.float64]

WIDEST = 7
"""Nodes of the largest rule."""


def rule_of(size: int) -> QuadratureRule:
    """The rule on a panel with a number of nodes: 2, 3, 4, 5 or 7."""
    return lobatto_kronrod() if size == WIDEST else gauss_lobatto(size)


@dataclass(frozen=True)
class PanelRule:
    """A rule on [0, 1], with what estimates its error.

    Attributes:
        nodes, weights: [m].
        from_slopes, from_changes: [m] and [m − 1]: the second highest coefficient in shifted Legendre polynomials of
            the one polynomial that equals P′ at the nodes and whose integrals between them are the differences of P, is
            from_slopes · P′ + from_changes · ΔP.
        reach: the rule's error on a polynomial with a highest coefficient of 1.
    """

    nodes: Floats
    weights: Floats
    from_slopes: Floats
    from_changes: Floats
    reach: float


@lru_cache(maxsize=8)
def panel_rule(size: int) -> PanelRule:
    """The rule with a number of nodes on a panel, and its estimate."""
    rule = rule_of(size)
    nodes, weights = np.asarray(rule.nodes), np.asarray(rule.weights)
    places = nodes * 2 - 1
    degree = 2 * size - 2
    at_nodes = legendre.legvander(places, degree)
    integrals = np.asarray([legendre.legval(places, legendre.legint(row)) for row in np.eye(degree + 1)])
    over_segments = np.diff(integrals, axis=1).T / 2
    to_coefficients = np.linalg.inv(np.concatenate([at_nodes, over_segments]))
    second = to_coefficients[degree - 1]
    # The integral of a Legendre polynomial of positive degree over its whole interval is 0.
    reach = float(np.abs(weights @ at_nodes[:, 1:]).max())
    return PanelRule(nodes, weights, second[:size].copy(), second[size:].copy(), reach)
