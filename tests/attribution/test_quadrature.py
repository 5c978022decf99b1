"""Quadrature rules: how exact they are, and the estimate from what happens between nodes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import Legendre

from kndb.attribution.quadrature import ESTIMATED_DEGREES, LADDER, RULES, Quadrature, Rule, gauss_legendre, gauss_radau
from kndb.errors import UsageError

COUNTS = (1, 2, 3, 4, 5, 9, 17, 33)
DEGREES = {"radau": lambda m: 2 * m - 2, "gauss-legendre": lambda m: 2 * m - 1}


def integrate(rule: Rule, function) -> float:
    return float(sum(w * function(x) for w, x in zip(rule.weights, rule.nodes, strict=True)))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("count", [*COUNTS, 20, 100])
def test_nodes_and_weights(name, count):
    rule = RULES[name](count)
    assert rule.name == f"{name}-{count}"
    assert len(rule.nodes) == len(rule.weights) == count
    assert sum(rule.weights) == pytest.approx(1, abs=1e-13)
    assert min(rule.weights) > 0
    assert all(0 <= node <= 1 for node in rule.nodes)
    assert all(low < high for low, high in pairwise(rule.nodes))
    assert rule.shared == (rule.nodes[-1] == 1.0)
    assert rule.new_nodes == (rule.nodes[:-1] if rule.shared else rule.nodes)


@pytest.mark.parametrize("name", DEGREES)
@pytest.mark.parametrize("count", COUNTS)
def test_exact_up_to_their_degree_and_no_further(name, count):
    rule, degree = RULES[name](count), DEGREES[name](count)
    for power in range(degree + 1):
        assert integrate(rule, lambda x, k=power: x**k) == pytest.approx(1 / (power + 1), abs=1e-14)
    if count <= 5:
        assert abs(integrate(rule, lambda x: x ** (degree + 1)) - 1 / (degree + 2)) > 1e-8


@pytest.mark.parametrize("count", COUNTS)
def test_radau_ends_at_the_unmodified_network(count):
    rule = gauss_radau(count)
    assert rule.nodes[-1] == 1.0
    assert rule.nodes[0] > 0 or count == 1
    assert rule.shared
    assert len(rule.new_nodes) == count - 1
    assert rule.weights[-1] == pytest.approx(1 / count**2, rel=1e-12)


@pytest.mark.parametrize("count", COUNTS)
def test_legendre_has_no_node_at_an_end(count):
    rule = gauss_legendre(count)
    assert not rule.shared
    assert rule.nodes[0] > 0
    assert rule.nodes[-1] < 1


def test_the_sums_of_the_literature():
    assert RULES["riemann-left"](4).nodes == (0.0, 0.25, 0.5, 0.75)
    assert RULES["riemann-right"](4).nodes == (0.25, 0.5, 0.75, 1.0)
    assert RULES["linspace"](5).nodes == tuple(np.linspace(0, 1, 5))
    assert RULES["linspace"](1).nodes == tuple(np.linspace(0, 1, 1))
    for name in ("riemann-left", "riemann-right", "linspace"):
        assert set(RULES[name](7).weights) == {1 / 7}


@given(
    name=st.sampled_from(["radau", "gauss-legendre"]),
    count=st.integers(2, 9),
    coefficients=st.lists(st.floats(-3, 3), min_size=19, max_size=19),
)
def test_tail_gives_the_highest_coefficients_of_a_polynomial(name, count, coefficients):
    """Of a polynomial of degree D or less, f at the nodes and the changes of its integral tell them exactly."""
    rule = RULES[name](count)
    degree = rule_degree = 2 * count - (1 if rule.shared else 0)
    assert rule_degree == DEGREES[name](count) + 1  # the first degree at which the rule is not exact
    function = Legendre(coefficients[: degree + 1], domain=[0, 1])
    antiderivative = function.integ()
    changes = [antiderivative(high) - antiderivative(low) for low, high in pairwise(rule.ends())]
    from_slopes, from_changes, error = rule.tail_matrices()
    found = from_slopes @ [function(node) for node in rule.nodes] + from_changes @ changes
    np.testing.assert_allclose(found, function.coef[::-1][: len(found)], atol=1e-6)
    exact = antiderivative(1.0) - antiderivative(0.0)
    assert abs(integrate(rule, function) - exact) == pytest.approx(error * abs(found[0]), abs=1e-9)


@pytest.mark.parametrize("name", ["radau", "gauss-legendre"])
@pytest.mark.parametrize("count", LADDER)
def test_tail_matrices_have_their_shapes(name, count):
    rule = RULES[name](count)
    from_slopes, from_changes, error = rule.tail_matrices()
    assert from_slopes.shape == (ESTIMATED_DEGREES, count)
    assert from_changes.shape == (ESTIMATED_DEGREES, len(rule.ends()) - 1)
    assert rule.ends()[0] == 0.0
    assert rule.ends()[-1] == 1.0
    assert np.isfinite(from_slopes).all()
    assert 0 < error < 1


# --- choosing ------------------------------------------------------------------------------------------------


def test_default_is_adaptive_radau():
    chosen = Quadrature.choose()
    assert [len(rule.nodes) for rule in chosen.rules] == list(LADDER)
    assert all(rule.shared for rule in chosen.rules)
    assert chosen.tolerance == 1e-3
    assert chosen.settings() == {"quadrature": "radau", "steps": None, "tolerance": 1e-3}


@pytest.mark.parametrize("name", RULES)
def test_fixed_steps_have_no_tolerance(name):
    chosen = Quadrature.choose(name, 7, 1e-5)
    assert [len(rule.nodes) for rule in chosen.rules] == [7]
    assert chosen.tolerance is None
    assert chosen.settings() == {"quadrature": name, "steps": 7, "tolerance": None}


@pytest.mark.parametrize("name", ["riemann-left", "riemann-right", "linspace"])
def test_riemann_rules_have_the_papers_twenty_steps(name):
    assert Quadrature.choose(name).settings() == {"quadrature": name, "steps": 20, "tolerance": None}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("simpson",), "'simpson'.*radau.*gauss-legendre.*riemann-left"),
        (("radau", 0), "found 0 steps"),
        (("radau", -3), "found -3 steps"),
        (("linspace", 1001), "1 to 1000"),
        (("radau", None, 0.0), "tolerance 0.0"),
        (("radau", None, -1e-3), "tolerance -0.001"),
        (("radau", None, float("nan")), "tolerance nan"),
    ],
)
def test_choices_that_make_no_sense(arguments, message):
    with pytest.raises(UsageError, match=message):
        Quadrature.choose(*arguments)
