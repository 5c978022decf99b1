"""The tensors of LoRA adapters: bytes that safetensors reads, and what is refused of strangers'."""

import contextlib
import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kndb.editing.objects.adapter_tensors import FILE, encode, read
from kndb.editing.objects.low_rank import LowRank
from kndb.errors import InputError

ONE, OTHER = "h.0.c.lora_A.weight", "h.0.c.lora_B.weight"
MOST = 1_000_000


@pytest.fixture
def folder(tmp_path):
    save_file({ONE: torch.ones(2, 5), OTHER: torch.ones(3, 2)}, tmp_path / FILE, {"format": "pt", "kndb": "x"})
    return tmp_path


def test_what_is_written_is_what_safetensors_reads(tmp_path):
    changes = {f"h.{n}.c": LowRank(torch.randn(5, 2 + n), torch.randn(2 + n, 3)) for n in (0, 1)}
    content = encode(changes, {"title": "Ünïcode", "n": 1})
    assert content == encode(dict(reversed(changes.items())), {"n": 1, "title": "Ünïcode"})
    (tmp_path / FILE).write_bytes(content)
    found = load_file(tmp_path / FILE)
    assert len(found) == 4
    for module, change in changes.items():
        assert torch.equal(found[f"base_model.model.{module}.lora_A.weight"], change.left.T)
        assert torch.equal(found[f"base_model.model.{module}.lora_B.weight"], change.right.T)
    with safe_open(tmp_path / FILE, "pt") as file:
        assert json.loads(file.metadata()["kndb"]) == {"title": "Ünïcode", "n": 1}
        assert file.metadata()["format"] == "pt"
    back = read(tmp_path, MOST)
    assert back.modules.keys() == changes.keys()
    assert json.loads(back.metadata["kndb"])["title"] == "Ünïcode"


@pytest.mark.parametrize("name", [
    "base_model.model.h.0.c.lora_{}.weight", "h.0.c.lora_{}.default.weight", "h.0.c.lora_{}.weight"
])  # fmt: skip
def test_names_as_tools_write_them(tmp_path, name):
    save_file({name.format("A"): torch.ones(2, 5).half(), name.format("B"): torch.ones(3, 2).half()}, tmp_path / FILE)
    assert [*read(tmp_path, MOST).modules] == ["h.0.c"]


def spoilt(**changes):
    def spoil(folder):
        tensors = {**load_file(folder / FILE), **{name.replace("__", "."): one for name, one in changes.items()}}
        save_file({name: one for name, one in tensors.items() if one is not None}, folder / FILE)

    return spoil


SPOILT = {
    "pickled": (lambda folder: (folder / FILE).rename(folder / "adapter_model.bin"), "is pickled"),
    "gone": (lambda folder: (folder / FILE).unlink(), "can't be read"),
    "a folder": (lambda folder: ((folder / FILE).unlink(), (folder / FILE).mkdir()), "no regular file"),
    "cut": (lambda folder: (folder / FILE).write_bytes((folder / FILE).read_bytes()[:-9]), "safetensors"),
    "no header": (lambda folder: (folder / FILE).write_bytes(b"x" * 99), "header"),
    "empty": (lambda folder: (folder / FILE).write_bytes(b""), "header"),
    "large": (lambda folder: (folder / FILE).write_bytes(b"x" * (MOST + 1)), "more than 1,000,000 bytes.*most_bytes"),
    "NaN": (spoilt(**{ONE: torch.full((2, 5), float("nan"))}), "NaN or infinity"),
    "half": (spoilt(**{OTHER: None}), "lora_B of h.0.c missing"),
    "none": (spoilt(**{ONE: None, OTHER: None}), "no lora_A and lora_B"),
    "other": (spoilt(score=torch.zeros(2)), "beside the lora_A and lora_B of modules: score"),
    "magnitudes": (spoilt(**{"h.0.c.lora_magnitude_vector": torch.zeros(2)}), "beside the lora_A"),
    "twice": (spoilt(**{f"base_model.model.{ONE}": torch.zeros(2, 5)}), "twice"),
    "whole numbers": (spoilt(**{ONE: torch.zeros(2, 5, dtype=torch.int8)}), "floating"),
    "convolution": (spoilt(**{ONE: torch.zeros(2, 5, 1)}), "are no"),
    "ranks": (spoilt(**{ONE: torch.zeros(3, 5)}), "are no"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_damaged_and_foreign_tensors_are_refused(folder, what):
    spoil, text = SPOILT[what]
    spoil(folder)
    with pytest.raises(InputError, match=text):
        read(folder, MOST)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 20))
def test_whatever_bytes_come_are_read_or_refused(folder, changes, cut):
    path = folder / FILE
    content = bytearray(encode({"h.0.c": LowRank(torch.ones(5, 2), torch.ones(2, 3))}, {"title": "x"}))
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(content[: len(content) - cut])
    with contextlib.suppress(InputError):
        found = read(folder, MOST)
        assert all(torch.isfinite(one).all() for pair in found.modules.values() for one in pair)
