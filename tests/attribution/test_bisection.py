"""Bisection on planted integrands, whose integrals and panels are known, without any network."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kndb.attribution.bisection import Bisection, probability_changes
from kndb.attribution.panel_rules import panel_rule, rule_of

Curve = Callable[[np.ndarray], np.ndarray]


def logit(probability: np.ndarray) -> np.ndarray:
    return np.log(probability / (1 - probability))


def drive(
    curves: list[tuple[Curve, Curve]],
    *,
    prompts: int = 1,
    tolerance: float = 1e-3,
    most: int = 500,
    unit: float = 2.0**-53,
    noise: float = 0.0,
) -> tuple[Bisection, np.ndarray]:
    """Bisects (P, P′) of each integral until it asks no more; the bisection and its integrals of P′."""
    chance = np.random.default_rng(0)

    def values(owner: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probability = np.array([curves[one][0](place) for one, place in zip(owner, alpha, strict=True)])
        slopes = np.array([curves[one][1](place) for one, place in zip(owner, alpha, strict=True)])
        return logit(probability) + noise * chance.standard_normal(len(owner)), slopes

    every = np.arange(len(curves))
    odds, slopes = values(every, np.ones(len(curves)))
    shape = (len(curves) // prompts, prompts)
    bisection = Bisection(odds.reshape(shape), slopes.reshape(shape), tolerance, most, unit)
    rounds = 0
    while len(bisection.ask()[0]):
        bisection.tell(*values(*bisection.ask()))
        rounds += 1
        assert rounds < 100
    told = np.concatenate([slopes, values(bisection.owner[len(every) :], bisection.alpha[len(every) :])[1]])
    return bisection, np.bincount(bisection.owner, bisection.weights() * told, minlength=len(curves))


def swings(rate: float, depth: float) -> tuple[Curve, Curve]:
    """A probability that swings ever faster towards α = 0, as layer 0 of a pretrained model's does."""

    def probability(alpha):
        return 0.1 + depth * np.sin(rate / (alpha + 0.15)) * (1 - alpha)

    def slope(alpha):
        inner = rate / (alpha + 0.15)
        return depth * (-np.sin(inner) - np.cos(inner) * inner / (alpha + 0.15) * (1 - alpha))

    return probability, slope


def line(start: float, rise: float) -> tuple[Curve, Curve]:
    return lambda alpha: start + rise * alpha, lambda alpha: rise + 0.0 * alpha


def kink(place: float, rise: float) -> tuple[Curve, Curve]:
    """Flat up to a place, rising behind it, as a ReLU does."""
    return (
        lambda alpha: 0.2 + rise * np.maximum(alpha - place, 0.0),
        lambda alpha: rise * np.where(alpha > place, 1.0, 0.0),
    )


def jump(width: float) -> tuple[Curve, Curve]:
    """All of the change next to α = 0, as under a norm on the FFN's output."""
    return (
        lambda alpha: 0.1 + 0.5 * alpha / (alpha + width),
        lambda alpha: 0.5 * width / (alpha + width) ** 2,
    )


ROUGH = [swings(3.0, 0.05), swings(6.0, 0.08), kink(1 / 3, 0.4), kink(0.7123, 0.6), jump(1e-2), jump(1e-4)]


@pytest.mark.parametrize("number", range(len(ROUGH)))
@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-5])
def test_rough_integrands_are_followed(number, tolerance):
    probability, _ = ROUGH[number]
    bisection, found = drive([ROUGH[number]], tolerance=tolerance)
    change = float(probability(np.array(1.0)) - probability(np.array(0.0)))
    assert abs(found[0] - change) <= tolerance * abs(change)
    assert bisection.changes[0] == pytest.approx(change, rel=1e-12)
    assert bisection.scale[0] == pytest.approx(abs(change), rel=1e-12)


@pytest.mark.parametrize("number", range(len(ROUGH)))
def test_other_components_of_the_vector_are_integrated_as_well(number):
    """The nodes are chosen by P′, and serve the gradient's other components, such as P′·α² here."""
    _, slope = ROUGH[number]
    bisection, _ = drive([ROUGH[number]], tolerance=1e-4)
    values = slope(bisection.alpha) * bisection.alpha**2
    fine = np.linspace(0.0, 1.0, 4_000_001)
    middle = (fine[1:] + fine[:-1]) / 2
    expected = float(np.mean(slope(middle) * middle**2))
    size = float(np.mean(np.abs(slope(middle))))
    assert float(bisection.weights() @ values) == pytest.approx(expected, abs=1e-3 * size)


@given(
    curves=st.lists(
        st.one_of(
            st.builds(swings, st.floats(0.1, 5), st.floats(0.001, 0.08)),
            st.builds(line, st.floats(0.1, 0.4), st.floats(0.01, 0.5)),
            st.builds(kink, st.floats(0.05, 0.95), st.floats(0.1, 0.7)),
        ),
        min_size=1,
        max_size=6,
    ),
    tolerance=st.sampled_from([1e-2, 1e-3, 1e-4]),
)
@settings(max_examples=40, deadline=None)
def test_panels_partition_the_interval_and_nothing_is_asked_twice(curves, tolerance):
    bisection, found = drive(curves, tolerance=tolerance)
    weights = bisection.weights()
    for owner, (probability, _) in enumerate(curves):
        mine = bisection.owner == owner
        assert weights[mine].sum() == pytest.approx(1.0, abs=1e-12)  # exact for constants: no gap, no overlap
        assert weights[mine] @ bisection.alpha[mine] == pytest.approx(0.5, abs=1e-12)
        assert len(np.unique(bisection.alpha[mine])) == mine.sum() == bisection.evaluations[owner] + 1
        change = float(probability(np.array(1.0)) - probability(np.array(0.0)))
        assert abs(found[owner] - change) <= tolerance * bisection.scale[owner] * (1 + 1e-9)


def test_a_line_costs_one_evaluation_and_neighbours_cost_nothing():
    alone, _ = drive([ROUGH[0]])
    together, found = drive([line(0.2, 0.3), ROUGH[0], line(0.3, -0.2)])
    assert together.evaluations.tolist() == [1, alone.evaluations[0], 1]
    assert found[[0, 2]] == pytest.approx([0.3, -0.2])


def test_errors_are_relative_to_the_prompts_largest_layer_at_least():
    """A layer that changes little is held to a tenth of what the largest changes, of its own prompt alone."""
    little = swings(3.0, 0.001)
    large, small = line(0.1, 0.5), line(0.1, 1e-3)
    bisection, _ = drive([little, little, large, small], prompts=2)  # layers × prompts
    changes = np.abs(bisection.changes)
    assert bisection.scale == pytest.approx(
        [max(changes[0], 0.05), max(changes[1], 0.1 * max(changes[1], 1e-3)), 0.5, max(1e-3, 0.1 * changes[1])]
    )
    assert bisection.evaluations[0] < bisection.evaluations[1]


@pytest.mark.parametrize("most", [8, 20, 77])
def test_the_bound_on_evaluations_holds_and_leaves_a_whole_rule(most):
    bisection, _ = drive([ROUGH[1], line(0.2, 0.3)], tolerance=1e-9, most=most)
    assert most - 2 <= bisection.evaluations[0] <= most
    mine = bisection.owner == 0
    assert bisection.weights()[mine].sum() == pytest.approx(1.0, abs=1e-12)


def test_rounding_is_not_chased():
    """Log odds that jitter: what they leave of a small change of probability is no reason for more nodes."""
    unit = 2.0**-24
    smooth = (lambda alpha: 0.9 + 2e-5 * alpha**3, lambda alpha: 6e-5 * alpha**2)
    exact, _ = drive([smooth], unit=unit)
    noisy, _ = drive([smooth], unit=unit, noise=16 * unit)
    assert noisy.evaluations[0] <= exact.evaluations[0] + 12
    chased, _ = drive([smooth], unit=2.0**-53, noise=16 * unit)
    assert chased.evaluations[0] > 5 * noisy.evaluations[0]


def test_no_integral_at_all():
    bisection = Bisection(np.empty((3, 0)), np.empty((3, 0)), 1e-3, 100, 2.0**-24)
    assert len(bisection.ask()[0]) == 0


# --- rules on a panel ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7])
@given(coefficients=st.lists(st.floats(-3, 3), min_size=13, max_size=13))
@settings(max_examples=20, deadline=None)
def test_the_second_highest_coefficient_is_that_of_a_polynomial(size, coefficients):
    """P′ of degree 2m − 2 is told exactly by its values at the nodes and its integrals between them."""
    degree = 2 * size - 2
    function = np.polynomial.Legendre(coefficients[: degree + 1], domain=[0, 1])
    total = function.integ()
    rule = panel_rule(size)
    found = rule.from_slopes @ function(rule.nodes) + rule.from_changes @ np.diff(total(rule.nodes))
    assert found == pytest.approx(function.coef[degree - 1], abs=1e-8)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7])
def test_reach_bounds_the_rule_on_each_legendre_polynomial(size):
    rule = panel_rule(size)
    errors = [
        abs(rule.weights @ np.polynomial.Legendre.basis(k, domain=[0, 1])(rule.nodes)) for k in range(1, 2 * size - 1)
    ]
    assert rule.reach == pytest.approx(max(errors))
    assert tuple(rule.nodes) == rule_of(size).nodes


@given(high=st.floats(-60, 60), low=st.floats(-60, 60))
def test_changes_of_probability_lose_no_digits(high, low):
    with localcontext() as context:
        context.prec = 80
        one, other = (1 / (1 + (-Decimal(value)).exp()) for value in (high, low))
        expected = float(one - other)
    found = probability_changes(np.array(high), np.array(low))
    assert float(found) == pytest.approx(expected, rel=1e-12, abs=1e-60)


def test_the_larger_the_trapezoids_error_the_more_nodes_at_first():
    """By the documented c·e^(m−1), e relative to the change: also where the change itself is small."""
    rate, change = 2.0, 1e-3
    size = change / np.expm1(rate)
    exponential = (lambda a: 0.01 + size * np.exp(rate * a), lambda a: size * rate * np.exp(rate * a))
    off = rate * (np.exp(rate) + 1) / (2 * np.expm1(rate)) - 1  # of the trapezoid, as a share of the change
    for tolerance, nodes in ((1e-1, 3), (3e-4, 4), (1e-6, 5)):
        assert [0.2 * off**2 <= tolerance, 0.002 * off**3 <= tolerance, True].index(True) == nodes - 3
        odds, slope = logit(exponential[0](np.ones(1))), exponential[1](np.ones(1))
        bisection = Bisection(odds[None], slope[None], tolerance, 500, 2.0**-53)
        bisection.tell(logit(exponential[0](np.zeros(1))), exponential[1](np.zeros(1)))
        np.testing.assert_allclose(np.sort(bisection.ask()[1]), rule_of(nodes).nodes[1:-1])


def test_rounding_is_that_of_the_steepest_place():
    """Where P is close to 1 in the end, its odds' rounding counts for less than in the middle, and never for more."""

    def probability(alpha):
        return 1 / (1 + np.exp(8 - 20 * alpha))

    def slope(alpha):
        return 20 * probability(alpha) * (1 - probability(alpha))

    bisection, found = drive([(probability, slope)], tolerance=1e-6, unit=2.0**-24)
    assert found[0] == pytest.approx(float(bisection.changes[0]), abs=16 * 2.0**-24 * 0.25)


def test_a_bound_by_scores_is_each_prompts_own():
    """Two layers of two prompts: only the prompt whose largest score is tiny needs more nodes."""
    bisection, _ = drive([ROUGH[1]] * 4, prompts=2, tolerance=1e-2)
    bisection.bound(np.array([10.0, 1e-6]))
    assert set(bisection.ask()[0]) == {1, 3}
