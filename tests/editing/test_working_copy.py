"""Working copies: what they hold after every switch, after every kind of failure, and what is refused."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import tiny_model
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from kndb.editing import copy_comparison, first_copy, journal, slot_bytes, working_copy
from kndb.editing.diff_file import EditObject, ParameterDiff, encode
from kndb.errors import ConflictError, ModelError
from kndb.models.export import export_checkpoint
from kndb.models.weights import tensor_places
from kndb.versions import version_id

NAMES = {
    "bert": ("column", "bert.encoder.layer.{}.output.dense.weight"),
    "gpt2": ("row", "transformer.h.{}.mlp.c_proj.weight"),
}
CLASSES = {"bert": AutoModelForMaskedLM, "gpt2": AutoModelForCausalLM}


# --- real checkpoints -----------------------------------------------------------------------------


class Edited:
    """A tiny model's checkpoint, and versions of it computed with torch: tuples of random edits."""

    def __init__(self, folder: Path, family: str, dtype: torch.dtype, shards: str | None, body: bool = False) -> None:
        self.layout, self.pattern = NAMES[family]
        self.folder, self.family = folder, family
        model = tiny_model(family).to(dtype)
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
        saved = model.transformer if body else model
        saved.save_pretrained(folder, **({} if shards is None else {"max_shard_size": shards}))

    def plan(self, edits: tuple[EditObject, ...], seed: int) -> EditObject:
        """An edit of random slots of two layers, on top of others."""
        draw, noise = random.Random(seed), torch.Generator().manual_seed(seed)
        held, diffs = self.at(edits), []
        for layer in draw.sample(range(3), 2):
            name = self.pattern.format(layer)
            indices = torch.tensor(sorted(draw.sample(range(40), 3)))
            old = held[name][indices] if self.layout == "row" else held[name].T[indices]
            new = torch.randn(old.shape, generator=noise).to(old.dtype)
            diffs.append((layer, ParameterDiff(name, self.layout, indices, old.contiguous(), new)))
        return EditObject(
            fingerprint="f",
            kind="update",
            recipe={"seed": seed},
            parameters=tuple(sorted((diff for _, diff in diffs), key=lambda diff: diff.parameter)),
            layers={diff.parameter: layer for layer, diff in diffs},
            shapes={diff.parameter: tuple(held[diff.parameter].shape) for _, diff in diffs},
        )

    def at(self, edits: tuple[EditObject, ...]) -> dict[str, torch.Tensor]:
        held = {name: tensor.clone() for name, tensor in self.tensors.items()}
        for edit in edits:
            for diff in edit.parameters:
                matrix = held[diff.parameter] if self.layout == "row" else held[diff.parameter].T
                matrix[diff.indices] = diff.new
        return held

    def version(self, edits: tuple[EditObject, ...]) -> str:
        held, differing = self.at(edits), {}
        for edit in edits:
            for diff in edit.parameters:
                for index in diff.indices.tolist():
                    pair = [side[diff.parameter] for side in (self.tensors, held)]
                    old, new = (raw(one[index] if self.layout == "row" else one[:, index]) for one in pair)
                    if old != new:
                        dtype = str(diff.new.dtype).removeprefix("torch.").encode()
                        slot = (diff.parameter, edit.layers[diff.parameter], index)
                        differing[slot] = hashlib.sha256(dtype + new).hexdigest()
        return version_id("f", differing)

    @staticmethod
    def changes(before: tuple[EditObject, ...], after: tuple[EditObject, ...]) -> list[slot_bytes.SlotSwitch]:
        lists = [[slot_bytes.read_edit(encode(edit), "edit") for edit in edits] for edits in (before, after)]
        return slot_bytes.switches(*lists)

    def check(self, copy: Path, edits: tuple[EditObject, ...], scratch: Path) -> None:
        """The copy is a fresh export bit for bit, and what transformers loads from it is the version."""
        held = self.at(edits)
        changed = {diff.parameter: held[diff.parameter] for edit in edits for diff in edit.parameters}
        shutil.rmtree(scratch, ignore_errors=True)
        export_checkpoint(self.folder, scratch, changed)
        for path in scratch.iterdir():
            if path.suffix == ".safetensors":
                ours, theirs = load_file(copy / path.name), load_file(path)
                assert ours.keys() == theirs.keys()
                assert all(raw(ours[name]) == raw(theirs[name]) for name in ours)
            else:
                assert (copy / path.name).read_bytes() == path.read_bytes()
        model = CLASSES[self.family].from_pretrained(copy, dtype=next(iter(held.values())).dtype)
        for name, tensor in model.named_parameters():
            assert raw(tensor.detach()) == raw(held[name]), name


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize(
    ("family", "dtype", "shards", "body"),
    [
        ("bert", torch.float32, None, False),
        ("bert", torch.bfloat16, "10KB", False),
        ("gpt2", torch.float32, "10KB", False),
        ("gpt2", torch.float16, None, True),
    ],
    ids=["bert", "bert-bf16-sharded", "gpt2-sharded", "gpt2-fp16-body"],
)
def test_random_sequences_of_versions(tmp_path, family, dtype, shards, body):
    world = Edited(tmp_path / "base", family, dtype, shards, body)
    assert (len(list(world.folder.glob("*.safetensors"))) > 1) == (shards is not None)
    before = {path.name: path.read_bytes() for path in world.folder.iterdir()}
    first = world.plan((), 1)
    second, third = world.plan((first,), 2), world.plan((), 3)
    pool = [(), (first,), (first, second), (first, second, world.plan((first, second), 4)), (third,)]
    draw, copy, held = random.Random(5), tmp_path / "copy", pool[2]
    base = world.version(())
    done = first_copy.create(
        world.folder,
        copy,
        model="m",
        fingerprint="f",
        base=base,
        version=world.version(held),
        changes=world.changes((), held),
        check=lambda folder: None,
    )
    assert done.slots == len(
        {(diff.parameter, i) for e in held for diff in e.parameters for i in diff.indices.tolist()}
    )
    world.check(copy, held, tmp_path / "export")
    for _ in range(6):
        wanted = draw.choice(pool)
        with working_copy.opened(copy) as opened:
            assert opened.state.version == world.version(held)
            opened.switch(world.version(wanted), world.changes(held, wanted))
            assert opened.wrong_slots(opened.state.slots.values()) == []
        world.check(copy, wanted, tmp_path / "export")
        held = wanted
    assert {path.name: path.read_bytes() for path in world.folder.iterdir()} == before
    for path in world.folder.iterdir():
        assert path.stat().st_nlink == 1
        assert (copy / path.name).stat().st_ino != path.stat().st_ino


# --- plain checkpoints ----------------------------------------------------------------------------


def switch(base, copy, before, after, **options):
    with working_copy.opened(copy) as opened:
        return opened.switch(base.version(after), base.changes(before, after), **options)


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def spoil(folder: Path, offset: int) -> None:
    """Changes one byte and puts the time back, so that only the byte tells."""
    path = folder / "model.safetensors"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_many_versions_of_a_plain_checkpoint(base, copy, before):
    held = before
    for seed in range(30):
        wanted = base.random_slots(seed, count=seed % 5)
        switch(base, copy, held, wanted)
        assert weights(copy) == base.content(wanted)
        with working_copy.opened(copy) as opened:
            assert opened.state.version == opened.state.computed_version == base.version(wanted)
            assert opened.changed_files() == []
        held = wanted


def test_what_is_not_changed_is_not_written(base, copy, before):
    inode = (copy / "model.safetensors").stat()
    assert switch(base, copy, before, before) == working_copy.Switched(0, 0)
    assert (copy / "model.safetensors").stat() == inode
    one = {**before, ("layers.1.down", 0): b"0123456789"}
    assert switch(base, copy, before, one) == working_copy.Switched(1, 10)


def test_the_order_of_calls_outlasts_a_power_cut(base, copy, before, after, monkeypatch):
    """Journal and folder are on disk before the first patch, patches before the state, the state before the end."""
    calls, names = [], {}

    def recording(name):
        real = getattr(os, name)

        def call(*arguments, **options):
            result = real(*arguments, **options)
            if name == "open":
                names[result] = Path(arguments[0]).name
            target = names.get(arguments[0], arguments[0]) if name != "open" else arguments[0]
            calls.append((name, Path(str(target)).name))
            return result

        return call

    with working_copy.opened(copy) as opened:
        changes = base.changes(before, after)
        for name in ("open", "pwrite", "fsync", "replace", "unlink"):
            monkeypatch.setattr(os, name, recording(name))
        opened.switch(base.version(after), changes)
        monkeypatch.undo()
    order = [call for call in calls if call[0] != "open"]
    kinds = [call for at, call in enumerate(order) if at == 0 or order[at - 1] != call]
    state = next(name for kind, name in kinds if kind == "fsync" and "checkout" in name)
    assert kinds[:7] == [
        ("fsync", journal.NAME),
        ("fsync", copy.name),
        ("pwrite", "model.safetensors"),
        ("fsync", "model.safetensors"),
        ("fsync", state),
        ("replace", state),
        *[("unlink", state)] * (kinds[6][0] == "unlink" and kinds[6][1] == state),
        *[("fsync", copy.name)] * (kinds[6][0] == "fsync"),
    ]
    assert kinds[-2:] == [("fsync", copy.name), ("unlink", journal.NAME)]


def test_a_journal_undoes_whatever_the_slots_hold(base, copy, before, after):
    """After a power cut, any part of the patches may have reached the disk."""
    with working_copy.opened(copy) as opened:
        state = opened.state
    places = [slot_bytes.locate(change.place, tensor_places(copy)) for change in base.changes(before, after)]
    pairs = zip(places, base.changes(before, after), strict=True)
    stamps = {"model.safetensors": state.stamps["model.safetensors"]}
    writes = [journal.Write(place, change.before, change.after) for place, change in pairs]
    draw = random.Random(3)
    for _ in range(5):
        pending = journal.Journal("other", state.version, base.version(after), stamps, writes)
        journal.write(copy, pending)
        assert journal.read(copy) == pending
        content = bytearray(weights(copy))
        for place in places:
            for offset in place.offsets:
                if draw.random() < 0.7:
                    content[offset : offset + place.width] = draw.randbytes(place.width)
        (copy / "model.safetensors").write_bytes(content)
        with working_copy.opened(copy) as opened:
            assert opened.recovered == (
                f"undid an interrupted switch from {base.version(before)} to {base.version(after)}"
            )
            assert opened.changed_files() == []
        assert weights(copy) == base.content(before)
        assert not (copy / journal.NAME).exists()


def test_a_torn_journal_is_removed(base, copy, before, after):
    with working_copy.opened(copy) as opened:
        stamps = opened.state.stamps
    journal.write(copy, journal.Journal("other", base.version(before), base.version(after), stamps, []))
    whole = (copy / journal.NAME).read_bytes()
    for length in range(0, len(whole), 7):
        (copy / journal.NAME).write_bytes(whole[:length])
        with working_copy.opened(copy) as opened:
            assert opened.recovered == "removed a torn journal: no byte had changed"
        assert not (copy / journal.NAME).exists()
        assert weights(copy) == base.content(before)


def test_a_file_of_another_length_is_not_patched_back(base, copy, before, after):
    with working_copy.opened(copy) as opened:
        stamps = opened.state.stamps
    journal.write(copy, journal.Journal("other", base.version(before), base.version(after), stamps, []))
    (copy / "model.safetensors").write_bytes(weights(copy)[:-1])
    message = r"bytes long; expected \d+, as when .* Make a new working copy"
    with pytest.raises(ModelError, match=message), working_copy.opened(copy):
        pass


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_a_failing_disk_leaves_before_or_after(base, copy, before, after, monkeypatch, lasting):
    """The n-th call fails; or, from the n-th on, all of them do, until the copy is opened again."""
    names = ("open", "write", "pwrite", "fsync", "replace", "unlink", "utime")
    versions = {base.version(slots): slots for slots in (before, after)}
    found = []
    for number in range(1, 10_000):
        left = [number]

        def failing(real, left=left):
            def call(*arguments, **options):
                left[0] -= 1
                if left[0] == 0 or (lasting and left[0] < 0):
                    raise OSError(errno.ENOSPC, "No space left on device")
                return real(*arguments, **options)

            return call

        with monkeypatch.context() as patched:
            try:
                with working_copy.opened(copy) as opened:
                    for name in names:
                        patched.setattr(os, name, failing(getattr(os, name)))
                    opened.switch(base.version(after), base.changes(before, after))
            except ModelError as error:
                message = str(error)
            else:
                break
        with working_copy.opened(copy) as opened:
            version = opened.state.version
            assert opened.changed_files() == []
        assert weights(copy) == base.content(versions[version])
        assert "No space left on device" in message
        if "can't be written" in message:
            assert f"is at {version}" in message or "next `kndb checkout` in it does that" in message
        found.append(version)
        if version == base.version(after):
            switch(base, copy, after, before)
    assert found.count(base.version(before)) > 15
    assert weights(copy) == base.content(after)


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_before_or_after(tmp_path):
    program = Path(__file__).with_name("kill_checkout.py")
    command = [sys.executable, str(program), str(tmp_path / "kill")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    counts = json.loads(result.stdout)
    assert counts["before"] > 40
    assert counts["after"] > 2
    assert counts["recoveries killed"] > 100


# --- what is found --------------------------------------------------------------------------------


def test_every_flipped_byte_is_found(base, copy, before):
    """In a patched slot by reading the slots, elsewhere by comparing with the base checkpoint."""
    with working_copy.opened(copy) as opened:
        slots = list(opened.state.slots.values())
        places = [slot_bytes.locate(slot.place, opened.tensors) for slot in slots]
        inside = {at + i for place in places for at in place.offsets for i in range(place.width)}
        assert copy_comparison.differing_files(copy, base.folder, ["model.safetensors", "config.json"], places) == []
        header = int.from_bytes(weights(copy)[:8], "little") + 8
        for offset in [*range(0, header, 9), *range(header, len(weights(copy)))]:
            spoil(copy, offset)
            differing = copy_comparison.differing_files(copy, base.folder, ["model.safetensors"], places)
            assert differing == ([] if offset in inside else ["model.safetensors"])
            if offset in inside:
                assert len(opened.wrong_slots(slots)) == 1
            spoil(copy, offset)
        assert opened.wrong_slots(slots) == []


def test_the_comparison_does_not_depend_on_its_pieces(base, copy, monkeypatch):
    with working_copy.opened(copy) as opened:
        places = [slot_bytes.locate(slot.place, opened.tensors) for slot in opened.state.slots.values()]
    for size in range(1, 40):
        monkeypatch.setattr(copy_comparison, "_CHUNK", size)
        assert copy_comparison.differing_files(copy, base.folder, ["model.safetensors"], places) == []
        assert copy_comparison.differing_files(copy, base.folder, ["model.safetensors"], places[1:]) != []


def test_other_bytes_in_a_slot_are_not_overwritten(base, copy, before, after):
    change = next(change for change in base.changes(before, after) if change.before != change.after)
    spoil(copy, slot_bytes.locate(change.place, tensor_places(copy)).offset)
    spoilt = weights(copy)
    with pytest.raises(ConflictError, match=r"1 of \d+ value slots in .*found sha256 .*expected .*overwrite them with"):
        switch(base, copy, before, after)
    assert weights(copy) == spoilt
    switch(base, copy, before, after, force=True)
    assert weights(copy) == base.content(after)


def test_slots_that_do_not_make_the_version_are_refused(base, copy, before, after):
    with working_copy.opened(copy) as opened:
        with pytest.raises(ModelError, match="the edits' slots make version"):
            opened.switch(base.version({}), base.changes(before, after))
        with pytest.raises(ModelError, match=r"by the store's edits; the working copy's state says"):
            opened.switch(base.version(after), base.changes(after, before))
    assert weights(copy) == base.content(before)


def test_a_changed_state_file_is_found(base, copy):
    path = copy / ".kndb-checkout.json"
    good = json.loads(path.read_text())
    for name, value in (("version", "v0000000000000000"), ("format", "other"), ("slots", [1]), ("stamps", None)):
        path.write_text(json.dumps({**good, name: value}))
        with pytest.raises(ModelError, match=r"ake a new working copy"), working_copy.opened(copy):
            pass
    path.write_text("{")
    with pytest.raises(ModelError, match="can't be read as a working copy's state"), working_copy.opened(copy):
        pass
