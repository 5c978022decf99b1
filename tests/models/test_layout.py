"""Layouts of value slots against indexing by hand, in memory and in bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kndb.models.layout import SlotLayout

SHAPE = (5, 7)
VALUES = np.arange(35, dtype=np.float32).reshape(SHAPE)


def by_hand(layout: SlotLayout, neuron: int) -> np.ndarray:
    return VALUES[neuron] if layout is SlotLayout.ROW else VALUES[:, neuron]


@pytest.mark.parametrize("layout", SlotLayout)
def test_slots_are_read_and_written_as_k_by_d(layout):
    parameter = torch.nn.Parameter(torch.from_numpy(VALUES.copy()))
    assert (layout.slots(SHAPE), layout.width(SHAPE)) == (SHAPE if layout is SlotLayout.ROW else SHAPE[::-1])
    chosen = torch.tensor([4, 1])
    found = layout.read(parameter, chosen)
    assert found.numpy().tolist() == [by_hand(layout, 4).tolist(), by_hand(layout, 1).tolist()]
    assert found.is_contiguous()
    assert not found.requires_grad
    assert torch.equal(layout.by_neuron(parameter)[chosen], found)
    layout.write(parameter, chosen, found + 100)
    assert torch.equal(layout.read(parameter, chosen), found + 100)
    others = [neuron for neuron in range(layout.slots(SHAPE)) if neuron not in (1, 4)]
    assert layout.read(parameter, torch.tensor(others)).tolist() == [by_hand(layout, one).tolist() for one in others]
    assert parameter.requires_grad
    assert parameter.grad_fn is None


@pytest.mark.parametrize("layout", SlotLayout)
def test_runs_are_where_the_slots_numbers_lie(layout):
    flat = VALUES.reshape(-1)
    for neuron in range(layout.slots(SHAPE)):
        runs = layout.runs(SHAPE, neuron)
        starts = range(runs.first, runs.first + runs.count * runs.stride, runs.stride)
        found = np.concatenate([flat[start : start + runs.width] for start in starts])
        assert found.tolist() == by_hand(layout, neuron).tolist()


EXPERTS = np.arange(2 * 5 * 7, dtype=np.float32).reshape(2, 5, 7)


def expert_by_hand(layout: SlotLayout, neuron: int) -> np.ndarray:
    expert, within = divmod(neuron, 5 if layout is SlotLayout.ROW else 7)
    return EXPERTS[expert, within] if layout is SlotLayout.ROW else EXPERTS[expert, :, within]


@pytest.mark.parametrize("layout", SlotLayout)
def test_experts_have_their_slots_one_after_the_other(layout):
    shape = EXPERTS.shape
    count = layout.slots(shape)
    assert (count, layout.width(shape)) == ((10, 7) if layout is SlotLayout.ROW else (14, 5))
    parameter = torch.nn.Parameter(torch.from_numpy(EXPERTS.copy()))
    by_hand = np.stack([expert_by_hand(layout, neuron) for neuron in range(count)])
    assert layout.by_neuron(parameter).tolist() == by_hand.tolist()
    chosen = torch.tensor([count - 1, 0, 6])
    found = layout.read(parameter, chosen)
    assert found.tolist() == by_hand[chosen.numpy()].tolist()
    assert found.is_contiguous()
    layout.write(parameter, chosen, found + 100)
    by_hand[chosen.numpy()] += 100
    assert layout.by_neuron(parameter).tolist() == by_hand.tolist()
    for neuron in range(count):
        runs = layout.runs(shape, neuron)
        starts = range(runs.first, runs.first + runs.count * runs.stride, runs.stride)
        read = np.concatenate([EXPERTS.reshape(-1)[start : start + runs.width] for start in starts])
        assert read.tolist() == expert_by_hand(layout, neuron).tolist()


def test_files_have_words_for_layouts():
    assert {layout.word: SlotLayout(layout.word) for layout in SlotLayout} == {
        "row": SlotLayout.ROW,
        "column": SlotLayout.COLUMN,
    }
