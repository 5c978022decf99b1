"""Fluency against entropies worked out by hand."""

import math

import pytest

from kndb.analysis.fluency import fluency, ngram_entropy


def test_entropies_of_n_grams():
    words = ["a", "b", "a", "b", "c"]
    # ab ba ab bc: 1/2, 1/4, 1/4. Trigrams aba bab abc: 1/3 each.
    assert ngram_entropy(words, 2) == pytest.approx(1.5)
    assert ngram_entropy(words, 3) == pytest.approx(math.log2(3))
    assert ngram_entropy(words[:2], 3) == 0


def test_fluency_is_the_weighted_mean_of_romes_paper():
    assert fluency("a b a b c") == pytest.approx((2 / 3 * 1.5 + 4 / 3 * math.log2(3)) / 2)
    assert fluency("Rome, Rome, Rome, Rome, Rome, Rome,") == pytest.approx(
        (2 / 3 * _two(6, 5) + 4 / 3 * _two(5, 5)) / 2
    )
    assert fluency("") == 0
    varied = " ".join(f"w{number}" for number in range(40))
    assert fluency(varied) == pytest.approx((2 / 3 * math.log2(39) + 4 / 3 * math.log2(38)) / 2)


def _two(first: int, second: int) -> float:
    """The entropy of two outcomes seen so often."""
    total = first + second
    return -sum(count / total * math.log2(count / total) for count in (first, second))
