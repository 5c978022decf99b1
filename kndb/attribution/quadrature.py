"""Quadrature rules on [0, 1], and the choice between one of them and bisection.

The rules integrate the gradient along the path from zero to the full activation. The Riemann rules are there to
reproduce published numbers; the Gauss rules need far fewer nodes. Radau's has its last node at 1, the unmodified
network, whose gradient one backward pass gives for all layers together; Lobatto's have nodes at 0 and at 1. What
follows a rough integrand is not a rule but `bisection`, which applies Lobatto's rules to panels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from ..advice import option
from ..errors import UsageError

BISECTION = "bisection"
"""The adaptive quadrature, which is no rule of its own: see `bisection`."""

DEFAULT_TOLERANCE = 1e-3
DEFAULT_MOST_EVALUATIONS = 256
"""Gradient evaluations that bisection may spend on one layer of one prompt."""

LEAST_MOST_EVALUATIONS = 8

MOST_STEPS = 1000


@dataclass(frozen=True)
class QuadratureRule:
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


def riemann_left(steps: int) -> QuadratureRule:
    """Left Riemann sum, α = k/m for k = 0 … m−1: what the paper's code computes."""
    return QuadratureRule(f"riemann-left-{steps}", tuple(k / steps for k in range(steps)), (1 / steps,) * steps)


def riemann_right(steps: int) -> QuadratureRule:
    """Right Riemann sum, α = k/m for k = 1 … m: the one that the paper writes (its equation 3)."""
    return QuadratureRule(f"riemann-right-{steps}", tuple(k / steps for k in range(1, steps + 1)), (1 / steps,) * steps)


def linspace(steps: int) -> QuadratureRule:
    """Equal weights on m points from 0 to 1, both ends included: what EleutherAI's replication computes."""
    nodes = (0.0,) if steps == 1 else tuple(k / (steps - 1) for k in range(steps))
    return QuadratureRule(f"linspace-{steps}", nodes, (1 / steps,) * steps)


@lru_cache(maxsize=64)
def gauss_legendre(steps: int) -> QuadratureRule:
    """Gauss–Legendre: exact for polynomials of degree 2m−1, no node at an end."""
    nodes, weights = legendre.leggauss(steps)
    return QuadratureRule(f"gauss-legendre-{steps}", _floats((nodes + 1) / 2), _floats(weights / 2))


@lru_cache(maxsize=64)
def gauss_radau(steps: int) -> QuadratureRule:
    """Gauss–Radau with its last node at 1: exact for polynomials of degree 2m−2.

    On [−1, 1] with the fixed node at −1, the nodes are the roots of P_{m−1} + P_m, with weights 2/m² at −1 and
    (1 − x)/(m·P_{m−1}(x))² elsewhere (Abramowitz and Stegun 25.4.31); mirrored here.
    """
    if steps == 1:
        return QuadratureRule("radau-1", (1.0,), (1.0,))
    coefficients = np.zeros(steps + 1)
    coefficients[-2:] = 1.0
    roots = np.sort(np.real(legendre.legroots(coefficients)))
    roots = _newton(roots, coefficients)
    roots[0] = -1.0
    previous = np.zeros(steps)
    previous[-1] = 1.0
    weights = (1 - roots) / (steps * legendre.legval(roots, previous)) ** 2
    weights[0] = 2 / steps**2
    return QuadratureRule(f"radau-{steps}", (*_floats((1 - roots[:0:-1]) / 2), 1.0), _floats(weights[::-1] / 2))


@lru_cache(maxsize=64)
def gauss_lobatto(steps: int) -> QuadratureRule:
    """Gauss–Lobatto with nodes at 0 and at 1: exact for polynomials of degree 2m−3.

    On [−1, 1] the inner nodes are the roots of P′_{m−1}, and the weight of x is 2/(m·(m − 1)·P_{m−1}(x)²) (Abramowitz
    and Stegun 25.4.32).

    Raises:
        UsageError: for a single step, which can't be at both ends.
    """
    if steps == 1:
        raise UsageError(
            f"{option('quadrature', 'lobatto')} has nodes at both ends: {option('steps')} must be at least 2 (got 1)"
        )
    highest = np.zeros(steps)
    highest[-1] = 1.0
    slope = np.asarray(legendre.legder(highest), dtype=np.float64)
    inner = _newton(np.sort(np.real(legendre.legroots(slope))), slope)
    points = np.concatenate([[-1.0], inner, [1.0]])
    weights = 2 / (steps * (steps - 1) * legendre.legval(points, highest) ** 2)
    return QuadratureRule(f"lobatto-{steps}", (0.0, *_floats((points[1:-1] + 1) / 2), 1.0), _floats(weights / 2))


@lru_cache(maxsize=1)
def lobatto_kronrod() -> QuadratureRule:
    """The four nodes of Gauss–Lobatto and three between them: exact for polynomials of degree 9.

    Nodes on [−1, 1] are ±1, ±√(2/3), ±1/√5 and 0, with weights 77, 432, 625 and 672 over 1470 (Gander and Gautschi
    2000, "Adaptive quadrature, revisited").
    """
    points = np.asarray([-1.0, -np.sqrt(2 / 3), -np.sqrt(1 / 5), 0.0, np.sqrt(1 / 5), np.sqrt(2 / 3), 1.0])
    weights = np.asarray([77.0, 432.0, 625.0, 672.0, 625.0, 432.0, 77.0]) / 2940
    return QuadratureRule("lobatto-kronrod-7", _floats((points + 1) / 2), _floats(weights))


QUADRATURE_RULES: dict[str, Callable[[int], QuadratureRule]] = {
    "lobatto": gauss_lobatto,
    "radau": gauss_radau,
    "gauss-legendre": gauss_legendre,
    "riemann-left": riemann_left,
    "riemann-right": riemann_right,
    "linspace": linspace,
}
QUADRATURES = (BISECTION, *QUADRATURE_RULES)
DEFAULT_STEPS = {"riemann-left": 20, "riemann-right": 20, "linspace": 20}
"""The number of steps of the literature, for the rules that it uses."""


@dataclass(frozen=True)
class Quadrature:
    """How an attribution integrates.

    Attributes:
        name: `bisection`, or a key of `QUADRATURE_RULES`.
        rule: the one rule for every prompt and layer; None for bisection.
        tolerance: of bisection, the error wanted, relative to the change of probability; None for a rule.
        most_evaluations: of bisection, the gradient evaluations that one layer of one prompt may take; None for a rule.
    """

    name: str
    rule: QuadratureRule | None
    tolerance: float | None
    most_evaluations: int | None

    @classmethod
    def choose(
        cls,
        name: str = BISECTION,
        steps: int | None = None,
        tolerance: float = DEFAULT_TOLERANCE,
        most_evaluations: int | None = None,
    ) -> Quadrature:
        """Bisection with a tolerance and a bound (None: the usual one), or the rule of a name with a number of steps.

        Raises:
            UsageError: for an unknown name, a number of steps outside 1 to 1000, steps for bisection or none for a
                Gauss rule, a tolerance that is not positive, or fewer than 8 evaluations.
        """
        if name not in QUADRATURES:
            raise UsageError(f"{option('quadrature')} must be one of: {', '.join(QUADRATURES)} (got {name!r})")
        if steps is not None and not 1 <= steps <= MOST_STEPS:
            raise UsageError(f"{option('steps')} must be a number from 1 to {MOST_STEPS} (got {steps})")
        if not tolerance > 0:
            raise UsageError(f"{option('tolerance')} must be a positive number, such as 1e-3 (got {tolerance})")
        most_evaluations = DEFAULT_MOST_EVALUATIONS if most_evaluations is None else most_evaluations
        if most_evaluations < LEAST_MOST_EVALUATIONS:
            raise UsageError(
                f"{option('most_evaluations')} must be at least {LEAST_MOST_EVALUATIONS} (got {most_evaluations})"
            )
        if name == BISECTION:
            if steps is not None:
                raise UsageError(
                    f"{option('steps', steps)} is for a fixed rule, and bisection chooses its nodes itself; name the "
                    f"rule, too, such as {option('quadrature', 'lobatto')}"
                )
            return cls(name, None, tolerance, most_evaluations)
        steps = steps or DEFAULT_STEPS.get(name)
        if steps is None:
            raise UsageError(
                f"{option('quadrature', name)} needs its number of nodes, such as {option('steps', 5)}; for nodes that "
                f"adapt to the integrand use {option('quadrature', BISECTION)}, the default"
            )
        return cls(name, QUADRATURE_RULES[name](steps), None, None)

    @property
    def shared(self) -> bool:
        """Whether the unmodified network is one of the nodes."""
        return self.rule is None or self.rule.shared

    def settings(self) -> dict[str, object]:
        """What is stored with a run."""
        if self.rule is None:
            bounds = {"tolerance": self.tolerance, "most_evaluations": self.most_evaluations}
            return {"quadrature": self.name, "steps": None, **bounds}
        return {"quadrature": self.name, "steps": len(self.rule.nodes), "tolerance": None}


def _newton(roots: NDArray[np.float64], coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two Newton steps bring the companion matrix's eigenvalues to full precision."""
    derivative = legendre.legder(coefficients)
    for _ in range(2):
        roots = roots - legendre.legval(roots, coefficients) / legendre.legval(roots, derivative)
    return roots


def _floats(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
