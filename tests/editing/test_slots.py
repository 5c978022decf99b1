"""Value slots: copied, hashed and written by bytes; an edit object goes in as a whole or not at all."""

import hashlib
import math

import pytest
import torch

from kndb.editing.objects import slots
from kndb.editing.objects.diff_file import EditObject
from kndb.errors import ConflictError, EditError, FingerprintError
from kndb.records.edits import SlotChange
from kndb.records.recipes import read_recipe

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_reading_and_putting_slots(dtype):
    matrix = torch.randn(5, 7).to(dtype)
    before = matrix.clone()
    rows = slots.read_slots(matrix, "row", torch.tensor([0, 4]))
    columns = slots.read_slots(matrix, "column", torch.tensor([6, 2]))
    assert torch.equal(rows, before[[0, 4], :])
    assert torch.equal(columns, before[:, [6, 2]].t())
    assert rows.is_contiguous()
    assert columns.is_contiguous()
    rows.zero_()
    columns.zero_()
    assert torch.equal(matrix, before)
    slots.put_slots(matrix, "row", torch.tensor([0, 4]), rows)
    slots.put_slots(matrix, "column", torch.tensor([6, 2]), columns)
    before[[0, 4], :] = 0
    before[:, [6, 2]] = 0
    assert raw(matrix) == raw(before)


def test_putting_slots_works_on_parameters_in_place():
    parameter = torch.nn.Parameter(torch.randn(3, 4))
    address = parameter.data_ptr()
    values = slots.read_slots(parameter, "column", torch.tensor([1]))
    assert not values.requires_grad
    slots.put_slots(parameter, "column", torch.tensor([1]), values + 1)
    assert parameter.data_ptr() == address
    assert parameter.requires_grad
    assert parameter.grad_fn is None


def test_a_transposed_view_is_written_through():
    storage = torch.randn(4, 3)
    view = storage.t()
    slots.put_slots(view, "row", torch.tensor([2]), torch.full((1, 4), 9.0))
    assert torch.equal(storage[:, 2], torch.full((4,), 9.0))


@pytest.mark.parametrize(
    ("dtype", "name"), list(zip(DTYPES, ("float16", "bfloat16", "float32", "float64"), strict=True))
)
def test_hashes_are_of_dtype_and_bytes(dtype, name):
    values = torch.tensor([[0.0, 1.5], [-0.0, 1.5]]).to(dtype)
    hashes = slots.slot_hashes(values)
    assert hashes == [hashlib.sha256(name.encode() + raw(row)).hexdigest() for row in values]
    assert hashes[0] != hashes[1]


def test_changes_lists_each_slot(make_edit):
    edit = make_edit(indices=(2, 5))
    diff = edit.parameters[0]
    old, new = slots.slot_hashes(diff.old), slots.slot_hashes(diff.new)
    assert slots.changes(edit) == [
        SlotChange("layers.1.down.weight", 1, 2, old[0], new[0]),
        SlotChange("layers.1.down.weight", 1, 5, old[1], new[1]),
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["row", "column"])
def test_apply_and_reverse_is_the_identity(make_edit, dtype, layout):
    matrix = (torch.randn(9, 9) * 1000).to(dtype)
    matrix[1, 1] = -0.0
    before = raw(matrix)
    edit = make_edit(matrix, name="w", layout=layout)
    slots.apply_object({"w": matrix}, edit)
    assert raw(matrix) != before
    assert raw(slots.read_slots(matrix, layout, edit.parameters[0].indices)) == raw(edit.parameters[0].new)
    slots.apply_object({"w": matrix}, edit, reverse=True)
    assert raw(matrix) == before


def two_parameters(make_edit) -> tuple[dict[str, torch.Tensor], EditObject]:
    parameters = {"a": torch.randn(4, 6), "b": torch.randn(6, 4)}
    one = make_edit(parameters["a"], name="a", layer=0)
    two = make_edit(parameters["b"], name="b", layout="row")
    layers, shapes = {"a": 0, "b": 1}, {**one.shapes, **two.shapes}
    return parameters, EditObject("f", read_recipe("update", {}), one.parameters + two.parameters, layers, shapes)


def check_refused(parameters, edit, kind, *words, reverse=False):
    before = {name: raw(tensor) for name, tensor in parameters.items()}
    with pytest.raises(kind) as caught:
        slots.apply_object(parameters, edit, reverse=reverse)
    assert all(word in str(caught.value) for word in words), caught.value
    assert {name: raw(tensor) for name, tensor in parameters.items()} == before


def test_a_bit_that_differs_is_refused_before_anything_is_written(make_edit):
    parameters, edit = two_parameters(make_edit)
    parameters["b"].view(torch.int32)[3, 2] ^= 1
    found = slots.slot_hashes(parameters["b"][3:4])[0][:12]
    check_refused(parameters, edit, ConflictError, "1 of 3 value slots of b", "L1.N3", found, "db.edits.log()")
    check_refused(parameters, edit, ConflictError, "3 of 3", "L0.N1, L0.N3, L0.N4", reverse=True)


def test_zeros_of_other_sign_differ_and_nan_equals_itself(make_edit):
    matrix = torch.zeros(4, 6)
    edit = make_edit(matrix, name="w")
    matrix[0, 3] = -0.0
    check_refused({"w": matrix}, edit, ConflictError, "L1.N3")
    matrix[0, 3] = math.nan
    check_refused({"w": matrix}, edit, ConflictError, "L1.N3")
    present = slots.read_slots(matrix, "column", torch.tensor([3]))
    assert raw(present) == raw(slots.read_slots(matrix, "column", torch.tensor([3])))


@pytest.mark.fault("an edit for another model")
def test_a_parameter_that_does_not_fit_is_refused(make_edit):
    parameters, edit = two_parameters(make_edit)
    check_refused({"a": parameters["a"]}, edit, EditError, "no parameter b", "db.models.all()")
    half = {**parameters, "b": parameters["b"].half()}
    check_refused(half, edit, EditError, "torch.float16 [6, 4]", "expects torch.float32 [6, 4]")
    wide = {**parameters, "b": torch.cat([parameters["b"]] * 2, dim=1)}
    check_refused(wide, edit, EditError, "torch.float32 [6, 8]", "expects torch.float32 [6, 4]")


def test_the_message_names_only_the_first_slots(make_edit):
    matrix = torch.randn(3, 9)
    edit = make_edit(matrix, name="w", indices=tuple(range(9)))
    matrix += 1
    check_refused({"w": matrix}, edit, ConflictError, "9 of 9", "L1.N4, …")


@pytest.mark.fault("an edit for another model")
def test_another_checkpoint_is_refused(make_edit):
    edit = make_edit(fingerprint="one")
    slots.check_fingerprint(edit, "one")
    with pytest.raises(FingerprintError, match=r"fingerprint one, and this one has two; find its model"):
        slots.check_fingerprint(edit, "two")
