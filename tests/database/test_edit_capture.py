"""Checkpoints that other tools edited, as edits: byte for byte there and back, beside our own."""

import contextlib
import json
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from kndb.database import open_database
from kndb.editing.objects import diff_file, factor_fits
from kndb.errors import ConflictError, DiffFileError, EditError, ModelError, UsageError
from kndb.records.edit_settings import EvaluationSettings, UpdateSettings

DOWN = {"bert": "bert.encoder.layer.{}.output.dense.weight", "gpt2": "transformer.h.{}.mlp.c_proj.weight"}


@pytest.fixture
def database(refined):
    """A database of each family in turn, in which model `tiny` is refined."""
    return refined


@pytest.fixture
def edit_checkpoint(small_models, family, tmp_path):
    """Writes a copy of the checkpoint with other weights, and gives its folder."""

    def write(change, name="edited"):
        folder = shutil.copytree(small_models[family], tmp_path / name)
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return folder

    return write


def rank_one(family, layer, seed=0, scale=0.5):
    """A change as ROME makes it: an outer product added to a down projection."""

    def change(tensors):
        draw = torch.Generator().manual_seed(seed)
        weight = tensors[DOWN[family].format(layer)]
        left, right = (torch.randn(size, generator=draw) for size in weight.shape)
        weight += scale * weight.std() * torch.outer(left, right)

    return change


def fine_tuned(tensors):
    draw = torch.Generator().manual_seed(5)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and name != "cls.predictions.decoder.weight":
            tensor += 0.01 * torch.randn(tensor.shape, generator=draw)


def columns(family):
    def change(tensors):
        weight = tensors[DOWN[family].format(1)]
        (weight if family == "gpt2" else weight.T)[[2, 5, 9]] *= 1.5

    return change


def weights(database, version="current"):
    return {name: value.detach().clone() for name, value in database.load_model("tiny", version).named_parameters()}


def same(one, other):
    return all(
        torch.equal(value.contiguous().view(torch.uint8), other[key].contiguous().view(torch.uint8))
        for key, value in one.items()
    )


def everything(database):
    tables = ("model", "edit", "edit_neuron", "edit_tensor", "version", "history", "applied_edit")
    with database.store.reading() as connection:
        return [tuple(row) for table in tables for row in connection.exec_driver_sql(f"SELECT * FROM {table}")]


def captured(database, folder):
    return database.edits.add(database.edits.draft_capture("tiny", str(folder)).draft)


def stored(folder, name):
    tensors = load_file(folder / "model.safetensors")
    return tensors[name] if name in tensors else tensors[name.partition(".")[2]]


CHANGES = {
    "rome": lambda family: [rank_one(family, 1)],
    "memit": lambda family: [rank_one(family, 0, 1), rank_one(family, 1, 2), rank_one(family, 1, 3)],
    "fine-tuned": lambda family: [fine_tuned],
    "columns": lambda family: [columns(family)],
}


@pytest.mark.parametrize("tool", list(CHANGES))
def test_a_capture_leads_to_the_very_bytes_and_back(database, family, edit_checkpoint, tmp_path, tool):
    folder = edit_checkpoint(lambda tensors: [change(tensors) for change in CHANGES[tool](family)])
    base = weights(database)
    edit = captured(database, folder)
    assert (edit.kind, edit.recipe.source) == ("capture", "edited")
    assert same(weights(database), base), "nothing is applied"
    encodings = {one.parameter: one.encoding for one in database.edits.tensors(edit.id)}
    if tool in ("rome", "memit"):
        assert set(encodings.values()) <= {"factors", "slots"}
        assert set(encodings) == {DOWN[family].format(layer) for layer in ([1] if tool == "rome" else [0, 1])}
    elif tool == "columns":
        assert encodings == {DOWN[family].format(1): "slots"}
        assert edit.neurons == 3
    else:
        assert "whole" in encodings.values()
        assert set(encodings) == set(base)
    step = database.edits.apply(edit.id)
    after = weights(database)
    for name, value in after.items():
        assert same({name: value}, {name: stored(folder, name)}), name
    exported = tmp_path / "exported"
    database.snapshots.export("current", "tiny", exported)
    ours, theirs = load_file(exported / "model.safetensors"), load_file(folder / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert same(ours, theirs)
    assert database.maintenance.check().sound
    assert all(row.ok for row in database.edits.verify(weights=True))
    assert {one.what for one in database.edits.verify() if "slots" in one.what} == {f"edit {edit.id}: slots"}
    found = database.edits.diff("tiny", "base", "current")
    changed = {name for name in base if not same({name: base[name]}, {name: after[name]})}
    assert {row.parameter for row in found.slots} | set(found.tensors) == changed
    database.snapshots.create("captured", "tiny")
    database.edits.revert(edit.id)
    assert same(weights(database), base)
    assert database.models.get("tiny").version == step.version_before
    database.snapshots.restore("captured", "tiny")
    assert same(weights(database), after)
    # The same weights captured from the version that has them are no edit at all.
    with pytest.raises(EditError, match="the same weights"):
        database.edits.draft_capture("tiny", str(folder))


@pytest.mark.parametrize("tool", list(CHANGES))
def test_working_copies_hold_captures(database, family, edit_checkpoint, tmp_path, tool):
    folder = edit_checkpoint(lambda tensors: [change(tensors) for change in CHANGES[tool](family)])
    edit = captured(database, folder)
    database.edits.apply(edit.id)
    copy = tmp_path / "copy"
    database.checkouts.checkout("base", copy, model="tiny")
    before = (copy / "model.safetensors").read_bytes()
    done = database.checkouts.checkout("current", copy)
    assert done.slots_written > 0
    assert same(load_file(copy / "model.safetensors"), load_file(folder / "model.safetensors"))
    assert database.checkouts.status(copy, full=True).problems == ()
    database.checkouts.checkout("base", copy)
    assert (copy / "model.safetensors").read_bytes() == before


def test_captures_and_our_own_edits_overlap_like_any_others(database, family, edit_checkpoint, tmp_path):
    fact = database.facts.find(["P36"], subject="France")[0]
    own = database.edits.plan_update("tiny", fact.id, "Tokyo", UpdateSettings(max_share=1.0))
    layer = own.recipe.neurons[0].layer
    folder = edit_checkpoint(rank_one(family, layer))
    rome = captured(database, folder)
    database.edits.apply(rome.id)
    with pytest.raises(ConflictError, match=f"edit {own.id} can't be applied .* edit {rome.id} changed them"):
        database.edits.apply(own.id)
    on_top = database.edits.plan_update("tiny", fact.id, "Tokyo", UpdateSettings(max_share=1.0))
    database.edits.apply(on_top.id)
    with pytest.raises(ConflictError, match=f"edit {rome.id} can't be taken out .*revert_cascade"):
        database.edits.revert(rome.id)
    done = database.edits.rebase(rome.id)
    assert [one.rebased_from for one in done.replayed] == [on_top.id]
    database.edits.revert(done.replayed[0].edit)
    database.edits.apply(own.id)
    again = edit_checkpoint(rank_one(family, layer, seed=9), "again")
    second = captured(database, again)
    database.edits.apply(second.id)
    for name, value in weights(database).items():
        assert same({name: value}, {name: stored(again, name)})
    with pytest.raises(EditError, match=f"edit {second.id} can't be replayed: kind 'capture' is not one of"):
        database.edits.rebase(own.id)
    with pytest.raises(UsageError, match="is a capture, which does not say what it is for; say so with"):
        database.edits.evaluate(second.id)
    with pytest.raises(UsageError, match="says itself what it is for"):
        database.edits.evaluate(own.id, fact=fact.id, to="Tokyo")
    database.edits.revert_cascade(own.id)
    assert same(weights(database), weights(database, "base"))
    # What builds on a capture goes with it to a colleague.
    pushed = database.edits.push([on_top.id], tmp_path / "edits.kndb")
    assert pushed.foundations == (rome.id,)
    with open_database(tmp_path / "other.db") as other:
        other.models.add(str(database.models.get("tiny").source), "tiny")
        other.edits.pull(tmp_path / "edits.kndb")
        other.edits.apply_all([1, 2])
        database.edits.apply_all([rome.id, on_top.id])
        assert same(weights(other), weights(database))


def test_what_can_not_be_captured(database, family, edit_checkpoint, small_models, tmp_path):
    before = everything(database)
    with pytest.raises(UsageError, match="is the checkpoint of 'tiny' itself"):
        database.edits.draft_capture("tiny", str(small_models[family]))
    copy = shutil.copytree(small_models[family], tmp_path / "same")
    with pytest.raises(EditError, match="hold the same weights"):
        database.edits.draft_capture("tiny", str(copy))

    def infinite(tensors):
        tensors[DOWN[family].format(0)][0, 0] = float("inf")

    def extra(tensors):
        tensors["adapter.weight"] = torch.zeros(3)

    with pytest.raises(EditError, match=r"has tensors that the model does not use: adapter.weight; an edit could"):
        database.edits.draft_capture("tiny", str(edit_checkpoint(extra, "extra")))

    def narrower(tensors):
        tensors[DOWN[family].format(0)] = tensors[DOWN[family].format(0)][:, 1:].contiguous()

    with pytest.raises(EditError, match=r"is \[\d+, \d+\] in the edited checkpoint, and \[\d+, \d+\] in"):
        database.edits.draft_capture("tiny", str(edit_checkpoint(narrower, "narrower")))

    def missing(tensors):
        del tensors[DOWN[family].format(0)]

    with pytest.raises(ModelError, match=DOWN[family].format(0)):
        database.edits.draft_capture("tiny", str(edit_checkpoint(missing, "missing")))
    with pytest.raises(EditError, match=r"has NaN or infinity in the edited checkpoint"):
        database.edits.draft_capture("tiny", str(edit_checkpoint(infinite, "infinite")))
    config = json.loads((copy / "config.json").read_text())
    config["dtype"] = "float64"
    (copy / "config.json").write_text(json.dumps(config))
    tensors = {name: value.double() for name, value in load_file(copy / "model.safetensors").items()}
    tensors[DOWN[family].format(0)] *= 1 + 1e-12
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(EditError, match=r"with values that torch.float32 can't hold"):
        database.edits.draft_capture("tiny", str(copy))
    assert everything(database) == before


def test_a_capture_is_measured_like_the_edit_that_it_holds(database, tmp_path):
    """Our own edit, exported and captured: the same weights have the same measures."""
    fact = database.facts.find(["P36"], subject="France")[0]
    own = database.edits.plan_update("tiny", fact.id, "Tokyo", UpdateSettings(max_share=1.0))
    database.edits.apply(own.id)
    database.snapshots.export("current", "tiny", tmp_path / "edited")
    database.edits.revert(own.id)
    capture = captured(database, tmp_path / "edited")
    expected = database.edits.evaluate(own.id, EvaluationSettings(sample=6, seed=2)).measures
    found = database.edits.evaluate(capture.id, EvaluationSettings(sample=6, seed=2), fact=fact.id, to="Tokyo")
    assert found.measures["edited"] == expected["edited"]
    assert found.measures["intervals"]["edited"] == expected["intervals"]["edited"]
    assert (found.measures["control"], found.measures["control_neurons"]) == ({}, [])
    assert (found.settings["fact"], found.settings["to"]) == (fact.id, "Tokyo")
    row = database.edits.evaluated([capture.id])[0]
    assert row.edited == database.edits.evaluated([own.id])[0].edited
    assert set(row.control.values()) == {(None, None, None)}


def test_other_files_are_named(database, family, edit_checkpoint):
    folder = edit_checkpoint(rank_one(family, 0))
    (folder / "tokenizer_config.json").write_text((folder / "tokenizer_config.json").read_text() + " ")
    assert database.edits.draft_capture("tiny", str(folder)).other_files == ("tokenizer_config.json",)


def read(database, edit, content):
    """Reads an object's file with other bytes in it."""
    path = database.store.objects / edit.object_path
    right = path.read_bytes()
    path.write_bytes(content)
    try:
        return diff_file.read(database.store.objects, edit.object_path, edit.object_hash)
    finally:
        path.write_bytes(right)


def test_damage_to_an_object_with_factors_is_found(database, family, edit_checkpoint):
    edit = captured(database, edit_checkpoint(rank_one(family, 1)))
    path = database.store.objects / edit.object_path
    content = path.read_bytes()
    assert diff_file.encode(diff_file.decode(content, "object")) == content
    header = int.from_bytes(content[:8], "little") + 8
    silent = 0
    for offset in range(0, len(content), 3):
        spoilt = bytearray(content)
        spoilt[offset] ^= 1
        with pytest.raises(DiffFileError):
            read(database, edit, bytes(spoilt))
        with contextlib.suppress(DiffFileError):
            diff_file.decode(bytes(spoilt), "object")
            silent += 1  # A digit of a factor or a letter of the recipe: only the object's hash can tell.
            assert offset >= header or spoilt[offset] < 128
    assert silent < len(content) / 3 * 0.95
    for change in (slice(0, -1), slice(0, header)):
        with pytest.raises(DiffFileError):
            diff_file.decode(content[change], "object")


# --- factors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_factors_are_exact_both_ways(dtype, rank, scale):
    draw = torch.Generator().manual_seed(rank)
    old = torch.randn(120, 200, generator=draw).to(dtype)
    left, right = torch.randn(120, rank, generator=draw), scale * torch.randn(rank, 200, generator=draw)
    new = old + (left @ right).to(dtype)
    found = factor_fits.fit(old, new)
    if scale > 1 and dtype != torch.float32:  # The rounding of the new values is as large as the old ones.
        pytest.skip("not of low rank")
    assert found is not None
    assert factor_fits.applied(found, old).view(torch.uint8).equal(new.view(torch.uint8))
    assert factor_fits.applied(found, new, reverse=True).view(torch.uint8).equal(old.view(torch.uint8))
    assert found.size < old.numel() * old.element_size()


@given(st.integers(0, 2**32), st.sampled_from([torch.float32, torch.bfloat16, torch.float16]), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_whatever_factors_there_are_they_are_exact(seed, dtype, rank):
    """Also where they fit badly: zeros of both signs, tiny and huge values, changes that cross zero."""
    draw = torch.Generator().manual_seed(seed)
    old = (torch.randn(12, 9, generator=draw) * 10.0 ** torch.randint(-6, 4, (12, 9), generator=draw)).to(dtype)
    old[torch.rand(12, 9, generator=draw) < 0.2] = -0.0
    new = (old.float() + torch.randn(12, rank, generator=draw) @ torch.randn(rank, 9, generator=draw)).to(dtype)
    left, right = torch.randn(12, rank, generator=draw).double(), torch.randn(rank, 9, generator=draw).double()
    for one, other in (factor_fits._decomposed(new.double() - old.double()), (left, right)):
        found = factor_fits._with_corrections(old, new, one[:, :rank].contiguous(), other[:rank].contiguous())
        assert factor_fits.applied(found, old).view(torch.uint8).equal(new.view(torch.uint8))
        assert factor_fits.applied(found, new, reverse=True).view(torch.uint8).equal(old.view(torch.uint8))


def test_a_change_of_full_rank_has_no_factors():
    draw = torch.Generator().manual_seed(1)
    old, noise = torch.randn(80, 80, generator=draw), torch.randn(80, 80, generator=draw)
    assert factor_fits.fit(old, old + noise) is None
    assert factor_fits.fit(old[0], old[0] + 1) is None
    assert factor_fits.fit(old, old * float("nan")) is None
    assert factor_fits.fit(old.double(), old.double() + 1) is None
