"""Probabilities by their log odds, against arithmetic with fifty digits."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kndb.attribution.log_odds import answer_log_odds, probability_change, probability_slope

ODDS = st.floats(-60, 60, width=32)


def sigmoid(odds: float) -> Decimal:
    return 1 / (1 + (-Decimal(odds)).exp())


@given(high=ODDS, low=ODDS)
def test_changes_of_probability(high, low):
    with localcontext() as context:
        context.prec = 60
        expected = float(sigmoid(high) - sigmoid(low))
    for dtype, relative in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        found = probability_change(torch.tensor(high, dtype=dtype), torch.tensor(low, dtype=dtype))
        assert float(found) == pytest.approx(expected, rel=relative, abs=1e-37)


@given(odds=ODDS)
def test_slopes_of_probability(odds):
    with localcontext() as context:
        context.prec = 60
        expected = float(sigmoid(odds) * (1 - sigmoid(odds)))
    for dtype, relative in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        found = probability_slope(torch.tensor(odds, dtype=dtype, requires_grad=True))
        assert float(found) == pytest.approx(expected, rel=relative)
        assert not found.requires_grad


def test_changes_keep_their_shape_and_sign():
    odds = torch.tensor([[0.0, 3.0], [14.0, -2.0]])
    found = probability_change(odds, odds.flip(1))
    torch.testing.assert_close(found, torch.sigmoid(odds) - torch.sigmoid(odds.flip(1)))
    assert torch.equal(probability_change(odds, odds), torch.zeros(2, 2))


@given(
    logits=st.lists(st.floats(-40, 40, width=32), min_size=3, max_size=6),
    answer=st.integers(0, 2),
    shift=st.floats(0, 30),
)
def test_log_odds_of_an_answer(logits, answer, shift):
    logits[answer] += shift
    single = torch.tensor(logits, dtype=torch.float32)
    with localcontext() as context:
        context.prec = 60
        values = [Decimal(float(value)) for value in single]
        others = sum((value.exp() for place, value in enumerate(values) if place != answer), Decimal(0))
        expected = float(values[answer] - others.ln())
    for dtype, absolute in ((torch.float32, 3e-5), (torch.float64, 1e-12)):
        found = answer_log_odds(single.to(dtype).view(1, -1), torch.tensor([answer]))
        assert found.dtype == dtype
        assert float(found) == pytest.approx(expected, abs=absolute)


def test_log_odds_of_many_rows_and_low_precision():
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    answer = torch.tensor([0, 6, 2, 2])
    probabilities = logits.double().softmax(-1)[torch.arange(4), answer]
    torch.testing.assert_close(answer_log_odds(logits.double(), answer), torch.logit(probabilities))
    rounded = logits.bfloat16()
    found = answer_log_odds(rounded, answer)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, answer_log_odds(rounded.float(), answer))
