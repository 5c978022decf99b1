"""Exported checkpoints: the base's files with the changed tensors, complete or not there at all."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_models import tiny_model

from kndb.errors import ModelError, OutputError, UsageError
from kndb.models.export import export_checkpoint
from kndb.models.fingerprint import fingerprint
from kndb.models.loading import load
from kndb.models.weights import weight_files

NAMES = {"bert": "bert.encoder.layer.1.output.dense.weight", "gpt2": "transformer.h.1.mlp.c_proj.weight"}
FAMILIES = pytest.mark.parametrize("family", ["bert", "gpt2"])


def raw(tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


@FAMILIES
def test_an_unchanged_export_is_the_same_checkpoint(saved, tmp_path, family, checkpoint_bytes):
    target = tmp_path / "new" / "place"
    export_checkpoint(saved[family], target, {})
    assert fingerprint(target) == fingerprint(saved[family])
    assert checkpoint_bytes(target) == checkpoint_bytes(saved[family])
    assert [path.name for path in target.parent.iterdir()] == ["place"]


@FAMILIES
def test_just_the_changed_tensor_differs(saved, tmp_path, family, checkpoint_bytes):
    source, target = saved[family], tmp_path / "patched"
    before = checkpoint_bytes(source)
    old = load_file(source / "model.safetensors")
    changed = old[NAMES[family]].clone()
    changed[0, 0], changed[1, 1] = float("nan"), -0.0
    # A transposed copy: exports must not depend on how the tensor lies in memory.
    export_checkpoint(source, target, {NAMES[family]: changed.T.contiguous().T})
    new = load_file(target / "model.safetensors")
    assert new.keys() == old.keys()
    for name, tensor in new.items():
        assert tensor.dtype == old[name].dtype
        assert raw(tensor) == raw(changed if name == NAMES[family] else old[name])
    after = checkpoint_bytes(target)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {"model.safetensors"}
    with safe_open(source / "model.safetensors", "pt") as left, safe_open(target / "model.safetensors", "pt") as right:
        assert left.metadata() == right.metadata()
    assert checkpoint_bytes(source) == before
    assert fingerprint(target) != fingerprint(source)


@FAMILIES
def test_transformers_loads_an_export(saved, tmp_path, family):
    changed = load(saved[family]).model.get_parameter(NAMES[family]).detach() * 2
    export_checkpoint(saved[family], tmp_path / "out", {NAMES[family]: changed})
    found = load(tmp_path / "out").model
    expected = load(saved[family]).model
    for (name, parameter), other in zip(found.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(parameter, changed if name == NAMES[family] else other)


@FAMILIES
def test_sharded_checkpoints(checkpoint, tmp_path, family):
    source = checkpoint(family)
    (source / "model.safetensors").unlink()
    tiny_model(family).save_pretrained(source, max_shard_size="10KB")
    model = tiny_model(family)
    changed = {
        name: tensor.detach() + 1
        for name, tensor in model.named_parameters()
        if name.endswith(("mlp.c_proj.weight", ".output.dense.weight")) and "attention" not in name
    }
    assert len(changed) == 3
    export_checkpoint(source, tmp_path / "out", changed)
    assert [path.name for path in weight_files(tmp_path / "out")] == [path.name for path in weight_files(source)]
    found = dict(load(tmp_path / "out").model.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(found[name], changed.get(name, parameter))


def test_a_checkpoint_saved_from_the_body_alone(checkpoint, tmp_path):
    source = checkpoint("gpt2")
    tiny_model("gpt2").transformer.save_pretrained(source)
    assert "h.1.mlp.c_proj.weight" in load_file(source / "model.safetensors")
    changed = load(source).model.get_parameter(NAMES["gpt2"]).detach() + 1
    export_checkpoint(source, tmp_path / "out", {NAMES["gpt2"]: changed})
    assert torch.equal(load_file(tmp_path / "out" / "model.safetensors")["h.1.mlp.c_proj.weight"], changed)


def test_half_precision_keeps_its_bytes(checkpoint, tmp_path):
    source = checkpoint("bert")
    tiny_model("bert").bfloat16().save_pretrained(source)
    changed = load_file(source / "model.safetensors")[NAMES["bert"]] * 3
    export_checkpoint(source, tmp_path / "out", {NAMES["bert"]: changed})
    found = load_file(tmp_path / "out" / "model.safetensors")[NAMES["bert"]]
    assert found.dtype == torch.bfloat16
    assert raw(found) == raw(changed)


def test_an_empty_folder_may_be_the_target(saved, tmp_path):
    target = tmp_path / "empty"
    target.mkdir()
    export_checkpoint(saved["bert"], target, {})
    assert fingerprint(target) == fingerprint(saved["bert"])


def test_nothing_is_overwritten(saved, tmp_path):
    target = tmp_path / "taken"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists already and is not an empty folder; choose another out"):
        export_checkpoint(saved["bert"], target, {})
    assert [path.name for path in target.iterdir()] == ["notes.txt"]
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        export_checkpoint(saved["bert"], file, {})
    assert file.read_text() == "mine"
    for inside in (saved["bert"], saved["bert"] / "new" / "copy"):
        with pytest.raises(UsageError, match="lies in the base checkpoint's own folder"):
            export_checkpoint(saved["bert"], inside, {})
    assert not (saved["bert"] / "new").exists()


@FAMILIES
@pytest.mark.parametrize("problem", ["unknown name", "other dtype", "other shape", "transposed"])
def test_nothing_is_left_behind_on_failure(saved, tmp_path, family, problem):
    good = load_file(saved[family] / "model.safetensors")[NAMES[family]]
    changed, message = {
        "unknown name": ({NAMES[family]: good, "nowhere.weight": good}, "have no tensor for nowhere.weight"),
        "other dtype": ({NAMES[family]: good.double()}, "float32.*the edited one is torch.float64"),
        "other shape": ({NAMES[family]: good[1:]}, r"is torch.float32 \[\d+, \d+\], and the edited one is"),
        "transposed": ({NAMES[family]: good.T}, r"is torch.float32 \[\d+, \d+\], and the edited one is"),
    }[problem]
    with pytest.raises(ModelError, match=message):
        export_checkpoint(saved[family], tmp_path / "out", changed)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_disk_leaves_nothing(saved, tmp_path, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kndb.models.export.copy_file", full)
    with pytest.raises(OutputError, match="can't be written: No space left on device"):
        export_checkpoint(saved["bert"], tmp_path / "out", {})
    assert list(tmp_path.iterdir()) == []


def test_pickled_weights_can_not_be_patched(checkpoint, tmp_path):
    source = checkpoint("gpt2")
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    torch.save(tensors, source / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"the safetensors files of .*save_pretrained first"):
        export_checkpoint(source, tmp_path / "out", {NAMES["gpt2"]: tensors[NAMES["gpt2"]]})
    assert not (tmp_path / "out").exists()


# --- links --------------------------------------------------------------------------------------------


@pytest.fixture
def sharded(checkpoint):
    """A checkpoint in several files, and one changed parameter of one of them."""
    source = checkpoint("bert")
    (source / "model.safetensors").unlink()
    tiny_model("bert").save_pretrained(source, max_shard_size="10KB")
    return source, {NAMES["bert"]: dict(tiny_model("bert").named_parameters())[NAMES["bert"]].detach() + 1}


@pytest.mark.parametrize("link", [False, True])
def test_only_the_file_with_the_change_is_written(sharded, tmp_path, checkpoint_bytes, link):
    source, changed = sharded
    before = checkpoint_bytes(source)
    done = export_checkpoint(source, tmp_path / "out", changed, link=link)
    (tensor,) = changed.values()
    others = len(weight_files(source)) - 1
    assert (done.files_written, done.bytes_written) == (1, tensor.numel() * tensor.element_size())
    assert (done.files_copied, done.files_linked) == ((0, others) if link else (others, 0))
    after = checkpoint_bytes(tmp_path / "out")
    (written,) = (name for name in after if after[name] != before[name])
    for path in weight_files(source):
        assert path.samefile(tmp_path / "out" / path.name) is (link and path.name != written)
    # Of the written file, nothing differs outside of the tensor's own bytes.
    old, new = before[written], after[written]
    places = [place for place, (one, other) in enumerate(zip(old, new, strict=True)) if one != other]
    assert len(old) == len(new)
    assert max(places) - min(places) < tensor.numel() * tensor.element_size()
    base = raw(dict(tiny_model("bert").named_parameters())[NAMES["bert"]].detach())
    assert new.find(raw(tensor)) == old.find(base) <= min(places)
    assert checkpoint_bytes(source) == before


def test_a_change_back_to_the_same_bytes_is_none(saved, tmp_path):
    same = load_file(saved["bert"] / "model.safetensors")[NAMES["bert"]]
    done = export_checkpoint(saved["bert"], tmp_path / "out", {NAMES["bert"]: same}, link=True)
    assert (done.files_written, done.files_linked, done.bytes_written) == (0, 1, 0)


def test_what_can_not_be_linked_is_refused(sharded, tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("kndb.models.export.os.link", refuse)
    with pytest.raises(ModelError, match=r"can't be hard-linked .*cross-device link; .*Leave link out"):
        export_checkpoint(sharded[0], tmp_path / "out", sharded[1], link=True)
    assert not list(tmp_path.glob("*out*"))


# --- dtypes -------------------------------------------------------------------------------------------


def test_a_dtype_that_would_change_values_is_refused_unless_asked(sharded, tmp_path):
    source, changed = sharded
    with pytest.raises(ModelError, match=r"bfloat16 can't hold \d+ values of \d+ tensors .*rounded: round"):
        export_checkpoint(source, tmp_path / "out", changed, dtype="bfloat16")
    assert not list(tmp_path.glob("*out*"))
    done = export_checkpoint(source, tmp_path / "out", changed, dtype="bfloat16", rounding=True)
    expected = {name: tensor.detach() for name, tensor in tiny_model("bert").named_parameters()} | changed
    found = load(tmp_path / "out").model
    lost = 0
    for name, tensor in found.named_parameters():
        assert tensor.dtype == torch.bfloat16
        assert raw(tensor.detach()) == raw(expected[name].to(torch.bfloat16))
        lost += int((tensor.detach().float() != expected[name]).sum())
    assert done.values_rounded >= lost > 0
    assert (done.files_written, done.files_copied) == (len(weight_files(source)), 0)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    stored = [load_file(path) for path in weight_files(tmp_path / "out")]
    assert index["metadata"]["total_size"] == sum(len(raw(value)) for file in stored for value in file.values())


def test_a_wider_dtype_needs_no_leave(checkpoint, tmp_path):
    source = checkpoint("gpt2")
    tiny_model("gpt2").bfloat16().save_pretrained(source)
    changed = load_file(source / "model.safetensors")[NAMES["gpt2"]] * 2
    done = export_checkpoint(source, tmp_path / "out", {NAMES["gpt2"]: changed}, dtype="float32")
    assert done.values_rounded == 0
    old, new = (load_file(folder / "model.safetensors") for folder in (source, tmp_path / "out"))
    for name, tensor in new.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, (changed if name == NAMES["gpt2"] else old[name]).float())


def test_overflow_counts_as_change(checkpoint, tmp_path):
    source = checkpoint("gpt2")
    values = load_file(source / "model.safetensors")[NAMES["gpt2"]].clone()
    values[0, 0] = 1e30
    with pytest.raises(ModelError, match="float16 can't hold"):
        export_checkpoint(source, tmp_path / "out", {NAMES["gpt2"]: values}, dtype="float16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "dtype must be one of float32, float16, bfloat16 .got 'int8'"),
        ({"rounding": True}, "round allows .* needs dtype"),
    ],
)
def test_options_that_are_refused(saved, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        export_checkpoint(saved["bert"], tmp_path / "out", {}, **options)
    assert list(tmp_path.iterdir()) == []
