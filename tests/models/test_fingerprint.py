"""Fingerprints: what they depend on, and what not."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import tiny_model

from kndb.errors import ModelError
from kndb.models.checkpoint_files import TOKENIZER_FILES
from kndb.models.fingerprint import fingerprint
from kndb.models.weights import weight_files

FAMILIES = pytest.mark.parametrize("family", ["bert", "gpt2"])


def rewrite(folder, change) -> None:
    """Saves a checkpoint's weights again, changed in place."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@FAMILIES
def test_the_same_files_have_the_same_fingerprint(saved, checkpoint, family):
    digest = fingerprint(saved[family])
    assert len(digest) == 64
    assert int(digest, 16) >= 0
    copy = checkpoint(family)
    assert fingerprint(copy) == digest
    rewrite(copy, lambda tensors: None)
    assert fingerprint(copy) == digest


def test_families_and_weights_differ(saved, checkpoint):
    assert fingerprint(saved["bert"]) != fingerprint(saved["gpt2"])
    copy = checkpoint("bert")
    tiny_model("bert", seed=1).save_pretrained(copy)
    assert fingerprint(copy) != fingerprint(saved["bert"])


@FAMILIES
def test_shards_make_no_difference(saved, checkpoint, family):
    copy = checkpoint(family)
    (copy / "model.safetensors").unlink()
    tiny_model(family).save_pretrained(copy, max_shard_size="10KB")
    assert len(weight_files(copy)) > 2
    assert (copy / "model.safetensors.index.json").is_file()
    assert fingerprint(copy) == fingerprint(saved[family])


@FAMILIES
def test_every_tensor_counts(saved, checkpoint, family):
    """One changed bit in any one tensor gives another fingerprint, all of them different."""
    names = load_file(saved[family] / "model.safetensors").keys()
    digests = {fingerprint(saved[family])}
    copy = checkpoint(family)
    for name in names:

        def flip(tensors, name=name):
            tensors[name].view(torch.int32).reshape(-1)[-1] ^= 1

        rewrite(copy, flip)
        digests.add(fingerprint(copy))
        rewrite(copy, flip)
    assert fingerprint(copy) == fingerprint(saved[family])
    assert len(digests) == len(names) + 1


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.update(renamed=tensors.pop(sorted(tensors)[0])),
        lambda tensors: tensors.update(more=torch.zeros(1)),
        lambda tensors: tensors.pop(sorted(tensors)[0]),
        lambda tensors: tensors.update({name: tensor.half() for name, tensor in tensors.items()}),
        lambda tensors: tensors.update(
            {name: tensor.reshape(-1, 1) for name, tensor in tensors.items() if tensor.ndim == 1}
        ),
        lambda tensors: tensors.update(
            {name: tensor.view(torch.int32) for name, tensor in tensors.items() if tensor.ndim == 2}
        ),
    ],
    ids=["renamed", "added", "removed", "other precision", "other shape", "other dtype, same bytes"],
)
def test_names_shapes_and_dtypes_count(saved, checkpoint, change):
    copy = checkpoint("gpt2")
    rewrite(copy, change)
    assert fingerprint(copy) != fingerprint(saved["gpt2"])


def test_scalars_empty_tensors_and_bfloat16_can_be_hashed(checkpoint):
    copy = checkpoint("gpt2")
    digests = set()
    for tensor in (torch.tensor(1.0), torch.zeros(0), torch.zeros(0, 3), torch.ones(3).bfloat16(), torch.ones(3, 2).T):
        rewrite(copy, lambda tensors, tensor=tensor: tensors.update(extra=tensor.contiguous()))
        digests.add(fingerprint(copy))
    assert len(digests) == 5


@FAMILIES
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_one_byte_of_the_tokenizer_counts(saved, checkpoint, family, name):
    copy = checkpoint(family)
    path = copy / name
    path.write_bytes(path.read_bytes() + b" ")
    assert fingerprint(copy) != fingerprint(saved[family])
    path.unlink()
    assert fingerprint(copy) != fingerprint(saved[family])


@pytest.mark.parametrize("name", TOKENIZER_FILES)
def test_every_kind_of_tokenizer_file_counts(checkpoint, name):
    copy = checkpoint("bert")
    before = fingerprint(copy)
    path = copy / name
    path.write_bytes((path.read_bytes() if path.is_file() else b"{}") + b" ")
    assert fingerprint(copy) != before


def test_configuration_counts_but_not_its_layout(saved, checkpoint, configure):
    copy = checkpoint("bert")
    expected = fingerprint(saved["bert"])
    path = copy / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(values.items()))))
    assert fingerprint(copy) == expected
    configure(copy, transformers_version="0.0.1", _name_or_path="elsewhere", torch_dtype="float32")
    assert fingerprint(copy) == expected
    configure(copy, layer_norm_eps=values["layer_norm_eps"] * 2)
    assert fingerprint(copy) != expected


def test_other_files_do_not_count(saved, checkpoint):
    copy = checkpoint("bert")
    (copy / "README.md").write_text("A model.")
    (copy / "pytorch_model.bin").write_bytes(b"not read where there are safetensors")
    assert fingerprint(copy) == fingerprint(saved["bert"])


def test_pickled_weights(saved, checkpoint):
    copy = checkpoint("gpt2")
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(tensors, copy / "pytorch_model.bin")
    assert fingerprint(copy) == fingerprint(saved["gpt2"])
    (copy / "pytorch_model.bin").write_bytes(b"garbage")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin can't be read as pickled tensors"):
        fingerprint(copy)


def test_what_is_no_checkpoint(checkpoint, tmp_path):
    with pytest.raises(ModelError, match=r"has no config\.json"):
        fingerprint(tmp_path)
    copy = checkpoint("bert")
    (copy / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        fingerprint(copy)
    copy = checkpoint("bert")
    (copy / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json can't be read as a model's configuration"):
        fingerprint(copy)
    copy = checkpoint("bert")
    (copy / "model.safetensors").write_bytes(b"garbage" * 10)
    with pytest.raises(ModelError, match=r"model\.safetensors can't be read as safetensors"):
        fingerprint(copy)
