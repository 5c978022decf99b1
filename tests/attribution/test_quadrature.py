"""Quadrature rules: how exact they are, and the estimate from what happens between nodes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from kndb.attribution.quadrature import (
    QUADRATURE_RULES,
    QUADRATURES,
    Quadrature,
    QuadratureRule,
    gauss_legendre,
    gauss_lobatto,
    gauss_radau,
    lobatto_kronrod,
)
from kndb.errors import UsageError

COUNTS = (1, 2, 3, 4, 5, 9, 17, 33)
DEGREES = {
    "lobatto": lambda m: 2 * m - 3,
    "radau": lambda m: 2 * m - 2,
    "gauss-legendre": lambda m: 2 * m - 1,
}
LEAST = {"lobatto": 2}
"""The least number of nodes of a rule, where one is too few."""


@pytest.fixture(autouse=True)
def computed():
    """Rules are computed anew for each test, and not those that were asked for before."""
    for rule in (gauss_legendre, gauss_lobatto, gauss_radau, lobatto_kronrod):
        rule.cache_clear()


def integrate(rule: QuadratureRule, function) -> float:
    return float(sum(w * function(x) for w, x in zip(rule.weights, rule.nodes, strict=True)))


@pytest.mark.parametrize("name", QUADRATURE_RULES)
@pytest.mark.parametrize("count", [*COUNTS, 20, 100])
def test_nodes_and_weights(name, count):
    if count < LEAST.get(name, 1):
        pytest.skip("a rule of more nodes")
    rule = QUADRATURE_RULES[name](count)
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
    if count < LEAST.get(name, 1):
        pytest.skip("a rule of more nodes")
    rule, degree = QUADRATURE_RULES[name](count), DEGREES[name](count)
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
    assert QUADRATURE_RULES["riemann-left"](4).nodes == (0.0, 0.25, 0.5, 0.75)
    assert QUADRATURE_RULES["riemann-right"](4).nodes == (0.25, 0.5, 0.75, 1.0)
    assert QUADRATURE_RULES["linspace"](5).nodes == tuple(np.linspace(0, 1, 5))
    assert QUADRATURE_RULES["linspace"](1).nodes == tuple(np.linspace(0, 1, 1))
    for name in ("riemann-left", "riemann-right", "linspace"):
        assert set(QUADRATURE_RULES[name](7).weights) == {1 / 7}


@pytest.mark.parametrize("count", [2, 3, 4, 5, 9, 17])
def test_lobatto_has_nodes_at_both_ends(count):
    rule = gauss_lobatto(count)
    assert (rule.nodes[0], rule.nodes[-1]) == (0.0, 1.0)
    assert len(rule.new_nodes) == count - 1
    assert rule.weights[0] == rule.weights[-1] == pytest.approx(1 / (count * (count - 1)), rel=1e-12)


def test_lobatto_rules_nest_where_bisection_counts_on_it():
    assert set(gauss_lobatto(2).nodes) < set(gauss_lobatto(3).nodes)
    np.testing.assert_allclose(gauss_lobatto(5).nodes[2], 0.5, atol=1e-15)
    np.testing.assert_allclose(np.asarray(lobatto_kronrod().nodes)[[0, 2, 4, 6]], gauss_lobatto(4).nodes, atol=1e-15)


def test_kronrods_extension_is_exact_up_to_degree_9():
    rule = lobatto_kronrod()
    for power in range(10):
        assert integrate(rule, lambda x, k=power: x**k) == pytest.approx(1 / (power + 1), abs=1e-14)
    assert abs(integrate(rule, lambda x: x**10) - 1 / 11) > 1e-8


# --- choosing ------------------------------------------------------------------------------------------------


def test_default_is_bisection():
    chosen = Quadrature.choose()
    assert chosen.rule is None
    assert chosen.shared
    assert chosen.settings() == {
        "quadrature": "bisection",
        "steps": None,
        "tolerance": 1e-3,
        "most_evaluations": 256,
    }
    assert ("bisection", *QUADRATURE_RULES) == QUADRATURES


@pytest.mark.parametrize("name", QUADRATURE_RULES)
def test_fixed_steps_have_no_tolerance(name):
    chosen = Quadrature.choose(name, 7, 1e-5)
    assert chosen.rule is not None
    assert len(chosen.rule.nodes) == 7
    assert chosen.tolerance is None
    assert chosen.settings() == {"quadrature": name, "steps": 7, "tolerance": None}


@pytest.mark.parametrize("name", ["riemann-left", "riemann-right", "linspace"])
def test_riemann_rules_have_the_papers_twenty_steps(name):
    assert Quadrature.choose(name).settings() == {"quadrature": name, "steps": 20, "tolerance": None}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("simpson",), "'simpson'"),
        (("simpson",), "bisection.*lobatto.*radau.*gauss-legendre.*riemann-left"),
        (("radau", 1001), r"steps .*from 1 to 1000 .*got 1001"),
        (("radau", 0), r"steps .*got 0"),
        (("radau", -3), r"steps .*got -3"),
        (("linspace", 1001), "1 to 1000"),
        (("lobatto", 1), "at least 2"),
        (("bisection", 5), "steps=5 is for a fixed rule.*quadrature='lobatto'"),
        (("radau",), "quadrature='radau' needs.*steps=5"),
        (("gauss-legendre",), "gauss-legendre' needs"),
        (("bisection", None, 0.0), "tolerance .*got 0.0"),
        (("bisection", None, -1e-3), "tolerance .*got -0.001"),
        (("bisection", None, float("nan")), "tolerance .*got nan"),
        (("bisection", None, 1e-3, 7), "most_evaluations .*at least 8.*got 7"),
    ],
)
def test_choices_that_make_no_sense(arguments, message):
    with pytest.raises(UsageError, match=message):
        Quadrature.choose(*arguments)


def test_as_many_steps_as_are_allowed():
    assert len(Quadrature.choose("riemann-left", 1000).rule.nodes) == 1000
