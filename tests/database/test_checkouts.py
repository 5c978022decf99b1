"""Working copies of registered models: every tensor that transformers loads is that of the version."""

from __future__ import annotations

import os
import random
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from kndb.editing.objects.slot_bytes import locate
from kndb.editing.working_copy.opening import opened
from kndb.errors import ConflictError, DiffFileError, FingerprintError, ModelError, NotFoundError, UsageError

CLASSES = {"bert": AutoModelForMaskedLM, "gpt2": AutoModelForCausalLM}


def raw(tensor) -> bytes:
    return tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()


@pytest.fixture
def edited(attributed):
    """A database in which three edits of model `tiny`, two of them overlapping, made four versions."""

    def make(family="bert"):
        database = attributed(family)
        database.attribution.refine(model="tiny")
        relations = [relation.key for relation in database.facts.relations()]
        versions = [database.models.get("tiny").version]
        for relation, top in ((relations[0], 2), (relations[1], 4), (relations[0], 6)):
            edit = database.edits.plan_erase("tiny", relation, top=top)
            database.edits.apply(edit.id)
            versions.append(database.models.get("tiny").version)
        database.snapshots.create("all", "tiny")
        assert len(set(versions)) == 4
        return database, versions

    return make


def check(database, copy, version, family="bert"):
    expected = dict(database.load_model("tiny", version).named_parameters())
    found = dict(CLASSES[family].from_pretrained(copy, dtype="auto").named_parameters())
    assert found.keys() == expected.keys()
    assert [name for name in found if raw(found[name]) != raw(expected[name])] == []


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_random_switches_hold_their_version(edited, family, tmp_path, small_models, checkpoint_bytes):
    database, versions = edited(family)
    copy, draw = tmp_path / "copy", random.Random(1)
    base = checkpoint_bytes(small_models[family])
    made = database.checkouts.checkout("all", copy, model="tiny")
    assert (made.version, made.version_before) == (versions[3], None)
    check(database, copy, versions[3], family)
    held = versions[3]
    for wanted in [*draw.choices(versions, k=5), versions[0]]:
        done = database.checkouts.checkout(wanted, copy)
        assert (done.version, done.version_before) == (wanted, held)
        assert (done.slots_written == 0) == (wanted == held)
        check(database, copy, wanted, family)
        status = database.checkouts.status(copy, full=True)
        assert (status.version, status.problems, status.compared) == (wanted, (), "all")
        held = wanted
    assert database.checkouts.status(copy).slots == 0
    for name, content in base.items():
        assert (copy / name).read_bytes() == content
    assert checkpoint_bytes(small_models[family]) == base


def test_a_changed_file_is_refused_until_it_is_looked_at(edited, tmp_path):
    database, versions = edited()
    copy = tmp_path / "copy"
    database.checkouts.checkout("all", copy, model="tiny")
    moved = tmp_path / "moved"
    shutil.copytree(copy, moved, copy_function=shutil.copyfile)
    assert "has another time" in database.checkouts.status(moved).problems[0]
    assert database.checkouts.status(moved, verify=True).problems == ()
    with pytest.raises(ModelError, match=r"changed since kndb last wrote there.*verify=True.*force=True.*full=True"):
        database.checkouts.checkout("base", moved)
    assert database.checkouts.checkout("all", moved, verify=True).slots_written == 0
    assert database.checkouts.status(moved).problems == ()
    database.checkouts.checkout("base", moved)
    check(database, moved, versions[0])


def test_damage_is_found_and_overwritten(edited, tmp_path):
    database, versions = edited()
    copy = tmp_path / "copy"
    database.checkouts.checkout("all", copy, model="tiny")
    with opened(copy) as found:
        place = locate(next(iter(found.state.slots.values())).place, found.tensors)
    path = copy / place.file
    stamp, content = path.stat(), bytearray(path.read_bytes())
    content[place.offset] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert database.checkouts.status(copy).problems == ()
    assert "holds other bytes than version" in database.checkouts.status(copy, verify=True).problems[0]
    with pytest.raises(ConflictError, match="hold other bytes"):
        database.checkouts.checkout("base", copy)
    with pytest.raises(ConflictError, match=r"1 value slots .* give force=True"):
        database.checkouts.checkout("all", copy, verify=True)
    assert database.checkouts.checkout("all", copy, force=True).slots_written == 1
    assert database.checkouts.status(copy, full=True).problems == ()
    check(database, copy, versions[3])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert database.checkouts.status(copy, verify=True).problems == ()
    assert "differs from the base checkpoint outside" in database.checkouts.status(copy, full=True).problems[0]
    path.write_bytes(content[:-1])
    assert "bytes long, and was" in database.checkouts.status(copy, verify=True).problems[0]
    path.unlink()
    assert "is gone" in database.checkouts.status(copy).problems[0]


def test_what_is_refused(edited, tmp_path):
    database, _ = edited()
    copy = tmp_path / "copy"
    with pytest.raises(UsageError, match=r"no working copy yet, so model has to name"):
        database.checkouts.checkout("all", copy)
    with pytest.raises(UsageError, match="verify and force exclude each other"):
        database.checkouts.checkout("all", copy, model="tiny", verify=True, force=True)
    with pytest.raises(NotFoundError, match="no version"):
        database.checkouts.checkout("none", copy, model="tiny")
    assert not copy.exists()
    database.checkouts.checkout("all", copy, model="tiny")
    with pytest.raises(ModelError, match=r"working copy of model 'tiny', not of 'lab-bert'"):
        database.checkouts.checkout("all", copy, model="lab-bert")
    with pytest.raises(NotFoundError, match="no version"):
        database.checkouts.checkout("none", copy)
    assert database.checkouts.status(copy, verify=True).problems == ()


def test_a_copy_of_another_checkpoint_of_that_name(edited, fresh, tmp_path):
    database, _ = edited()
    database.checkouts.checkout("all", tmp_path / "copy", model="tiny")
    other = fresh("gpt2")
    with pytest.raises(FingerprintError, match="working copy of a checkpoint with fingerprint"):
        other.checkouts.checkout("base", tmp_path / "copy")


def test_a_changed_checkpoint_is_not_copied(small_models, tmp_path, fresh):
    source = tmp_path / "source"
    shutil.copytree(small_models["bert"], source)
    database = fresh()
    database.models.add(str(source), "mine")
    path = source / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(FingerprintError, match=r"source: this is not the checkpoint registered"):
        database.checkouts.checkout("base", tmp_path / "copy", model="mine")
    assert not [found for found in tmp_path.iterdir() if "copy" in found.name]
    with pytest.raises(UsageError, match="lies in the base checkpoint's own folder"):
        database.checkouts.checkout("base", source / "copy", model="mine")


def test_a_damaged_object_changes_nothing(edited, tmp_path):
    database, versions = edited()
    copy = tmp_path / "copy"
    database.checkouts.checkout("all", copy, model="tiny")
    for path in database.store.objects.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DiffFileError):
        database.checkouts.checkout("base", copy)
    status = database.checkouts.status(copy, verify=True)
    assert (status.version, status.problems) == (versions[3], ())
