"""A fingerprint is an identity: what changes a loaded tensor or a token id changes it, or is refused."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from kndb.errors import KndbError, ModelError
from kndb.models.checkpoint_files import checkpoint_files, sealed
from kndb.models.fingerprint import fingerprint
from kndb.models.loading import load, quiet

SENTENCE = "The capital of France is Paris. Sofia!"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


# --- random layouts --------------------------------------------------------------------------------------------


def spread(folder: Path, draw: random.Random) -> None:
    """Writes the single weight file anew as one to four shards, each tensor in a random one."""
    tensors = load_file(folder / SINGLE)
    (folder / SINGLE).unlink()
    names = [f"{draw.choice(['model', 'part', 'w'])}-{number}.safetensors" for number in range(draw.randint(1, 4))]
    where = {name: draw.choice(names) for name in tensors}
    for file in set(where.values()):
        save_file({name: tensors[name] for name in tensors if where[name] == file}, folder / file, {"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def altered(path: Path, target: Path, draw: random.Random) -> None:
    """A copy of a weight file in which one value is another."""
    tensors = load_file(path)
    name = draw.choice(sorted(tensors))
    tensors[name].view(-1)[0] += 1
    save_file(tensors, target, {"format": "pt"})


def change_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def other_vocabulary(folder: Path, target: Path) -> None:
    """The tokenizer's file with two words of the vocabulary exchanged."""
    values = json.loads((folder / "tokenizer.json").read_text())
    words = values["model"]["vocab"]
    words["Paris"], words["Rome"] = words["Rome"], words["Paris"]
    target.write_text(json.dumps(values))


# --- what may happen to a folder: harmless, or not --------------------------------------------------------------


def _readme(folder: Path, draw: random.Random) -> None:
    (folder / draw.choice(["README.md", "notes.txt", "training_args.bin", "config.json.orig"])).write_bytes(b"x" * 9)


def _link_to_the_same(folder: Path, draw: random.Random) -> None:
    path = draw.choice(shards(folder))
    elsewhere = folder.parent / f"store-{draw.random()}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _pickled_beside(folder: Path, draw: random.Random) -> None:
    torch.save({"x": torch.zeros(1)}, folder / "pytorch_model.bin")


def _configuration_in_other_order(folder: Path, draw: random.Random) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(dict(reversed(values.items())), indent=draw.randint(0, 4)))


HARMLESS = [_readme, _link_to_the_same, _pickled_beside, _configuration_in_other_order]


def _value(folder: Path, draw: random.Random) -> None:
    path = draw.choice(shards(folder))
    copy = folder.parent / "altered.safetensors"
    altered(path, copy, draw)
    path.unlink()
    copy.rename(path)


def _link_to_another(folder: Path, draw: random.Random) -> None:
    path = draw.choice(shards(folder))
    elsewhere = folder.parent / f"other-{draw.random()}"
    altered(path, elsewhere, draw)
    path.unlink()
    path.symlink_to(elsewhere)


def _decoy(folder: Path, draw: random.Random) -> None:
    altered(draw.choice(shards(folder)), folder / draw.choice(["a.safetensors", SINGLE, "z.safetensors"]), draw)


def _elsewhere(folder: Path, draw: random.Random) -> None:
    path = draw.choice(shards(folder))
    place = draw.choice(["../elsewhere", "sub", str(folder.parent / "absolute")])
    target = folder / place / path.name
    target.parent.mkdir(exist_ok=True)
    altered(path, target, draw)
    listing = folder / INDEX
    where = json.loads(listing.read_text())["weight_map"]
    change_json(listing, weight_map={k: f"{place}/{v}" if v == path.name else v for k, v in where.items()})


def _files_change_names(folder: Path, draw: random.Random) -> None:
    first, second = draw.choice(shards(folder)), draw.choice(shards(folder))
    aside = folder.parent / "aside"
    first.rename(aside)
    if second != first:
        second.rename(first)
    aside.rename(second)


def _index_exchanges_tensors(folder: Path, draw: random.Random) -> None:
    where = json.loads((folder / INDEX).read_text())["weight_map"]
    a, b = draw.sample(sorted(where), 2)
    where[a], where[b] = where[b], where[a]
    change_json(folder / INDEX, weight_map=where)


def _tensor_twice(folder: Path, draw: random.Random) -> None:
    first, second = draw.choice(shards(folder)), draw.choice(shards(folder))
    tensors, more = load_file(first), load_file(second)
    name = draw.choice(sorted(more))
    tensors[name] = more[name] + 1
    first.unlink()
    save_file(tensors, first, {"format": "pt"})


def _shard_is_gone(folder: Path, draw: random.Random) -> None:
    draw.choice(shards(folder)).unlink()


def _versioned_tokenizer(folder: Path, draw: random.Random) -> None:
    other_vocabulary(folder, folder / "tokenizer.4.0.0.json")
    names = ["tokenizer.json", "tokenizer.4.0.0.json"]
    change_json(folder / "tokenizer_config.json", fast_tokenizer_files=draw.sample(names, 2))


def _versioned_tokenizer_changes(folder: Path, draw: random.Random) -> None:
    """Said to be there in the folder that it is compared with, too: see `before`."""
    other_vocabulary(folder, folder / "tokenizer.4.0.0.json")


def _tokenizer_elsewhere(folder: Path, draw: random.Random) -> None:
    other_vocabulary(folder, folder.parent / "tokenizer.json")
    name = draw.choice(["tokenizer_file", "vocab_file", "fast_tokenizer_files"])
    place = draw.choice([str(folder.parent / "tokenizer.json"), "../tokenizer.json"])
    change_json(folder / "tokenizer_config.json", **{name: [place] if name.endswith("files") else place})


def _other_configuration(folder: Path, draw: random.Random) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.4.0.0.json").write_text(json.dumps({**values, "layer_norm_eps": 0.5}))
    change_json(folder / "config.json", configuration_files=["config.4.0.0.json"])


def _weights_by_another_name(folder: Path, draw: random.Random) -> None:
    altered(draw.choice(shards(folder)), folder / "x.safetensors", draw)
    change_json(folder / "config.json", transformers_weights="x.safetensors")


HARMFUL = [
    _value,
    _link_to_another,
    _decoy,
    _elsewhere,
    _files_change_names,
    _index_exchanges_tensors,
    _tensor_twice,
    _shard_is_gone,
    _versioned_tokenizer,
    _tokenizer_elsewhere,
    _other_configuration,
    _weights_by_another_name,
]


# --- what is loaded ---------------------------------------------------------------------------------------------


def loaded(folder: Path) -> tuple[dict[str, bytes], list[int], str]:
    """All that counts of a checkpoint as kndb loads it."""
    found = load(folder)
    tensors = {name: value.contiguous().numpy().tobytes() for name, value in found.model.state_dict().items()}
    return tensors, found.tokenizer(SENTENCE)["input_ids"], str(found.model.config.layer_norm_eps)


def loaded_by_transformers(folder: Path) -> tuple[dict[str, bytes], list[int], str]:
    """The same, as whoever knows nothing of kndb loads it."""
    with quiet():
        model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    tensors = {name: value.contiguous().numpy().tobytes() for name, value in model.state_dict().items()}
    return tensors, tokenizer(SENTENCE)["input_ids"], str(model.config.layer_norm_eps)


@pytest.fixture
def fresh(saved: dict[str, Path], tmp_path: Path) -> Callable[[], Path]:
    """Makes copies of a checkpoint, each in a folder of its own."""
    numbers = iter(range(10**6))

    def make() -> Path:
        target = tmp_path / str(next(numbers)) / "checkpoint"
        shutil.copytree(saved["bert"], target)
        return target

    return make


PROPERTY = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@PROPERTY
@given(st.integers(0, 2**32), st.lists(st.sampled_from(HARMLESS), max_size=4))
def test_what_changes_nothing_that_is_loaded_changes_no_fingerprint(saved, fresh, seed, changes):
    folder, draw = fresh(), random.Random(seed)
    spread(folder, draw)
    for change in changes:
        change(folder, draw)
    assert fingerprint(folder) == fingerprint(saved["bert"])
    assert loaded(folder) == loaded(saved["bert"])


@PROPERTY
@given(st.integers(0, 2**32), st.lists(st.sampled_from(HARMLESS), max_size=2), st.sampled_from(HARMFUL))
def test_what_changes_something_that_is_loaded_changes_the_fingerprint_or_is_refused(
    saved, fresh, seed, harmless, harmful
):
    """With equal fingerprints, kndb and transformers load the very same."""
    folder, draw = fresh(), random.Random(seed)
    spread(folder, draw)
    for change in harmless:
        change(folder, draw)
    harmful(folder, draw)
    try:
        same = fingerprint(folder) == fingerprint(saved["bert"])
    except ModelError:
        with pytest.raises(ModelError):
            load(folder)
        return
    if same:
        assert loaded(folder) == loaded(saved["bert"])
        assert loaded_by_transformers(folder) == loaded(saved["bert"])


@pytest.mark.parametrize("harmful", [_value, _link_to_another], ids=["a value", "a link"])
def test_a_changed_value_is_another_checkpoint(saved, fresh, harmful):
    folder, draw = fresh(), random.Random(1)
    spread(folder, draw)
    harmful(folder, draw)
    assert fingerprint(folder) != fingerprint(saved["bert"])


@pytest.mark.parametrize(
    ("harmful", "message"),
    [
        (_decoy, r"besides the weights that are loaded"),
        (_elsewhere, r"names the weight file .*, which does not lie in its folder"),
        (_shard_is_gone, r"lacks .*\.safetensors, one of the . weight files that .* names"),
        (_other_configuration, r"names other files in 'configuration_files'"),
        (_weights_by_another_name, r"names other files in 'transformers_weights'"),
    ],
)
def test_a_folder_that_says_two_things_is_refused(fresh, harmful, message):
    folder, draw = fresh(), random.Random(2)
    spread(folder, draw)
    harmful(folder, draw)
    for use in (fingerprint, load, checkpoint_files):
        with pytest.raises(ModelError, match=message):
            use(folder)


def test_a_vocabulary_in_a_versioned_file_counts(fresh):
    """What transformers would read from it changes the fingerprint, whichever version it is of."""
    folder = fresh()
    shutil.copyfile(folder / "tokenizer.json", folder / "tokenizer.4.0.0.json")
    change_json(folder / "tokenizer_config.json", fast_tokenizer_files=["tokenizer.4.0.0.json"])
    before, ids = fingerprint(folder), loaded(folder)[1]
    other_vocabulary(folder, folder / "tokenizer.4.0.0.json")
    assert fingerprint(folder) != before
    assert loaded(folder)[1] == loaded_by_transformers(folder)[1] != ids


def test_files_that_a_tokenizers_configuration_names_elsewhere_are_not_read(saved, fresh):
    folder = fresh()
    other_vocabulary(folder, folder.parent / "tokenizer.json")
    change_json(folder / "tokenizer_config.json", vocab_file=str(folder.parent / "tokenizer.json"))
    assert loaded(folder)[1] == loaded(saved["bert"])[1]


@pytest.mark.parametrize("name", ["tekken.json", "tiktoken.model", "chat_template.jinja", "generation_config.json"])
def test_what_is_not_hashed_is_not_shown_to_transformers(fresh, name):
    folder = fresh()
    (folder / name).write_text("{}")
    with sealed(checkpoint_files(folder)) as place:
        assert not (place / name).exists()


@pytest.mark.parametrize(
    "listing",
    [[], {}, {"weight_map": {}}, {"weight_map": []}, {"weight_map": {"a": 3}}, {"weight_map": {"a": ".."}}, "x"],
    ids=str,
)
def test_what_is_no_index(fresh, listing):
    folder = fresh()
    (folder / SINGLE).unlink()
    (folder / INDEX).write_text(json.dumps(listing))
    with pytest.raises(KndbError, match=r"model\.safetensors\.index\.json"):
        checkpoint_files(folder)


def test_deeply_nested_and_huge_configurations_are_refused(fresh):
    folder = fresh()
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match=r"config\.json can't be read"):
        checkpoint_files(folder)
    with (folder / "config.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ModelError, match="larger than"):
        checkpoint_files(folder)


def test_the_fingerprints_of_the_lab_models_are_those_of_every_store():
    """Fingerprints of ordinary checkpoints stay: these two stand in stores since the first version."""
    from kndb.models.sources import lab_folder

    cards = {name: lab_folder(name) for name in ("lab-bert", "lab-gpt2")}
    assert fingerprint(cards["lab-bert"]).startswith("3f9bc9638456bbef")
    assert len({fingerprint(folder) for folder in cards.values()}) == 2
