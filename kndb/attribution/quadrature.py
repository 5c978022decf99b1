"""Quadrature rules on [0, 1], and the estimate of their error from values already at hand.

The rules integrate the gradient along the path from zero to the full activation. The Riemann rules are there to
reproduce published numbers; the Gauss rules need far fewer nodes. Radau's has its last node at 1, the unmodified
network, whose gradient one backward pass gives for all layers together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from ..errors import UsageError

LADDER = (3, 4, 5, 7, 9, 13, 17, 25, 33, 65)
"""Node counts that the adaptive rules climb; rungs are skipped where the error estimate allows."""

ESTIMATED_DEGREES = 4
"""How many of the interpolant's highest Legendre coefficients the error estimate looks at."""

MOST_STEPS = 1000


@dataclass(frozen=True)
class Rule:
    """∫₀¹ f(α) dα ≈ Σ_k weights[k] · f(nodes[k]); nodes ascend within [0, 1].

    Attributes:
        name: the rule's name with its number of nodes.
    """

    name: str
    nodes: tuple[float, ...]
    weights: tuple[float, ...]

    @property
    def shared(self) -> bool:
        """Whether the last node is the unmodified network."""
        return self.nodes[-1] == 1.0

    @property
    def new_nodes(self) -> tuple[float, ...]:
        """The nodes that need an evaluation of their own."""
        return self.nodes[:-1] if self.shared else self.nodes

    def tail_matrices(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """What gives the highest Legendre coefficients of f from values at hand.

        Of f = P′, a rule's pass yields f at the nodes and P at 0, the nodes and 1. One polynomial p fits them all: p
        equals f at the nodes, and its integrals between neighbouring points equal the differences of P. Its degree D
        is the first at which the rule itself is not exact, so its coefficients show how far f reaches beyond the rule.

        Returns:
            (slopes, changes, error): the coefficients of degree D, D − 1, … (ESTIMATED_DEGREES of them) are slopes @
            f(nodes) + changes @ differences of P; the rule's error on the Legendre polynomial of degree D has size
            `error`.
        """
        return _tail_matrices(self)

    def ends(self) -> tuple[float, ...]:
        """The points between which differences of P are taken: 0, the nodes, 1."""
        inner = [node for node in self.nodes if 0.0 < node < 1.0]
        return (0.0, *inner, 1.0)


def riemann_left(steps: int) -> Rule:
    """Left Riemann sum, α = k/m for k = 0 … m−1: what the paper's code computes."""
    return Rule(f"riemann-left-{steps}", tuple(k / steps for k in range(steps)), (1 / steps,) * steps)


def riemann_right(steps: int) -> Rule:
    """Right Riemann sum, α = k/m for k = 1 … m: the one that the paper writes (its equation 3)."""
    return Rule(f"riemann-right-{steps}", tuple(k / steps for k in range(1, steps + 1)), (1 / steps,) * steps)


def linspace(steps: int) -> Rule:
    """Equal weights on m points from 0 to 1, both ends included: what EleutherAI's replication computes."""
    nodes = (0.0,) if steps == 1 else tuple(k / (steps - 1) for k in range(steps))
    return Rule(f"linspace-{steps}", nodes, (1 / steps,) * steps)


@lru_cache(maxsize=64)
def gauss_legendre(steps: int) -> Rule:
    """Gauss–Legendre: exact for polynomials of degree 2m−1, no node at an end."""
    nodes, weights = legendre.leggauss(steps)
    return Rule(f"gauss-legendre-{steps}", _floats((nodes + 1) / 2), _floats(weights / 2))


@lru_cache(maxsize=64)
def gauss_radau(steps: int) -> Rule:
    """Gauss–Radau with its last node at 1: exact for polynomials of degree 2m−2.

    On [−1, 1] with the fixed node at −1, the nodes are the roots of P_{m−1} + P_m, with weights 2/m² at −1 and
    (1 − x)/(m·P_{m−1}(x))² elsewhere (Abramowitz and Stegun 25.4.31); mirrored here.
    """
    if steps == 1:
        return Rule("radau-1", (1.0,), (1.0,))
    coefficients = np.zeros(steps + 1)
    coefficients[-2:] = 1.0
    roots = np.sort(np.real(legendre.legroots(coefficients)))
    roots = _newton(roots, coefficients)
    roots[0] = -1.0
    previous = np.zeros(steps)
    previous[-1] = 1.0
    weights = (1 - roots) / (steps * legendre.legval(roots, previous)) ** 2
    weights[0] = 2 / steps**2
    return Rule(f"radau-{steps}", (*_floats((1 - roots[:0:-1]) / 2), 1.0), _floats(weights[::-1] / 2))


RULES: dict[str, Callable[[int], Rule]] = {
    "radau": gauss_radau,
    "gauss-legendre": gauss_legendre,
    "riemann-left": riemann_left,
    "riemann-right": riemann_right,
    "linspace": linspace,
}
ADAPTIVE = ("radau", "gauss-legendre")
DEFAULT_RIEMANN_STEPS = 20


@dataclass(frozen=True)
class Quadrature:
    """Which rules an attribution uses, in the order in which it tries them.

    Attributes:
        name: a key of `RULES`.
        rules: one rule if the number of steps is fixed; else ever finer ones, climbed where the error estimate
            exceeds `tolerance`.
        tolerance: the error wanted, relative to the change of probability; None if the number of steps is fixed.
    """

    name: str
    rules: tuple[Rule, ...]
    tolerance: float | None

    @classmethod
    def choose(cls, name: str = "radau", steps: int | None = None, tolerance: float = 1e-3) -> Quadrature:
        """The quadrature of a name, a number of steps (None: adaptive where the rule can be) and a tolerance.

        Raises:
            UsageError: for an unknown name, a number of steps outside 1 to 1000, or a tolerance that is not
                positive.
        """
        if name not in RULES:
            raise UsageError(f"found quadrature {name!r}; expected one of: {', '.join(RULES)}")
        if steps is not None and not 1 <= steps <= MOST_STEPS:
            raise UsageError(f"found {steps} steps; expected a number from 1 to {MOST_STEPS}")
        if not tolerance > 0:
            raise UsageError(f"found tolerance {tolerance}; expected a positive number, for example 1e-3")
        if steps is None and name in ADAPTIVE:
            return cls(name, tuple(RULES[name](count) for count in LADDER), tolerance)
        return cls(name, (RULES[name](steps or DEFAULT_RIEMANN_STEPS),), None)

    def settings(self) -> dict[str, object]:
        """What is stored with a run."""
        steps = None if self.tolerance is not None else len(self.rules[0].nodes)
        return {"quadrature": self.name, "steps": steps, "tolerance": self.tolerance}


@lru_cache(maxsize=64)
def _tail_matrices(rule: Rule) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    points, ends = (np.asarray(places) * 2 - 1 for places in (rule.nodes, rule.ends()))
    degree = len(points) + len(ends) - 2
    at_nodes = legendre.legvander(points, degree)
    integrals = np.asarray([legendre.legval(ends, legendre.legint(row)) for row in np.eye(degree + 1)])
    over_segments = np.diff(integrals, axis=1).T / 2
    to_coefficients = np.linalg.inv(np.concatenate([at_nodes, over_segments]))
    tail = to_coefficients[::-1][:ESTIMATED_DEGREES]
    error = abs(float(legendre.legvander(points, degree)[:, degree] @ np.asarray(rule.weights)))
    return tail[:, : len(points)].copy(), tail[:, len(points) :].copy(), error


def _newton(roots: NDArray[np.float64], coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two Newton steps bring the companion matrix's eigenvalues to full precision."""
    derivative = legendre.legder(coefficients)
    for _ in range(2):
        roots = roots - legendre.legval(roots, coefficients) / legendre.legval(roots, derivative)
    return roots


def _floats(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
