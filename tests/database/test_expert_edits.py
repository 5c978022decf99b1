"""Edits of experts' value slots, in files that have a tensor for each expert and in files that have one for all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from causal_families import VARIANTS, causal_model
from masked_families import byte_level
from safetensors.torch import load_file, save_file

from kndb.database import open_database
from kndb.database.edits.objects import add_object
from kndb.editing.planning import recipes
from kndb.errors import ModelError
from kndb.records.recipes import read_recipe

FORMS = [
    ("mixtral", True, "20KB"),
    ("mixtral", False, None),
    ("qwen3_moe", True, None),
    ("qwen3_moe", False, "30KB"),
    ("gpt_oss", True, None),
]
EVERY_FORM = pytest.mark.parametrize(
    ("name", "apart", "shards"), FORMS, ids=[f"{name}-{'apart' if apart else 'together'}" for name, apart, _ in FORMS]
)
EXPERT = {
    "mixtral": "model.layers.{}.block_sparse_moe.experts.{}.w2.weight",
    "qwen3_moe": "model.layers.{}.mlp.experts.{}.down_proj.weight",
}
"""What files call an expert's down projection; gpt-oss has them together only."""


def save(folder: Path, name: str, apart: bool, shards: str | None) -> Path:
    options: dict[str, Any] = {} if shards is None else {"max_shard_size": shards}
    model = causal_model(name, vocab_size=400).bfloat16()
    model.save_pretrained(folder, save_original_format=apart, **options)
    byte_level().save_pretrained(folder)
    return folder


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint's files."""
    found: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        found |= load_file(path)
    return found


def slot(name: str, tensors: dict[str, torch.Tensor], layer: int, neuron: int) -> torch.Tensor:
    """A view of a neuron's value slot in a checkpoint's tensors, wherever it is."""
    variant = VARIANTS[name]
    experts = {"mixtral": 4, "qwen3_moe": 5, "gpt_oss": 3}[name]
    expert, within = divmod(neuron, variant.neurons // experts)
    apart = tensors.get(EXPERT.get(name, "").format(layer, expert))
    if apart is not None:
        return apart[:, within]
    together = tensors[f"model.layers.{layer}.mlp.experts.down_proj"]
    return together[expert, within] if name == "gpt_oss" else together[expert, :, within]


@pytest.fixture
def database(tmp_path):
    with open_database(tmp_path / "kndb.db") as opened:
        yield opened


CHANGED = {0: (3, 17, 18), 2: (0, 77)}
"""Neurons by layer: of the first expert, of others, and the last of one."""


def plan(database: Any) -> tuple[int, dict[int, torch.Tensor]]:
    version = database.models.load("tiny")
    noise = torch.Generator().manual_seed(1)
    drawn = {layer: torch.randn(len(numbers), 24, generator=noise) for layer, numbers in CHANGED.items()}
    values = {layer: (torch.tensor(CHANGED[layer]), rows.double()) for layer, rows in drawn.items()}
    about = {"fingerprint": version.record.fingerprint, "recipe": read_recipe("update", {"seed": 1})}
    content = recipes.plan_values(version.network, values, **about)
    with database.store.writing() as connection:
        return add_object(connection, database.store, version.record.id, content, version.version, None, None), drawn


@EVERY_FORM
def test_an_edit_is_applied_written_and_taken_back_where_the_files_have_it(
    database, tmp_path, name, apart, shards, checkpoint_bytes
):
    folder = save(tmp_path / "model", name, apart, shards)
    assert (len(list(folder.glob("*.safetensors"))) > 1) == (shards is not None)
    base, before = stored(folder), checkpoint_bytes(folder)
    assert ("model.layers.0.mlp.experts.down_proj" in base) == (not apart or name == "gpt_oss")
    database.models.add(str(folder), "tiny")
    number, values = plan(database)
    database.edits.apply(number)
    expected = {key: tensor.clone() for key, tensor in base.items()}
    for layer, numbers in CHANGED.items():
        for row, neuron in enumerate(numbers):
            slot(name, expected, layer, neuron).copy_(values[layer][row].bfloat16())

    def check(found: Path, wanted: dict[str, torch.Tensor]) -> None:
        present = stored(found)
        assert present.keys() == wanted.keys()
        for key, tensor in wanted.items():
            assert torch.equal(present[key], tensor), key

    copy, out = tmp_path / "copy", tmp_path / "out"
    database.checkouts.checkout("current", copy, model="tiny")
    check(copy, expected)
    database.snapshots.export("current", "tiny", out)
    check(out, expected)
    loaded = database.models.load("tiny").model.model.layers[2].mlp.experts.down_proj
    assert torch.equal(slot(name, {"model.layers.2.mlp.experts.down_proj": loaded}, 2, 77), values[2][1].bfloat16())
    database.edits.revert(number)
    shutil.rmtree(copy)
    database.checkouts.checkout("current", copy, model="tiny")
    check(copy, base)
    assert all(row.ok for row in database.edits.verify())
    assert checkpoint_bytes(folder) == before


def spoil(folder: Path, changes: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Writes changed tensors into a checkpoint's only weight file; gives all."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for key, change in changes.items():
        tensors[key] = change(tensors[key])
    save_file(tensors, path, metadata={"format": "pt"})
    return tensors


def test_a_capture_of_experts_that_changed(database, tmp_path):
    """All value slots of two experts, which files have in two tensors, and the router, which files call otherwise."""
    folder = save(tmp_path / "model", "mixtral", True, None)
    edited = Path(shutil.copytree(folder, tmp_path / "edited"))
    slots = "model.layers.1.block_sparse_moe.experts.{}.w2.weight"
    router = "model.layers.0.block_sparse_moe.gate.weight"
    expected = spoil(edited, {slots.format(1): torch.neg, slots.format(3): torch.neg, router: lambda one: one * 2})
    database.models.add(str(folder), "tiny")
    captured = database.edits.draft_capture("tiny", str(edited))
    database.edits.apply(database.edits.add(captured.draft).id)
    database.checkouts.checkout("current", tmp_path / "copy", model="tiny")
    assert all(torch.equal(one, expected[key]) for key, one in stored(tmp_path / "copy").items())


def test_changed_gates_of_experts_are_exported_and_not_checked_out(database, tmp_path):
    """They are two tensors of each expert in the files, and a part of one parameter of all in the model."""
    folder = save(tmp_path / "model", "mixtral", True, None)
    edited = Path(shutil.copytree(folder, tmp_path / "edited"))
    expected = spoil(edited, {"model.layers.1.block_sparse_moe.experts.1.w3.weight": torch.neg})
    database.models.add(str(folder), "tiny")
    database.edits.apply(database.edits.add(database.edits.draft_capture("tiny", str(edited)).draft).id)
    database.snapshots.export("current", "tiny", tmp_path / "out")
    assert all(torch.equal(one, expected[key]) for key, one in stored(tmp_path / "out").items())
    with pytest.raises(ModelError, match=r"gate_up_proj as tensors of single experts"):
        database.checkouts.checkout("current", tmp_path / "copy", model="tiny")
