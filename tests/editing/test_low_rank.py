"""Changes of value slots as thin factors: exact where few slots change, the best that there is where a rank is set."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kndb.editing.objects.low_rank import LowRank, added, closeness, low_rank

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def drawn(seed, neurons, width, dtype, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(neurons, width, generator=generator)).to(dtype)


def bits(values):
    return values.contiguous().view(torch.uint8)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(2, 9),
    st.integers(1, 6),
    st.sampled_from(sorted(DTYPES)),
    st.sampled_from([1e-6, 1e-3, 0.1, 1, 3, 1e3, 1e6]),
    st.data(),
)
def test_factors_of_some_slots_bring_the_bytes_as_far_as_float32_can(seed, neurons, width, dtype, scale, data):
    """Whatever the sizes of the values: what is added is off by at most half a step of its own."""
    before = drawn(seed, neurons, width, DTYPES[dtype])
    places = sorted(data.draw(st.sets(st.integers(0, neurons - 1), min_size=1)))
    after = before.clone()
    after[places] += drawn(seed + 1, len(places), width, torch.float32, scale).to(after.dtype)
    changed = (bits(before) != bits(after)).any(1).nonzero().flatten()
    if not len(changed) or not torch.isfinite(after).all():
        return
    found = low_rank(before, after)
    assert found.rank == min(len(changed), width)
    assert found.lost == 0
    result = found.added_to(before)
    off, moved = (result.double() - after.double()).abs(), (after.double() - before.double()).abs()
    assert bool((off <= 2**-23 * moved).all())
    # Where less is added than is there then, every value can be reached.
    assert bool((off[moved <= after.double().abs()] == 0).all())
    measured = closeness(before, after, result)
    equal = (bits(result) == bits(after)).all(1)
    assert (measured.slots, measured.slots_equal) == (len(changed), int(equal[changed].sum()))
    assert measured.values == len(changed) * width
    alike = bits(result).view(neurons, width, -1) == bits(after).view(neurons, width, -1)
    assert measured.values_equal == int(alike.all(2)[changed].sum())
    assert measured.largest_difference == off.max()
    assert measured.relative_error == pytest.approx(float(off.norm() / moved.norm()))
    # The other slots get exactly nothing.
    others = [place for place in range(neurons) if place not in changed.tolist()]
    assert not found.left[others].any()
    assert torch.equal(bits(result[others]), bits(before[others]))


def test_zeros_of_either_sign_keep_their_bytes_where_nothing_is_added():
    before = torch.tensor([[0.0, -0.0, 1.0], [-0.0, 2.0, -0.0]])
    assert torch.equal(bits(added(before, torch.zeros(2, 3))), bits(before))


@pytest.mark.parametrize("most", [1, 3, 5])
def test_a_set_rank_keeps_the_largest_singular_values(most):
    before, change = torch.zeros(12, 8), drawn(3, 12, 8, torch.float32).double()
    found = low_rank(before, change.float(), most=most)
    assert found.rank == most
    u, s, v = np.linalg.svd(change.float().double().numpy(), full_matrices=False)
    best = (u[:, :most] * s[:most]) @ v[:most]
    assert np.allclose((found.left.double() @ found.right.double()).numpy(), best, atol=1e-6)
    assert found.lost == pytest.approx(np.abs(change.numpy() - best).max(), abs=1e-6)
    measured = closeness(before, change.float(), found.added_to(before))
    assert measured.relative_error == pytest.approx(np.sqrt((s[most:] ** 2).sum() / (s**2).sum()), rel=1e-4)
    assert measured.slots_equal == 0


def test_known_factors_are_taken_where_they_are_thinner():
    before = drawn(0, 12, 8, torch.float32)
    left, right = drawn(1, 12, 2, torch.float64), drawn(2, 2, 8, torch.float64)
    after = (before.double() + left @ right).float()
    found = low_rank(before, after, (left, right))
    assert torch.equal(found.left, left.float())
    assert torch.equal(found.right, right.float())
    # One of as high a rank as all slots allow says no more than the change itself.
    wide = drawn(1, 12, 8, torch.float64), torch.eye(8, dtype=torch.float64)
    assert low_rank(before, after, wide).rank == 8
    assert low_rank(before, after, (left, right), most=1).rank == 1
    assert low_rank(before, after, (left, right), most=2).left is not left


def test_a_scale_multiplies_the_product():
    before, left, right = drawn(0, 4, 3, torch.float32), drawn(1, 4, 2, torch.float32), drawn(2, 2, 3, torch.float32)
    found = LowRank(left, right).added_to(before, 0.5)
    assert torch.allclose(found, before + 0.5 * left @ right, atol=1e-6)
