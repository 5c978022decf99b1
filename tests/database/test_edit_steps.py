"""Applying and reverting on the checkpoint's own bytes: right for every family, strict, and without loading a model."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from causal_families import VARIANTS as CAUSAL
from causal_families import causal_model
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_families import TOKENIZERS, masked_model
from masked_families import VARIANTS as MASKED
from safetensors.torch import load_file, save_file
from sqlalchemy import event
from tiny_models import tiny_model

from kndb.database import open_database
from kndb.database.edits.objects import add_object
from kndb.database.models import ModelCommands
from kndb.editing.objects import factor_fits, factors, object_format
from kndb.editing.planning import recipes
from kndb.errors import ConflictError, DiffFileError, EditError, FingerprintError, ModelError
from kndb.models.network import Network
from kndb.records.recipes import read_recipe
from kndb.store.edits import edit as store_edits


def save(folder, name, dtype=torch.float32, shards=None, pickled=False, **sizes):
    """A random model's checkpoint with a tokenizer."""
    if name in MASKED:
        model, kind = masked_model(name), MASKED[name].tokenizer
    else:
        model, kind = (
            (causal_model(name), "byte-level") if name in CAUSAL else (tiny_model(name, **sizes), "word-piece")
        )
        kind = "byte-level" if name == "gpt2" else kind
    model.resize_token_embeddings(400)  # As many as the larger tokenizer has tokens, at least.
    model = model.to(dtype)
    model.save_pretrained(folder, **({} if shards is None else {"max_shard_size": shards}))
    TOKENIZERS[kind]().save_pretrained(folder)
    if pickled:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    return folder


def stored_bytes(folder):
    """Dtype, shape and bytes of every tensor, by name; taken out of the files as the format's description says."""
    found = {}
    for path in folder.glob("*.safetensors"):
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        for name, entry in json.loads(content[8:start]).items():
            if name != "__metadata__":
                first, end = entry["data_offsets"]
                found[name] = entry["dtype"], entry["shape"], content[start + first : start + end]
    return found


def plan(database, seed, slots=((0, 3), (1, 5), (1, 6))):
    """Adds an edit that puts random values into slots of the current version, by layer and neuron."""
    version = database.models.load("tiny")
    network = Network(version.model, version.adapter)
    noise = torch.Generator().manual_seed(seed)
    by_layer = {}
    for layer, index in slots:
        by_layer.setdefault(network.canonical_layer(layer), set()).add(index)
    values = {
        layer: (torch.tensor(sorted(indices)), torch.randn(len(indices), network.hidden_size, generator=noise).double())
        for layer, indices in by_layer.items()
    }
    about = {"fingerprint": version.record.fingerprint, "recipe": read_recipe("update", {"seed": seed})}
    content = recipes.plan_values(network, values, **about)
    with database.store.writing() as connection:
        return add_object(connection, database.store, version.record.id, content, version.version, None, None), content


def patched(tensors, content):
    """What the files' tensors are to hold with an edit, by slicing bytes."""
    found = dict(tensors)
    for diff in content.parameters:
        name = diff.parameter if diff.parameter in found else diff.parameter.partition(".")[2]
        dtype, shape, raw = found[name]
        width = len(raw) // (shape[0] * shape[1])
        values = bytearray(raw)
        for row, index in enumerate(diff.indices.tolist()):
            new = diff.new[row].view(torch.uint8).numpy().tobytes()
            for place in range(len(new) // width):
                at = index * shape[1] + place if diff.layout == "row" else place * shape[1] + index
                values[at * width : (at + 1) * width] = new[place * width : (place + 1) * width]
        found[name] = dtype, shape, bytes(values)
    return found


@pytest.fixture
def database(tmp_path):
    with open_database(tmp_path / "kndb.db") as opened:
        yield opened


@pytest.fixture
def unloaded(monkeypatch):
    """Makes loading a model an error."""

    def forbid():
        monkeypatch.setattr(ModelCommands, "load", lambda *_: pytest.fail("a model was loaded"))
        monkeypatch.setattr(ModelCommands, "verify_checkpoint", lambda *_: pytest.fail("a checkpoint was hashed"))

    return forbid


KINDS = [
    ("bert", torch.float32, None),
    ("gpt2", torch.bfloat16, "20KB"),
    ("albert-groups", torch.float32, None),
    ("distilbert", torch.float16, None),
    ("t5-gated", torch.bfloat16, "30KB"),
    ("llama", torch.bfloat16, "20KB"),
    ("gpt_neox", torch.float16, "20KB"),
    ("bloom", torch.float32, None),
    ("opt", torch.float64, None),
    ("gemma3", torch.bfloat16, None),
    ("phi3", torch.bfloat16, "20KB"),
    ("falcon-new", torch.bfloat16, None),
    ("modernbert", torch.float32, None),
]


@pytest.mark.parametrize(("name", "dtype", "shards"), KINDS, ids=[f"{name}-{dtype}" for name, dtype, _ in KINDS])
def test_every_step_is_tried_without_a_model_and_leads_to_the_very_bytes(
    database, tmp_path, unloaded, name, dtype, shards, checkpoint_bytes
):
    folder = save(tmp_path / "model", name, dtype, shards)
    assert (len(list(folder.glob("*.safetensors"))) > 1) == (shards is not None)
    database.models.add(str(folder), "tiny")
    before, base = checkpoint_bytes(folder), stored_bytes(folder)
    first, one = plan(database, 1)
    database.edits.apply(first)
    second, two = plan(database, 2, ((1, 5), (2, 7)))  # on top of the first, and beside it
    database.edits.revert(first)
    third, three = plan(database, 3, ((0, 9),))
    unloaded()

    def check(expected):
        copy = tmp_path / "copy"
        database.checkouts.checkout("current", copy, model="tiny")
        assert stored_bytes(copy) == expected
        shutil.rmtree(copy)

    with pytest.raises(ConflictError):
        database.edits.apply(second)
    database.edits.apply_all([first, second, third])
    database.snapshots.create("all", "tiny")
    check(patched(patched(patched(base, one), two), three))
    with pytest.raises(ConflictError):
        database.edits.revert(first)
    database.edits.revert(third)
    check(patched(patched(base, one), two))
    assert [step.edit for step in database.edits.revert_cascade(first)] == [second, first]
    check(base)
    database.snapshots.restore("all", "tiny")
    check(patched(patched(patched(base, one), two), three))
    database.edits.revert_all([third, first, second])
    database.edits.apply(third)
    check(patched(base, three))
    database.snapshots.restore("base", "tiny")
    assert all(row.ok for row in database.edits.verify())
    check(base)
    assert checkpoint_bytes(folder) == before


def flip(folder, name, slot, layout):
    """Changes the lowest bit of a slot's first value in a checkpoint's only weight file."""
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    entry = json.loads(content[8:start])[name]
    width = 4
    at = start + entry["data_offsets"][0] + slot * (entry["shape"][1] if layout == "row" else 1) * width
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("name", "parameter", "layout"),
    [
        ("bert", "bert.encoder.layer.0.output.dense.weight", "column"),
        ("gpt2", "transformer.h.0.mlp.c_proj.weight", "row"),
    ],
)
def test_an_altered_slot_is_refused_and_other_bytes_are_not_looked_at(
    database, tmp_path, name, parameter, layout, checkpoint_bytes, count_points
):
    folder = save(tmp_path / "model", name)
    database.models.add(str(folder), "tiny")
    applied, _ = plan(database, 1)
    database.edits.apply(applied)
    waiting, _ = plan(database, 2, ((0, 20),))
    current = database.models.get("tiny").version
    files = checkpoint_bytes(folder)

    flip(folder, parameter, 3, layout)  # of the applied edit
    with pytest.raises(FingerprintError, match="its fingerprint is") as caught:
        database.edits.revert(applied)
    assert caught.value.exit_code == 6
    with pytest.raises(FingerprintError):
        database.edits.revert_cascade(applied)
    with pytest.raises(FingerprintError):
        database.snapshots.restore("base", "tiny")
    assert database.models.get("tiny").version == current
    step = database.edits.apply(waiting)  # whose slot is as it was
    assert step.version_before == current
    database.edits.revert(waiting)
    with pytest.raises(FingerprintError):
        database.models.load("tiny")
    assert [row.ok for row in database.edits.verify(weights=True) if row.part == "checkpoint"] == [False]
    (folder / "model.safetensors").write_bytes(files["model.safetensors"])

    flip(folder, parameter, 20, layout)  # of the waiting one
    with pytest.raises(FingerprintError):
        database.edits.apply(waiting)
    with pytest.raises(FingerprintError):
        database.edits.apply_all([waiting])
    assert database.models.get("tiny").version == current
    (folder / "model.safetensors").write_bytes(files["model.safetensors"][:-1])
    with pytest.raises(ModelError):
        database.edits.apply(waiting)
    (folder / "model.safetensors").write_bytes(files["model.safetensors"])
    database.edits.apply(waiting)

    moved = folder.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="there is no folder"):
        database.edits.revert(waiting)
    moved.rename(folder)
    database.edits.revert(waiting)
    count_points("a checkpoint that is altered or moved", 7)


def test_objects_are_read_as_far_as_they_count(database, tmp_path, unloaded):
    folder = save(tmp_path / "model", "bert")
    database.models.add(str(folder), "tiny")
    first, _ = plan(database, 1)
    database.edits.apply(first)
    second, _ = plan(database, 2, ((1, 5),))
    apart, _ = plan(database, 3, ((2, 9),))
    unloaded()
    path = database.store.objects / database.edits.get(first).object_path
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for edit, act in ((second, database.edits.apply), (first, database.edits.revert)):
        with pytest.raises(DiffFileError, match="the file was changed or damaged"):
            act(edit)
    database.edits.apply(apart)
    assert not all(row.ok for row in database.edits.verify())
    path.unlink()
    with pytest.raises(DiffFileError):
        database.edits.apply(second)
    path.write_bytes(content)
    database.edits.apply(second)


def test_what_the_database_says_wrongly_is_refused_as_before(database, tmp_path):
    """The store's hashes agree with each other, but not with the checkpoint or the objects."""
    folder = save(tmp_path / "model", "bert")
    database.models.add(str(folder), "tiny")
    first, _ = plan(database, 1)
    database.edits.apply(first)
    second, _ = plan(database, 2, ((1, 5),))
    database.edits.revert(first)
    with database.store.writing() as connection:
        connection.exec_driver_sql(
            "UPDATE edit_neuron SET old_sha256 = (SELECT old_sha256 FROM edit_neuron WHERE edit_id = ? AND layer = 1 "
            "AND neuron = 5) WHERE edit_id = ?",
            (first, second),
        )
    with pytest.raises(EditError, match="weights do not agree with the store") as caught:
        database.edits.apply(second)
    assert caught.value.exit_code == 8


@pytest.mark.parametrize("kind", ["pickled", "two dtypes"])
def test_where_the_files_alone_do_not_do_the_model_is_loaded(database, tmp_path, kind, monkeypatch):
    folder = save(tmp_path / "model", "gpt2", pickled=kind == "pickled")
    if kind == "two dtypes":
        tensors = load_file(folder / "model.safetensors")
        name = "transformer.h.0.mlp.c_proj.weight"
        tensors[name] = tensors[name].half()
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    database.models.add(str(folder), "tiny")
    edit, _ = plan(database, 1)
    loads, load = [], ModelCommands.load
    monkeypatch.setattr(ModelCommands, "load", lambda *words: (loads.append(words), load(*words))[1])
    base = database.models.get("tiny").version
    database.edits.apply(edit)
    database.edits.revert(edit)
    assert len(loads) == 2
    assert database.models.get("tiny").version == base


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_captures_under_and_over_our_own_edits(database, tmp_path, unloaded, monkeypatch, name, dtype):
    """Factors, value slots and whole parameters; what factors make of a slot counts for the edits on top of them."""
    folder = save(tmp_path / "model", name, dtype, width=40, neurons=90)
    database.models.add(str(folder), "tiny")
    below, one = plan(database, 1)
    database.edits.apply(below)
    edited = shutil.copytree(folder, tmp_path / "edited")
    tensors = load_file(edited / "model.safetensors")
    draw = torch.Generator().manual_seed(3)
    for key, tensor in tensors.items():
        if key.endswith(("1.output.dense.weight", "1.mlp.c_proj.weight")) and tensor.ndim == 2 and 90 in tensor.shape:
            left, right = (torch.randn(size, generator=draw) for size in tensor.shape)
            tensor += (0.5 * tensor.float().std() * torch.outer(left, right)).to(dtype)
        elif "position" in key or "wpe" in key:
            tensor *= 1.5
    save_file(tensors, edited / "model.safetensors", {"format": "pt"})
    capture = database.edits.add(database.edits.draft_capture("tiny", str(edited)).draft).id
    encodings = {one.encoding for one in database.edits.tensors(capture)}
    assert {"factors", "whole"} <= encodings
    database.edits.apply(capture)
    above, two = plan(database, 2, ((1, 6), (1, 80)))
    unloaded()
    hashed = []
    monkeypatch.setattr("kndb.database.versions.materialised.require_fingerprint", lambda *_: hashed.append(1))
    base, other = stored_bytes(folder), stored_bytes(edited)
    states = {(): base, (below,): patched(base, one), (below, capture): other}
    states[below, capture, above] = patched(other, two)
    copy, present = tmp_path / "copy", [below, capture]
    for wanted in [(below, capture, above), (below, capture), (below,), (below, capture), (below, capture, above), ()]:
        for edit in reversed([edit for edit in present if edit not in wanted]):
            database.edits.revert(edit)
        database.edits.apply_all(new) if (new := [edit for edit in wanted if edit not in present]) else None
        present = list(wanted)
        database.checkouts.checkout("current", copy, model="tiny")
        assert stored_bytes(copy) == states[wanted]
    assert not hashed
    assert all(row.ok for row in database.edits.verify())


# --- arithmetic ------------------------------------------------------------------------------------------

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@given(st.integers(0, 2**32), st.sampled_from(sorted(DTYPES)), st.integers(1, 4), st.booleans())
@settings(max_examples=200, deadline=None)
def test_sums_are_those_of_torch(seed, dtype, rank, reverse):
    """Old objects were made by torch on a CPU; also with huge and tiny values, ties, and overflow."""
    draw = torch.Generator().manual_seed(seed)
    kind = DTYPES[dtype]
    spread = 10.0 ** torch.randint(-9, 6, (11, 7), generator=draw)
    present = (torch.randn(11, 7, generator=draw) * spread).to(kind)
    left = torch.randn(11, rank, generator=draw).double() * 10.0 ** torch.randint(-5, 4, (11, 1), generator=draw)
    right = torch.randn(rank, 7, generator=draw).double()
    if seed % 2:  # Products with few digits lie in the middle between two numbers of a narrow dtype.
        left, right = left.to(kind).double(), right.sign()
    product = torch.zeros(11, 7, dtype=torch.float64)
    for place in range(rank):
        product += left[:, place : place + 1] * right[place : place + 1]
    change = product.to(kind)
    expected = present - change if reverse else present + change
    found = factors.summed(factor_fits._bits(present), left.numpy(), right.numpy(), dtype, reverse=reverse)
    same = factor_fits._tensor(found, kind).view(torch.uint8) == expected.view(torch.uint8)
    assert bool((same.view(11, 7, -1).all(dim=2) | expected.isnan()).all())


def test_a_step_reads_no_object_but_those_of_its_slots(database, tmp_path, unloaded, monkeypatch):
    """However many edits are applied: an object is read for the step, and one for each edit of the same slots."""
    database.models.add(str(save(tmp_path / "model", "bert")), "tiny")
    for number in range(8):
        database.edits.apply(plan(database, number, slots=((0, number), (1, number)))[0])
    over = plan(database, 99, slots=((0, 3),))[0]
    unloaded()
    read = []
    original = object_format.read
    monkeypatch.setattr(object_format, "read", lambda *words: read.append(words[1]) or original(*words))
    database.edits.apply(over)
    assert len(read) == 2
    read.clear()
    database.edits.revert(over)
    assert len(read) == 2
    read.clear()
    database.edits.revert(8)
    assert len(read) == 1


def test_a_switch_reads_no_edit_that_both_versions_have(database, tmp_path, unloaded, monkeypatch):
    database.models.add(str(save(tmp_path / "model", "bert")), "tiny")
    for number in range(8):
        database.edits.apply(plan(database, number, slots=((0, number), (1, number)))[0])
    unloaded()
    database.checkouts.checkout("current", tmp_path / "copy", model="tiny")
    database.edits.revert(8)
    looked_up = []
    original = store_edits.edit
    monkeypatch.setattr(
        store_edits, "edit", lambda opened, number: looked_up.append(number) or original(opened, number)
    )
    switched = database.checkouts.checkout("current", tmp_path / "copy")
    assert (switched.slots_written, looked_up) == (2, [8])


def test_one_edit_is_verified_alone(database, tmp_path):
    """Of the log, only `verify` of all edits says something: that of one does not grow with the history."""
    database.models.add(str(save(tmp_path / "model", "bert")), "tiny")
    numbers = [plan(database, number, slots=((0, number),))[0] for number in range(2)]
    database.edits.apply_all(numbers)
    assert {row.part for row in database.edits.verify(numbers[:1])} == {"object"}
    assert {row.what.partition(":")[0] for row in database.edits.verify(numbers[:1])} == {f"edit {numbers[0]}"}
    assert {row.part for row in database.edits.verify()} == {"object", "log"}


def test_a_list_of_edits_looks_up_what_is_applied(database):
    with database.store.reading() as connection:
        plans = []

        def explain(_connection, cursor, statement, parameters, *_rest):
            if "applied_edit" in statement and statement.startswith("SELECT"):
                plans.extend(row[3] for row in cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

        event.listen(connection.engine, "before_cursor_execute", explain)
        try:
            store_edits.edits(connection)
        finally:
            event.remove(connection.engine, "before_cursor_execute", explain)
    assert any("applied_edit" in step for step in plans)
    assert not any(step.startswith("SCAN applied_edit") or "AUTOMATIC" in step for step in plans), plans
