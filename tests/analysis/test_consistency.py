"""Mean Jaccard indices and their distribution, against fractions and numpy."""

import random
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

from kndb.analysis.consistency import distribution, mean_jaccard


@pytest.mark.parametrize("seed", range(20))
def test_mean_jaccard(seed):
    chance = random.Random(seed)
    sets = [set(chance.sample(range(8), chance.choice([0, 0, 1, 3, 6]))) for _ in range(chance.randrange(7))]
    values = [Fraction(len(a & b), len(a | b)) for a, b in combinations(sets, 2) if a | b]
    expected = float(sum(values) / len(values)) if values else None
    assert mean_jaccard(sets) == pytest.approx(expected)


def test_empty_sets():
    assert mean_jaccard([]) is None
    assert mean_jaccard([{1}]) is None
    assert mean_jaccard([set(), set()]) is None
    assert mean_jaccard([set(), {1}]) == 0
    assert mean_jaccard([{1, 2}, {2, 1}]) == 1


@pytest.mark.parametrize("count", [1, 2, 3, 10, 51])
def test_distribution(count):
    values = np.random.default_rng(count).random(count)
    found = distribution("P36", values.tolist())
    assert (found.relation, found.facts) == ("P36", count)
    assert found.mean == pytest.approx(values.mean())
    quartiles = (found.first_quartile, found.median, found.third_quartile)
    assert quartiles == pytest.approx(tuple(np.quantile(values, [0.25, 0.5, 0.75])))
