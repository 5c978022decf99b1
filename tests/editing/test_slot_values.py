"""Values as bytes, beside struct and torch: which are finite, what numbers they are, and where in a file they lie."""

from __future__ import annotations

import math
import random
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from kndb.editing.objects import checkpoint_values
from kndb.editing.objects.checkpoint_values import CheckpointValues, DisagreementError
from kndb.editing.objects.slot_bytes import SlotPlace, is_finite, numbers

DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


@given(st.sampled_from(sorted(DTYPES)), st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=12), st.data())
@settings(max_examples=300, deadline=None)
def test_numbers_and_whether_they_are_finite(dtype, drawn, data):
    content = b"".join(drawn)
    if data.draw(st.booleans()):  # Exponents of the largest numbers, of infinity and NaN.
        high = data.draw(st.sampled_from([b"\x7f", b"\xff", b"\x7b", b"\xfc"]))
        content = content[:-1] + high
    expected = torch.frombuffer(bytearray(content), dtype=DTYPES[dtype])
    assert is_finite(dtype, content) == bool(torch.isfinite(expected).all())
    found, wanted = numbers(dtype, content), expected.double().tolist()
    assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_the_edges_of_each_dtype(dtype):
    kind = torch.finfo(DTYPES[dtype])
    for value in (kind.max, kind.min, kind.tiny, kind.smallest_normal, 0.0, -0.0):
        one = torch.tensor([1.0, value], dtype=DTYPES[dtype])
        assert is_finite(dtype, one.view(torch.uint8).numpy().tobytes())
        assert list(numbers(dtype, one.view(torch.uint8).numpy().tobytes())) == one.double().tolist()
    for value in (math.inf, -math.inf, math.nan):
        one = torch.tensor([value, 1.0], dtype=DTYPES[dtype])
        assert not is_finite(dtype, one.view(torch.uint8).numpy().tobytes())


@pytest.mark.parametrize("layout", ["row", "column"])
@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("few", [64, 2])
def test_slots_are_read_where_they_lie(tmp_path, monkeypatch, dtype, layout, few):
    monkeypatch.setattr(checkpoint_values, "_FEW", few)
    monkeypatch.setattr(checkpoint_values, "_CHUNK", 100)
    tensors = {name: torch.randn(13, 9).to(DTYPES[dtype]) for name in ("a.w", "b.w")}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    draw = random.Random(1)
    chosen = [
        SlotPlace(name, 0, index, layout, dtype, (13, 9)) for name in tensors for index in draw.sample(range(9), 5)
    ]
    values = CheckpointValues(tmp_path)
    for place, found in zip(chosen, values.held(chosen), strict=True):
        matrix = tensors[place.parameter].double().tolist()
        expected = matrix[place.neuron] if layout == "row" else [row[place.neuron] for row in matrix]
        letter = {"F16": "e", "F32": "f", "F64": "d"}.get(dtype)
        if letter:
            assert found == struct.pack(f"<{len(expected)}{letter}", *expected)
        assert list(numbers(dtype, found)) == expected


def test_a_file_that_becomes_shorter_is_no_answer(tmp_path):
    save_file({"a.w": torch.zeros(40, 50)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    place = SlotPlace("a.w", 0, 3, "column", "F32", (40, 50))
    values = CheckpointValues(tmp_path)
    values.held([place])
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(DisagreementError, match="became shorter"):
        values.held([SlotPlace("a.w", 0, 4, "column", "F32", (40, 50))])
