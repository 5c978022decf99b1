"""What a working copy is not made of, or not made in; and how files are copied."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from plain_checkpoints import SHAPES, PlainCheckpoint
from safetensors.torch import save_file

from kndb.editing.objects import slot_bytes
from kndb.editing.objects.diff_file import encode
from kndb.editing.working_copy import opening as working_copy
from kndb.errors import DiffFileError, ModelError, UsageError
from kndb.models import sparse_files
from kndb.models.weights import tensor_places


def switch(base, copy, before, after, **options):
    with working_copy.opened(copy) as opened:
        return opened.switch(base.version(after), base.changes(before, after), **options)


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_one_process_at_a_time(copy):
    busy = pytest.raises(ModelError, match="another process is working on")
    with working_copy.opened(copy), busy, working_copy.opened(copy):
        pass
    with working_copy.opened(copy):
        pass


def test_links_are_refused(base, copy, before, after, tmp_path):
    path = copy / "model.safetensors"
    (tmp_path / "second-name").hardlink_to(path)
    with pytest.raises(ModelError, match="is a link, or has a second name"):
        switch(base, copy, before, after)
    path.unlink()
    path.symlink_to(tmp_path / "second-name")
    with pytest.raises(ModelError, match="is a link, or has a second name"):
        switch(base, copy, before, after)
    assert (tmp_path / "second-name").read_bytes() == base.content(before)


def test_a_linked_checkpoint_is_copied_by_content(base, tmp_path):
    """As in the hub's cache, whose files are links."""
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in base.folder.iterdir():
        (linked / path.name).symlink_to(path)
    base.folder = linked
    base.copy(tmp_path / "copy", base.random_slots(1))
    assert not (tmp_path / "copy" / "model.safetensors").is_symlink()
    assert weights(linked) == base.content({})


def test_places_that_are_refused(base, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    file = tmp_path / "file"
    file.write_text("mine")
    (tmp_path / "link").symlink_to(base.folder)
    for target in (taken, file):
        with pytest.raises(UsageError, match="neither a working copy nor an empty folder"):
            base.copy(target, {})
    for target in (base.folder, base.folder / "new", tmp_path / "link"):
        with pytest.raises(UsageError, match="lies in the base checkpoint's own folder"):
            base.copy(target, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "file", "link", "taken"]
    (tmp_path / "empty").mkdir()
    base.copy(tmp_path / "empty", {})
    assert weights(tmp_path / "empty") == base.content({})


def test_a_failing_copy_leaves_nothing(base, tmp_path, monkeypatch):
    def refuse(folder):
        assert weights(folder) == base.content({})
        raise ModelError("not what was registered")

    with pytest.raises(ModelError, match="not what was registered"):
        base.copy(tmp_path / "copy", base.random_slots(1), refuse)
    for name in ("ftruncate", "copy_file_range", "pwrite", "fsync", "replace"):
        with monkeypatch.context() as patched:

            def full(*_arguments, **_options):
                raise OSError(errno.ENOSPC, "No space left on device")

            patched.setattr(os, name, full)
            with pytest.raises(ModelError, match="No space left on device"):
                base.copy(tmp_path / "copy", base.random_slots(1))
        assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_folder_that_is_no_working_copy(tmp_path):
    message = r"is no working copy: there is no .kndb-checkout.json .*db.checkouts.checkout\(VERSION"
    with pytest.raises(ModelError, match=message), working_copy.opened(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def header(base: PlainCheckpoint, **entries: object) -> None:
    content = base.content({})
    length = int.from_bytes(content[:8], "little")
    values = json.loads(content[8 : 8 + length]) | entries
    text = json.dumps(values).encode()
    (base.folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [5, 7], "data_offsets": [0, 139]},
        {"dtype": "F32", "shape": [5, 7], "data_offsets": [200, 340]},
        {"dtype": "F32", "shape": [-5, -7], "data_offsets": [0, 140]},
        {"dtype": "F32", "shape": [5.0, 7], "data_offsets": [0, 140]},
        {"dtype": "F32", "shape": [5, 7]},
        {"dtype": "I64", "shape": [5, 7], "data_offsets": [9, 3]},
        None,
    ],
)
def test_headers_that_can_not_be_true(base, entry):
    header(base, **{"layers.0.down": entry})
    with pytest.raises(ModelError, match="can't be read as safetensors"):
        tensor_places(base.folder)


@pytest.mark.parametrize(
    "content", [b"", b"1234567", b"\xff" * 8 + b"{}", b"\x02\0\0\0\0\0\0\0[]", b"\x03" + b"\0" * 20]
)
def test_files_that_are_not_safetensors(base, content):
    (base.folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="can't be read as safetensors"):
        tensor_places(base.folder)


def test_parameters_that_do_not_fit(base):
    tensors = tensor_places(base.folder)
    place = base.place("layers.0.down", 0)
    fields = {**place.__dict__}
    for other, message in (
        ({"parameter": "nowhere.x"}, "have no tensor for nowhere.x"),
        ({"dtype": "BF16"}, "layers.0.down in model.safetensors is F32"),
        ({"shape": (7, 5)}, r"is F32 \[5, 7\], and the edit was planned on F32 \[7, 5\]"),
        ({"neuron": 7}, "has no column 7"),
    ):
        with pytest.raises(ModelError, match=message):
            slot_bytes.locate(slot_bytes.SlotPlace(**{**fields, **other}), tensors)
    prefixed = slot_bytes.SlotPlace(**{**fields, "parameter": "model.layers.0.down"})
    assert slot_bytes.locate(prefixed, tensors) == slot_bytes.locate(place, tensors)


def test_a_tensor_in_two_files_and_a_wrong_index(base, tmp_path):
    save_file({"layers.0.down": torch.zeros(5, 7)}, base.folder / "b.safetensors")
    with pytest.raises(ModelError, match=r"has b.safetensors besides the weights that are loaded"):
        tensor_places(base.folder)
    (base.folder / "model.safetensors").rename(base.folder / "a.safetensors")
    index = base.folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {**dict.fromkeys(SHAPES, "a.safetensors"), "more": "b.safetensors"}}))
    with pytest.raises(ModelError, match=r"has the tensor layers.0.down in a.safetensors and in b.safetensors"):
        tensor_places(base.folder)
    (base.folder / "b.safetensors").unlink()
    index.write_text(json.dumps({"weight_map": dict.fromkeys(SHAPES, "a.safetensors")}))
    assert set(tensor_places(base.folder)) == set(SHAPES)
    save_file({"more": torch.zeros(1)}, base.folder / "b.safetensors")
    index.write_text(json.dumps({"weight_map": {**dict.fromkeys(SHAPES, "b.safetensors"), "x": "a.safetensors"}}))
    with pytest.raises(ModelError, match=r"says that .* is in b.safetensors, and a.safetensors has it"):
        tensor_places(base.folder)


def test_pickled_weights_are_refused(base, tmp_path):
    (base.folder / "model.safetensors").rename(base.folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"is pickled, .*save_pretrained first"):
        base.copy(tmp_path / "copy", {})
    assert not (tmp_path / "copy").exists()


def test_what_is_no_edit_object(make_edit):
    content = encode(make_edit())
    for bad in (b"", content[:40], content.replace(b'"layout', b'"lay0ut')):
        with pytest.raises(DiffFileError, match="x is not a sound edit object"):
            slot_bytes.read_edit(bad, "x")


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("plainly", [False, True], ids=["by the system", "plainly"])
def test_a_copy_is_equal_and_as_sparse(tmp_path, monkeypatch, plainly):
    if plainly:
        monkeypatch.delattr(os, "copy_file_range")
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.write(b"start")
        file.seek(40 << 20)
        file.write(b"middle" * 5000)
        file.truncate(90 << 20)
    sparse_files.copy_file(source, target)
    assert target.stat().st_size == source.stat().st_size
    assert target.stat().st_blocks <= source.stat().st_blocks + 16
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(source.read_bytes()).digest()
    (tmp_path / "empty").touch()
    sparse_files.copy_file(tmp_path / "empty", tmp_path / "empty-copy")
    assert (tmp_path / "empty-copy").read_bytes() == b""


def test_a_switch_loads_no_torch():
    program = (
        "import sys, kndb.database.versions.checkouts, kndb.editing.working_copy.first_copy;"
        " print(*[name for name in ('torch', 'numpy', 'transformers', 'safetensors') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    assert found.stdout.strip() == ""
