"""Working copies: what they hold after every switch, after every kind of failure, and what is refused."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
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

from kndb.editing.objects import slot_bytes
from kndb.editing.objects.diff_file import EditObject, ParameterDiff, encode
from kndb.editing.working_copy import (
    bytes as copy_bytes,
)
from kndb.editing.working_copy import (
    comparison as copy_comparison,
)
from kndb.editing.working_copy import (
    first_copy,
    switch_log,
)
from kndb.editing.working_copy import (
    opening as working_copy,
)
from kndb.editing.working_copy import (
    state as copy_state,
)
from kndb.editing.working_copy.copy import Switched
from kndb.errors import ConflictError, ModelError
from kndb.models.export import export_checkpoint
from kndb.models.weights import tensor_places
from kndb.records.recipes import read_recipe
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
            recipe=read_recipe("update", {"seed": seed}),
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
    assert switch(base, copy, before, before) == Switched(0, 0)
    assert (copy / "model.safetensors").stat() == inode
    one = {**before, ("layers.1.down", 0): b"0123456789"}
    assert switch(base, copy, before, one) == Switched(1, 10)


def test_the_order_of_calls_outlasts_a_power_cut(base, copy, before, after, monkeypatch):
    """The record and its file's name are on disk before the first byte of a weight file changes."""
    calls, names = [], {}

    def recording(name, real):
        def call(*arguments, **options):
            result = real(*arguments, **options)
            if name == "open":
                names[result] = Path(arguments[0]).name
            calls.append((name, str(names.get(arguments[0], arguments[0]))))
            return result

        return call

    with working_copy.opened(copy) as opened:
        changes = base.changes(before, after)
        for name in ("open", "write", "pwrite", "fsync", "fdatasync", "ftruncate", "replace", "unlink", "utime"):
            monkeypatch.setattr(os, name, recording(name, getattr(os, name)))
        monkeypatch.setattr(copy_bytes, "_write_mapped", recording("mapped", copy_bytes._write_mapped))
        opened.switch(base.version(after), changes)
        monkeypatch.undo()
    order = [call for call in calls if call[0] != "open"]
    kinds = [call for at, call in enumerate(order) if at == 0 or order[at - 1] != call]
    assert kinds[:3] == [("write", switch_log.NAME), ("fdatasync", switch_log.NAME), ("fsync", copy.name)]
    assert {kind for kind, _ in kinds[3:-2]} == {"mapped", "pwrite"}
    assert {name for _, name in kinds[3:-2]} == {"model.safetensors"}
    assert kinds[-2:] == [("utime", "model.safetensors"), ("write", switch_log.NAME)]


def switches(base, copy, before, count):
    """Some switches, and what the copy is at after each."""
    held = [before]
    for seed in range(count):
        held.append(base.random_slots(100 + seed, count=4))
        switch(base, copy, held[-2], held[-1])
    return held


def lose_power(base, copy, held, draw, monkeypatch):
    """Each piece of a slot on the disk is as in one of the versions since the last flush; the machine starts anew."""
    content = bytearray(base.content(held[0]))
    tensors = tensor_places(copy)
    for one, other in itertools.pairwise(held):
        for change in base.changes(one, other):
            place = slot_bytes.locate(change.place, tensors)
            for piece, offset in enumerate(place.offsets):
                if draw.random() < 0.5:
                    content[offset : offset + place.width] = change.after[piece * place.width :][: place.width]
    (copy / "model.safetensors").write_bytes(content)
    boot = f"boot {draw.random()}"
    monkeypatch.setattr(switch_log, "boot_id", lambda: boot)


def test_after_a_power_cut_the_log_is_written_again(base, copy, before, monkeypatch):
    draw = random.Random(3)
    for _ in range(10):
        held = switches(base, copy, before, 5)
        lose_power(base, copy, held, draw, monkeypatch)
        with working_copy.opened(copy) as opened:
            assert opened.recovered == "wrote 5 switches again, whose bytes may not have reached the disk"
            assert opened.state.version == base.version(held[-1])
            assert opened.changed_files() == []
            assert opened.wrong_slots(opened.state.slots.values()) == []
        assert weights(copy) == base.content(held[-1])
        assert not (copy / switch_log.NAME).exists()
        switch(base, copy, held[-1], before)
        with working_copy.opened(copy) as opened:
            opened.consolidate()


def test_after_a_power_cut_what_others_wrote_is_still_seen(base, copy, before, monkeypatch):
    held = switches(base, copy, before, 2)
    path, header = copy / "model.safetensors", int.from_bytes(weights(copy)[:8], "little")
    content = bytearray(weights(copy))
    content[8 + header - 1] ^= 1
    path.write_bytes(content)
    later = path.stat().st_mtime_ns + 3600 * 10**9
    os.utime(path, ns=(later, later))
    monkeypatch.setattr(switch_log, "boot_id", lambda: "another")
    with working_copy.opened(copy) as opened:
        assert "wrote 2 switches again" in opened.recovered
        assert opened.changed_files() == ["model.safetensors"]
        assert opened.state.version == base.version(held[-1])
    with working_copy.opened(copy) as opened:
        assert opened.changed_files() == ["model.safetensors"]


def test_a_record_cut_short_by_a_power_cut_never_happened(base, copy, before, monkeypatch):
    held = switches(base, copy, before, 2)
    with_two = (copy / switch_log.NAME).read_bytes()
    switch(base, copy, held[-1], before)
    whole = (copy / switch_log.NAME).read_bytes()
    state = (copy / ".kndb-checkout.json").read_bytes()
    record_end = whole.rindex(b"applied")
    draw = random.Random(8)
    for length in [*range(len(with_two), record_end, 41), record_end - 1, record_end]:
        (copy / ".kndb-checkout.json").write_bytes(state)
        (copy / switch_log.NAME).write_bytes(whole[:length])
        # What is not flushed need not be written in order: the file is long enough, but a block of it is zeros.
        if length == record_end:
            blank = bytearray(whole[:length])
            blank[-30:-10] = bytes(20)
            (copy / switch_log.NAME).write_bytes(blank)
        lose_power(base, copy, held, draw, monkeypatch)
        with working_copy.opened(copy) as opened:
            assert ("removed a torn record" in (opened.recovered or "")) is (length > len(with_two))
            assert opened.state.version == base.version(held[-1])
        assert weights(copy) == base.content(held[-1])


def test_a_process_that_died_after_the_record_is_ended(base, copy, before, after):
    switch(base, copy, before, after)
    log = (copy / switch_log.NAME).read_bytes()
    (copy / switch_log.NAME).write_bytes(log[: log.rindex(b"applied")])
    (copy / "model.safetensors").write_bytes(base.content(before))
    with working_copy.opened(copy) as opened:
        versions = (base.version(before), base.version(after))
        assert opened.recovered == "ended an interrupted switch from {} to {}".format(*versions)
        assert opened.changed_files() == []
    assert weights(copy) == base.content(after)


def test_what_a_full_disk_does_not_take_when_it_is_ended_is_taken_back(base, copy, before, after, monkeypatch):
    switch(base, copy, before, after)
    log = (copy / switch_log.NAME).read_bytes()
    (copy / switch_log.NAME).write_bytes(log[: log.rindex(b"applied")])
    (copy / "model.safetensors").write_bytes(base.content(before))
    left, real = [5], os.pwrite

    def failing(*arguments):
        left[0] -= 1
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, "pwrite", failing)
    with working_copy.opened(copy) as opened:
        assert "took back an interrupted switch" in opened.recovered
        assert opened.state.version == base.version(before)
        assert opened.changed_files() == []
    assert weights(copy) == base.content(before)


def test_the_log_is_ended_before_it_grows_long(base, copy, before, monkeypatch):
    monkeypatch.setattr("kndb.editing.working_copy.copy._LOG_RECORDS", 3)
    held, lengths = before, []
    for seed in range(9):
        wanted = base.random_slots(50 + seed)
        switch(base, copy, held, wanted)
        held, log = wanted, copy / switch_log.NAME
        lengths.append(log.stat().st_size if log.exists() else 0)
        state = copy_state.read(copy)
        assert (state.version == base.version(held)) is (lengths[-1] == 0)
    assert [bool(length) for length in lengths] == [True, True, True, False] * 2 + [True]
    assert weights(copy) == base.content(held)


def test_where_nothing_tells_of_a_new_start_each_switch_is_flushed(base, copy, before, after, monkeypatch):
    monkeypatch.setattr(switch_log, "boot_id", lambda: None)
    switch(base, copy, before, after)
    assert not (copy / switch_log.NAME).exists()
    assert copy_state.read(copy).version == base.version(after)


def test_after_a_flush_that_failed_all_is_written_again(base, copy, before, monkeypatch):
    """The system may drop what it could not flush, and say nothing the next time."""
    held = switches(base, copy, before, 3)
    real = os.fsync

    def failing(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").resolve().name == "model.safetensors":
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing)
        with pytest.raises(ModelError, match="Input/output error"), working_copy.opened(copy) as opened:
            opened.consolidate()
    (copy / "model.safetensors").write_bytes(base.content(before))
    with working_copy.opened(copy) as opened:
        assert opened.recovered == "wrote 3 switches again, whose bytes may not have reached the disk"
    assert weights(copy) == base.content(held[-1])


def test_damage_to_the_log_is_never_silent(base, copy, before, monkeypatch):
    """Any flipped byte, before or after a new start: refused, or the copy is what it was."""
    held = switches(base, copy, before, 3)
    whole = (copy / switch_log.NAME).read_bytes()
    state = (copy / ".kndb-checkout.json").read_bytes()
    right = weights(copy)
    for boot in (switch_log.boot_id(), "another"):
        monkeypatch.setattr(switch_log, "boot_id", lambda boot=boot: boot)
        found = {"tried": 0, "right": 0}
        for offset in range(0, len(whole), 5):
            found["tried"] += 1
            spoilt = bytearray(whole)
            spoilt[offset] ^= 1
            (copy / switch_log.NAME).write_bytes(spoilt)
            (copy / ".kndb-checkout.json").write_bytes(state)
            (copy / "model.safetensors").write_bytes(right)
            with contextlib.suppress(ModelError), working_copy.opened(copy) as opened:
                assert opened.state.version == base.version(held[-1])
                found["right"] += 1
            assert weights(copy) == right
        # While the machine runs on, nobody reads the bytes of a switch that was made.
        assert 3 < found["right"] < found["tried"] * (0.1 if boot == "another" else 0.5)


def test_a_file_of_another_length_is_not_patched(base, copy, before, after):
    switch(base, copy, before, after)
    log = (copy / switch_log.NAME).read_bytes()
    (copy / switch_log.NAME).write_bytes(log[: log.rindex(b"applied")])
    (copy / "model.safetensors").write_bytes(weights(copy)[:-1])
    message = r"bytes long, and was \d+ when versions .* Make a new working copy"
    with pytest.raises(ModelError, match=message), working_copy.opened(copy):
        pass


@pytest.mark.parametrize("roomy", [False, True], ids=["nearly full", "roomy"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_a_failing_disk_leaves_before_or_after(base, copy, before, after, monkeypatch, lasting, roomy):
    """The n-th call fails; or, from the n-th on, all of them do, until the copy is opened again."""
    monkeypatch.setattr(copy_bytes, "_has_room", lambda descriptor: roomy)
    names = ("open", "write", "pwrite", "fsync", "fdatasync", "ftruncate", "replace", "unlink", "utime")
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
            assert f"is at {version}" in message or "Opening it next ends that switch or" in message
        found.append(version)
        if version == base.version(after):
            switch(base, copy, after, before)
    assert len(found) > (8 if roomy else 25)
    assert found.count(base.version(before)) > (2 if lasting else 8 if roomy else 25)
    assert weights(copy) == base.content(after)


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_before_or_after(tmp_path):
    program = Path(__file__).with_name("kill_checkout.py")
    command = [sys.executable, str(program), str(tmp_path / "kill")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    counts = json.loads(result.stdout)
    assert counts["before"] > 4
    assert counts["after"] > 20
    assert counts["recoveries killed"] > 300


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
    with pytest.raises(ConflictError, match=r"1 of \d+ value slots in .*: sha256 .* in place of .*overwrite them with"):
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
