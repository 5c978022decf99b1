"""Finding, describing and loading checkpoints, and every way in which one may be unusable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import tiny_model

from kndb.errors import ModelError, UnsupportedModelError, UsageError
from kndb.models.acceptance import describe
from kndb.models.fingerprint import fingerprint
from kndb.models.loading import choose_device, lab_folder, lasting_source, load, locate

FAMILIES = pytest.mark.parametrize("family", ["bert", "gpt2"])
BOTH = pytest.mark.parametrize("use", [describe, load])


@FAMILIES
def test_describe(checkpoint, family):
    folder = checkpoint(family)
    model = tiny_model(family)
    model.resize_token_embeddings(400)  # As many as the larger of both tokenizers has tokens.
    model.save_pretrained(folder)
    found = describe(folder)
    assert (found.family, found.layers, found.neurons) == (family, 3, 40)
    assert found.fingerprint == fingerprint(folder)


@FAMILIES
def test_load_gives_the_saved_model(saved, family):
    loaded = load(saved[family])
    expected = tiny_model(family)
    assert not loaded.model.training
    assert loaded.adapter.family == family
    for (name, found), (_, original) in zip(loaded.model.named_parameters(), expected.named_parameters(), strict=True):
        assert torch.equal(found, original), name
    network = loaded.moved(torch.device("cpu"), torch.float64)
    assert next(loaded.model.parameters()).dtype == torch.float64
    assert (len(network.layers), network.neurons, network.hidden_size) == (3, 40, 24)


@FAMILIES
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_load_keeps_the_dtype_on_disk(checkpoint, family, dtype):
    folder = checkpoint(family)
    tiny_model(family).to(dtype).save_pretrained(folder)
    assert {parameter.dtype for parameter in load(folder).model.parameters()} == {dtype}


def test_sharded_and_headless_causal_checkpoints_load(checkpoint):
    """GPT-2's head is its word embedding: the body alone has all weights."""
    folder = checkpoint("gpt2")
    (folder / "model.safetensors").unlink()
    tiny_model("gpt2").transformer.save_pretrained(folder, max_shard_size="10KB")
    found = load(folder).model
    assert torch.equal(found.transformer.h[2].mlp.c_proj.weight, tiny_model("gpt2").transformer.h[2].mlp.c_proj.weight)
    assert torch.equal(found.lm_head.weight, found.transformer.wte.weight)


def test_decode_leaves_out_word_boundaries(saved):
    loaded = load(saved["gpt2"])
    (token,) = loaded.tokenizer(" Paris")["input_ids"]
    assert loaded.decode(token) == "Paris"
    (token,) = loaded.tokenizer(" ")["input_ids"]
    assert loaded.decode(token) == " "


# --- what can't be used --------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), r"has no config\.json"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config\.json can't be read"),
        (lambda folder: (folder / "config.json").write_text("[]"), r"config\.json is no JSON object"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"), r"config\.json can't be read"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"model|safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"garbage" * 99), "can't be"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "can't be"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(
                (folder / "model.safetensors").read_bytes()[:-100]
            ),
            "can't be",
        ),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has none of a tokenizer's files"),
    ],
    ids=[
        "no configuration",
        "half a configuration",
        "a list",
        "no text",
        "no weights",
        "garbage weights",
        "empty weights",
        "cut-off weights",
        "no tokenizer",
    ],
)
def test_spoiled_files(checkpoint, family, use, spoil, message):
    folder = checkpoint(family)
    spoil(folder)
    with pytest.raises(ModelError, match=message):
        use(folder)


@BOTH
@pytest.mark.parametrize("architecture", ["mamba", "never-heard-of"])
def test_an_unknown_architecture_is_told_the_known_ones(checkpoint, configure, use, architecture):
    folder = checkpoint("bert")
    configure(folder, model_type=architecture)
    with pytest.raises(UnsupportedModelError, match=f"'{architecture}'.*adapters for: albert, bert, bloom"):
        use(folder)


@BOTH
@pytest.mark.parametrize(
    ("family", "setting"),
    [("bert", "is_decoder"), ("bert", "add_cross_attention"), ("gpt2", "add_cross_attention")],
)
def test_settings_under_which_an_adapter_would_be_wrong(checkpoint, configure, use, family, setting):
    folder = checkpoint(family)
    configure(folder, **{setting: True})
    with pytest.raises(UnsupportedModelError, match=f"{setting}=True.*{family}"):
        use(folder)


@BOTH
@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("bert", {"num_attention_heads": 5}),
        ("gpt2", {"n_head": 5}),
        ("bert", {"hidden_act": "nonsense"}),
        ("gpt2", {"activation_function": "nonsense"}),
        ("bert", {"hidden_size": "wide"}),
        ("gpt2", {"n_embd": "wide"}),
    ],
    ids=str,
)
def test_configurations_that_make_no_model(checkpoint, configure, use, family, values):
    folder = checkpoint(family)
    configure(folder, **values)
    with pytest.raises(ModelError, match=r"config|can't be loaded"):
        use(folder)


def test_a_checkpoint_without_its_head(checkpoint):
    folder = checkpoint("bert")
    tiny_model("bert").bert.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"lacks \d+ weights that AutoModelForMaskedLM needs.*cls\..*head"):
        load(folder)


@FAMILIES
def test_a_checkpoint_that_lacks_one_tensor(checkpoint, family):
    folder = checkpoint(family)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith(("output.dense.weight", "mlp.c_proj.weight")))
    del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"lacks 1 weights .* {name}"):
        load(folder)


@pytest.mark.parametrize(
    ("family", "values"), [("bert", {"intermediate_size": 44}), ("gpt2", {"n_inner": 44})], ids=str
)
def test_weights_of_another_shape(checkpoint, configure, family, values):
    folder = checkpoint(family)
    configure(folder, **values)
    with pytest.raises(ModelError, match="can't be loaded"):
        load(folder)


def test_a_tokenizer_that_can_not_be_read(checkpoint):
    folder = checkpoint("bert")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="can't be loaded"):
        load(folder)


# --- places and devices --------------------------------------------------------------------------------------


def test_locate_a_folder(saved):
    assert locate(str(saved["bert"])) == saved["bert"].resolve()


@pytest.mark.parametrize("source", ["./nothing-here", "/nothing/here", "~/nothing", "a/b/c"])
def test_locate_what_is_not_there(source):
    with pytest.raises(ModelError, match=r"there is no folder .*; name a checkpoint's folder, or a hub name"):
        locate(source)


def test_locate_a_hub_name_without_a_hub(monkeypatch):
    """No network in tests: a hub name that is not in the cache is an error that says so."""
    import huggingface_hub

    def unreachable(*_arguments, **_options):
        raise ConnectionError("the network is unreachable\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(ModelError, match=r"'no-such/model' is no folder here, no lab model .*network is unreachable$"):
        locate("no-such/model")


def test_lab_models_that_are_not_installed():
    with pytest.raises(ModelError, match="lacks its lab model lab-unheard-of"):
        lab_folder("lab-unheard-of")


@pytest.mark.parametrize("name", ["lab-bert", "lab-gpt2"])
def test_locate_lab_models(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    try:
        expected = lab_folder(name)
    except ModelError as error:
        pytest.skip(str(error))
    assert locate(name) == expected
    assert Path(name, "config.json").is_file() is False


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device().type in ("cpu", "cuda", "mps")
    with pytest.raises(UsageError, match=r"'nonsense'.*must be auto, cpu, cuda or mps"):
        choose_device("nonsense")
    with pytest.raises(UsageError, match="'meta'"):
        choose_device("meta")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="'cuda' can't be used here"):
            choose_device("cuda")


def test_a_hub_name_is_kept_with_its_revision(monkeypatch, tmp_path):
    folder = tmp_path / "snapshots" / "0123abc"
    folder.mkdir(parents=True)
    asked = []

    def snapshot_download(name, *, revision, allow_patterns):
        asked.append((name, revision, allow_patterns))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    source = lasting_source("someone/model", locate("someone/model"))
    assert source == "someone/model@0123abc"
    (tmp_path / "someone" / "model").mkdir(parents=True)
    assert locate(source) == folder
    assert lasting_source(source, folder) == source
    # First what says which files are the weights, then those alone, of the very revision that said so.
    others, weights = ["*.json", "*.txt", "*.model", "chat_template.jinja"], ["model.safetensors"]
    each = [("someone/model", "0123abc", others), ("someone/model", "0123abc", weights)]
    assert asked == [("someone/model", None, others), each[1], *each]


@FAMILIES
def test_the_dtype_of_the_weights_counts_not_the_one_that_the_configuration_names(saved, tmp_path, family):
    folder = tmp_path / "copy"
    shutil.copytree(saved[family], folder)
    stored = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    for name, parameter in load(folder).model.named_parameters():
        assert name not in stored or torch.equal(parameter, stored[name])
        assert parameter.dtype != torch.float16
