"""Which edits wrote a slot, against the log replayed in plain Python and the bytes that a version holds."""

from __future__ import annotations

import hashlib
import random

import pytest
import torch
from causal_families import causal_model
from masked_families import byte_level
from random_edits import plan_random

from kndb.database import open_database
from kndb.errors import ConflictError, DiffFileError, EditError, NotFoundError, UsageError
from kndb.records.models import Neuron

DOWN = {"bert": "bert.encoder.layer.{}.output.dense.weight", "gpt2": "transformer.h.{}.mlp.c_proj.weight"}


def slot(database, family, neuron, version):
    """A neuron's value slot in a version's plain model."""
    parameters = dict(database.load_model("tiny", version).named_parameters())
    values = parameters[DOWN[family].format(neuron.layer)].detach()
    return (values[:, neuron.index] if family == "bert" else values[neuron.index]).clone()


@pytest.mark.parametrize("seed", [1, 2])
def test_writings_are_those_of_the_log(fresh, family, seed, monkeypatch):
    database, draw = fresh(family), random.Random(seed)
    pool = [(layer, index) for layer in (0, 1) for index in (3, 4)]
    database.snapshots.create("start", "tiny")
    planned = []
    while len(planned) < 5 or len(database.edits.log("tiny")) < 9:
        monkeypatch.setenv("KNDB_AUTHOR", draw.choice(["ada", "bob"]))
        applied = [edit.id for edit in database.edits.all("tiny") if edit.applied]
        action = draw.random()
        try:
            if action < 0.35:
                planned.append(plan_random(database, len(planned), draw.sample(pool, 2)))
            elif action < 0.7 and planned:
                database.edits.apply(draw.choice([one for one in planned if one not in applied]))
            elif action < 0.9 and applied:
                database.edits.revert(draw.choice(applied))
            else:
                database.snapshots.restore("start", "tiny")
        except (ConflictError, IndexError):
            continue
    touched = {number: {(one.layer, one.neuron) for one in database.edits.slots(number)} for number in planned}
    log = database.edits.log("tiny")
    for place in pool:
        neuron = Neuron(*place)
        # The log in plain Python: who is applied after each step.
        stack: list[int] = []
        wanted: list[list[object]] = []
        for entry in log:
            if entry.edit in stack:
                stack.remove(entry.edit)
                row = next((row for row in reversed(wanted) if row[0] == entry.edit and row[2] is None), None)
                if row is not None:
                    row[2] = entry.id
            else:
                stack.append(entry.edit)
                if place in touched[entry.edit]:
                    wanted.append([entry.edit, entry.id, None, entry.author])
        last = next((number for number in reversed(stack) if place in touched[number]), None)
        found = database.edits.blame("tiny", [str(neuron)])
        assert [[one.edit, one.step, one.reverted_step, one.applied_by] for one in found.writes] == wanted
        for one in found.writes:
            status = "reverted" if one.reverted_step else "in effect" if one.edit == last else "overwritten"
            assert one.status == status
            step = next(entry for entry in log if entry.id == one.step)
            before, after = (slot(database, family, neuron, name) for name in (step.version_before, step.version_after))
            assert one.relative_change == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-5)
            for values, expected in ((before, one.old_sha256), (after, one.new_sha256)):
                assert hashlib.sha256(b"float32" + values.contiguous().numpy().tobytes()).hexdigest() == expected
        never = {number for number in planned if place in touched[number]} - {entry.edit for entry in log}
        assert found.never_applied == tuple(sorted(never))


def test_ranges_edits_and_what_is_named_wrongly(fresh):
    database = fresh("bert")
    first = plan_random(database, 1, [(0, 3), (0, 7), (1, 5)])
    database.edits.apply(first)
    named = {
        ("L0.N3-7",): ["L0.N3", "L0.N7"],
        ("L0.N3-L0.N7",): ["L0.N3", "L0.N7"],
        ("l0.n0-6", "L0.N3", "L1.N5"): ["L0.N3", "L1.N5"],
        ("L0.N4-6",): [],
    }
    for slots, expected in named.items():
        assert [one.slot for one in database.edits.blame("tiny", slots).writes] == expected
    of_edit = database.edits.blame("tiny", edit=first)
    assert of_edit.slots == ("L0.N3", "L0.N7", "L1.N5")
    assert {one.status for one in of_edit.writes} == {"in effect"}
    for slots, said in (
        ((), "there is no slot to look at"),
        (("L0.N7-3",), "ends before it begins; write L0.N3-7"),
        (("L0.N3-L1.N4",), "spans layers"),
        (("L2.N0",), "has no neuron L2.N0"),
        (("L0.N60-64",), "has no neuron L0.N64"),
        (("L0N3",), "did you mean L0.N3"),
    ):
        with pytest.raises(UsageError, match=said):
            database.edits.blame("tiny", slots)
    with pytest.raises(NotFoundError, match=r"changes a parameter 'bert\.pooler\.weight' as a whole"):
        database.edits.blame("tiny", ["bert.pooler.weight"])
    with pytest.raises(NotFoundError, match="no edit 99"):
        database.edits.blame("tiny", edit=99)
    with pytest.raises(NotFoundError):
        database.edits.blame("nobody", ["L0.N1"])


def test_another_models_edit_and_a_damaged_object(fresh, small_models):
    database = fresh("bert")
    database.models.add(str(small_models["gpt2"]), "other")
    number = plan_random(database, 1, [(0, 3)])
    with pytest.raises(EditError, match=f"edit {number} is of model 'tiny', not of 'other'"):
        database.edits.blame("other", edit=number)
    database.edits.apply(number)
    (database.store.objects / database.edits.get(number).object_path).write_bytes(b"no object")
    with pytest.raises(DiffFileError):
        database.edits.blame("tiny", ["L0.N3"])


def test_whole_parameters_and_factors_of_a_capture(fresh, family, small_models, tmp_path):
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

    kind = AutoModelForMaskedLM if family == "bert" else AutoModelForCausalLM
    model = kind.from_pretrained(small_models[family])
    parameters = dict(model.named_parameters())
    norm = next(name for name in parameters if "norm" in name.lower() or "ln_1" in name)
    old = parameters[norm].detach().clone()
    with torch.no_grad():
        parameters[norm].mul_(1.25)
        shape = parameters[DOWN[family].format(0)].shape
        parameters[DOWN[family].format(0)] += 0.1 * torch.outer(torch.randn(shape[0]), torch.randn(shape[1]))
    model.save_pretrained(tmp_path / "edited")
    AutoTokenizer.from_pretrained(small_models[family]).save_pretrained(tmp_path / "edited")
    database = fresh(family)
    captured = database.edits.draft_capture("tiny", str(tmp_path / "edited"))
    edit = database.edits.add(captured.draft)
    database.edits.apply(edit.id)
    (of_norm,) = database.edits.blame("tiny", [norm]).writes
    new = parameters[norm].detach()
    assert (of_norm.slot, of_norm.parameter, of_norm.status) == (norm, norm, "in effect")
    assert of_norm.relative_change == pytest.approx(float((new - old).norm() / old.norm()), rel=1e-6)
    (of_slot,) = database.edits.blame("tiny", ["L0.N9"]).writes
    encodings = {one.parameter: one.encoding for one in database.edits.tensors(edit.id)}
    assert (of_slot.relative_change is None) == (encodings[DOWN[family].format(0)] == "factors")
    assert {one.slot for one in database.edits.blame("tiny", edit=edit.id).writes} >= {norm, "L0.N0", "L0.N63"}


def test_slots_of_experts_are_named_by_their_numbers(tmp_path):
    model = causal_model("mixtral", vocab_size=400)
    model.save_pretrained(tmp_path / "moe")
    byte_level().save_pretrained(tmp_path / "moe")
    with open_database(tmp_path / "kndb.db") as database:
        database.models.add(str(tmp_path / "moe"), "tiny")
        last = database.models.get("tiny").neurons - 1
        database.edits.apply(plan_random(database, 1, [(0, 17), (0, 18), (2, last)]))
        before, after = (dict(database.load_model("tiny", name).named_parameters()) for name in ("base", "current"))
        found = database.edits.blame("tiny", ["L0.N17-18", f"L2.N{last}"])
        assert [one.slot for one in found.writes] == ["L0.N17", "L0.N18", f"L2.N{last}"]
        # Neuron i of expert e is e·m + i, and m the number of an expert's neurons.
        name = "model.layers.2.mlp.experts.down_proj"
        old, new = (parameters[name].detach()[-1][:, -1].double() for parameters in (before, after))
        assert found.writes[-1].relative_change == pytest.approx(float((new - old).norm() / old.norm()), rel=1e-6)
