"""ROME, MEMIT, EMMET and AlphaEdit: their equations against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kndb.editing.many import alphaedit, emmet, memit, rome
from kndb.editing.many.solving import typical_entry
from kndb.errors import EditError

NEURONS, WIDTH, FACTS = 12, 7, 4


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(rank: int = 40, seed: int = 1) -> torch.Tensor:
    keys = draw(rank, NEURONS, seed=seed)
    return keys.T @ keys / rank


KEYS, RESIDUAL, WEIGHT = draw(NEURONS, FACTS, seed=2), draw(WIDTH, FACTS, seed=3), draw(WIDTH, NEURONS, seed=4)


def cost(change: torch.Tensor, matrix: torch.Tensor) -> float:
    return (change @ matrix @ change.T).trace().item()


def test_rome_gives_one_key_exactly_its_output():
    key, target = KEYS[:, :1], draw(WIDTH, 1, seed=5)
    changed = WEIGHT + (target - WEIGHT @ key) @ rome.solve(key, covariance())
    assert torch.allclose(changed @ key, target, rtol=1e-12, atol=1e-12)


def test_romes_change_is_the_least_for_other_keys():
    key, matrix = KEYS[:, :1], covariance()
    change = RESIDUAL[:, :1] @ rome.solve(key, matrix)
    for seed in range(5):
        other = draw(WIDTH, NEURONS, seed=10 + seed)
        other -= other @ key @ key.T / (key.T @ key)  # Gives the key nothing.
        assert cost(change + 0.01 * other, matrix) > cost(change, matrix)


def test_rome_takes_one_key():
    with pytest.raises(EditError, match="one fact at once"):
        rome.solve(KEYS, covariance())
    with pytest.raises(EditError, match="zero in this layer"):
        rome.solve(torch.zeros(NEURONS, 1, dtype=torch.float64), covariance())


@pytest.mark.parametrize("preserve", [0.1, 1.0, 30.0])
def test_memit_is_the_least_squares_solution_of_the_stacked_problem(preserve):
    matrix = covariance()
    weighted = memit.weight(KEYS, matrix, preserve) * matrix
    root = torch.linalg.cholesky(weighted)  # root·rootᵀ = λC: its columns are keys that are to give nothing.
    stacked = torch.cat([KEYS, root], 1)
    wanted = torch.cat([RESIDUAL, torch.zeros(WIDTH, NEURONS, dtype=torch.float64)], 1)
    expected = torch.linalg.lstsq(stacked.T, wanted.T).solution.T
    assert torch.allclose(RESIDUAL @ memit.solve(KEYS, matrix, preserve), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_a_key_alone_gets_a_share_of_what_it_lacks_whatever_the_covariances_scale(scale):
    key = KEYS[:, :1]
    change = RESIDUAL[:, :1] @ memit.solve(key, scale * covariance(), 3.0)
    assert torch.allclose(change @ key, RESIDUAL[:, :1] / 4, rtol=1e-10, atol=1e-10)


def test_emmet_gives_each_key_exactly_its_output_at_the_least_cost():
    matrix = covariance()
    change = RESIDUAL @ emmet.solve(KEYS, matrix, 0.0)
    assert torch.allclose(change @ KEYS, RESIDUAL, rtol=1e-10, atol=1e-10)
    # The first-order condition of the constrained least: Δ C = Λ Kᵀ for some Λ.
    multipliers = torch.linalg.lstsq(KEYS, (change @ matrix).T).solution.T
    assert torch.allclose(multipliers @ KEYS.T, change @ matrix, rtol=1e-9, atol=1e-10)


def test_emmet_with_slack_is_memit_with_that_weight():
    matrix = covariance()
    gram = KEYS.T @ torch.linalg.inv(matrix) @ KEYS
    weight = 0.3 * gram.diagonal().mean()
    expected = KEYS.T @ torch.linalg.inv(weight * matrix + KEYS @ KEYS.T)
    assert torch.allclose(emmet.solve(KEYS, matrix, 0.3), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("keys", [torch.cat([KEYS, KEYS[:, :1]], 1), draw(NEURONS, NEURONS + 1)])
def test_emmet_refuses_keys_that_depend_on_one_another(keys):
    with pytest.raises(EditError, match="can't all be given"):
        emmet.solve(keys, covariance(), 0.0)


def low_rank() -> tuple[torch.Tensor, torch.Tensor]:
    """A covariance of keys in seven directions of twelve, and such keys."""
    keys = draw(7, NEURONS, seed=6)
    return keys.T @ keys / 7, keys.T


def test_the_null_space_is_what_the_keys_lack():
    matrix, keys = low_rank()
    basis = alphaedit.null_space(matrix, 1e-6)
    assert basis.shape == (NEURONS, NEURONS - np.linalg.matrix_rank(keys.numpy()))
    assert torch.allclose(basis.T @ keys, torch.zeros(1, dtype=torch.float64), atol=1e-10)
    assert torch.allclose(basis.T @ basis, torch.eye(basis.shape[1], dtype=torch.float64), atol=1e-12)


def test_alphaedit_is_its_published_formula():
    matrix, _ = low_rank()
    basis = alphaedit.null_space(matrix, 1e-6)
    projector, earlier = basis @ basis.T, draw(NEURONS, 2, seed=8)
    damping = 0.2 * (projector @ KEYS).square().sum(0).mean()
    system = earlier @ earlier.T @ projector + KEYS @ KEYS.T @ projector + damping * torch.eye(NEURONS).double()
    expected = KEYS.T @ projector @ torch.linalg.inv(system)
    assert torch.allclose(alphaedit.solve(KEYS, basis, earlier, 0.2), expected, rtol=1e-9, atol=1e-11)


def test_alphaedit_changes_nothing_outside_the_null_space():
    matrix, kept = low_rank()
    basis = alphaedit.null_space(matrix, 1e-6)
    change = RESIDUAL @ alphaedit.solve(KEYS, basis, None, 0.01)
    assert torch.allclose(change @ basis @ basis.T, change, rtol=1e-10, atol=1e-10)
    assert torch.allclose((WEIGHT + change) @ kept, WEIGHT @ kept, rtol=1e-10, atol=1e-9)


def test_alphaedit_keeps_what_earlier_edits_gave():
    """With next to no damping, where there is room for all keys, earlier ones get nothing and the new ones all."""
    matrix, _ = low_rank()
    basis = alphaedit.null_space(matrix, 1e-6)
    earlier = draw(NEURONS, 1, seed=8)
    change = RESIDUAL @ alphaedit.solve(KEYS, basis, earlier, 1e-12)
    assert torch.allclose(change @ earlier, torch.zeros(1, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(change @ KEYS, RESIDUAL, atol=1e-6)


def test_alphaedit_says_that_there_is_no_null_space():
    with pytest.raises(EditError, match="no null space"):
        alphaedit.solve(KEYS, alphaedit.null_space(covariance(), 1e-3), None, 0.1)


@pytest.mark.fault("a covariance that is singular")
@pytest.mark.parametrize("scale", [0.0, 1e-13])
def test_what_can_not_be_solved_is_refused(scale):
    matrix, _ = low_rank()
    matrix = matrix + scale * torch.eye(NEURONS, dtype=torch.float64)
    for solve in (
        lambda: rome.solve(KEYS[:, :1], matrix),
        lambda: memit.solve(KEYS, matrix, 1.0),
        lambda: emmet.solve(KEYS, matrix, 0.0),
    ):
        with pytest.raises(
            EditError, match=r"the covariance is singular, or next to it.*Raise ridge, or count it on more"
        ):
            solve()


def test_keys_that_are_zero_are_refused():
    nothing = torch.zeros_like(KEYS)
    with pytest.raises(EditError, match="keys are zero in this layer"):
        memit.solve(nothing, covariance(), 1.0)
    basis = torch.eye(NEURONS, 3, dtype=torch.float64)
    outside = torch.cat([nothing[:3], KEYS[3:]])
    with pytest.raises(EditError, match="no key has anything in the null space"):
        alphaedit.solve(outside, basis, None, 0.1)


def test_idle_neurons_are_null_space_and_do_not_set_the_scale():
    """As in a layer with ReLU: eight of twelve neurons are never active."""
    keys = draw(40, NEURONS, seed=9)
    keys[:, 4:] = 0
    matrix = keys.T @ keys / 40
    assert typical_entry(matrix) == matrix.diagonal()[:4].median()
    basis = alphaedit.null_space(matrix, 1e-9)
    assert basis.shape == (NEURONS, 8)
    assert torch.allclose(basis[:4], torch.zeros(1, dtype=torch.float64))
