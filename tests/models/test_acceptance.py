"""What can't be used is refused when it is registered, with the reason and the way out."""

from __future__ import annotations

import json
import resource
import struct

import pytest
import torch
from masked_families import TOKENIZERS, masked_model
from safetensors.torch import load_file, save_file
from tiny_models import tiny_model
from tokenizers import AddedToken
from transformers import AutoTokenizer

import kndb
from kndb.errors import ModelError
from kndb.models.acceptance import describe
from kndb.models.fingerprint import fingerprint

WEIGHTS = "model.safetensors"


def rewrite(folder, change) -> None:
    """Saves a checkpoint's weights again, changed by a function from tensors to tensors."""
    path = folder / WEIGHTS
    tensors = load_file(path)
    path.unlink()
    save_file(change(tensors), path, metadata={"format": "pt"})


def refused(folder, message) -> None:
    """Registering names the way out, and leaves a new store empty."""
    with kndb.open(folder.parent / "kndb.db") as database:
        with pytest.raises(ModelError, match=message):
            database.models.add(str(folder))
        assert database.models.all() == []


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "fp8", "compressed-tensors", None])
def test_quantised_checkpoints(checkpoint, configure, method):
    folder = checkpoint("bert")
    configure(folder, quantization_config={} | ({"quant_method": method} if method else {"bits": 4}))
    refused(folder, rf"is quantised \({method or 'by an unnamed method'}\).*model\.dequantize\(\)")


def test_weights_of_eight_bits(checkpoint):
    folder = checkpoint("bert")
    rewrite(folder, lambda tensors: {name: tensor.to(torch.float8_e4m3fn) for name, tensor in tensors.items()})
    refused(folder, r"has weights of 8 bits or fewer \(.* is F8_E4M3\)")


@pytest.mark.parametrize("alone", [True, False])
def test_adapters(checkpoint, alone):
    folder = checkpoint("bert")
    (folder / "adapter_config.json").write_text("{}")
    if alone:
        (folder / "config.json").unlink()
    refused(folder, r"holds a PEFT adapter .*merge_and_unload")


def test_gguf(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model-q4.gguf").write_bytes(b"GGUF")
    refused(folder, r"has GGUF files and no config\.json; convert one .*models\.convert")


def test_a_shard_that_is_missing_or_cut_off(checkpoint):
    folder = checkpoint("bert")
    (folder / WEIGHTS).unlink()
    tiny_model("bert").save_pretrained(folder, max_shard_size="10KB")
    shards = sorted(folder.glob("*.safetensors"))
    content = shards[1].read_bytes()
    shards[1].write_bytes(content[:-1])
    refused(folder, rf"{shards[1].name} can't be read as safetensors")
    shards[1].unlink()
    refused(folder, rf"lacks {shards[1].name}, one of the {len(shards)} weight files")


def test_no_language_model_head(checkpoint):
    folder = checkpoint("bert")
    rewrite(folder, lambda tensors: {name: one for name, one in tensors.items() if not name.startswith("cls.")})
    refused(folder, r"lacks \d+ weights that AutoModelForMaskedLM needs, the first being cls\.")


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module."])
def test_weights_of_something_around_the_model(checkpoint, prefix):
    folder = checkpoint("bert")
    rewrite(folder, lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()})
    refused(folder, rf"names begin with '{prefix}'.*save_pretrained")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, -1])
def test_weights_that_are_no_numbers(checkpoint, dtype, value, place):
    folder = checkpoint("bert")

    def spoil(tensors):
        tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        tensors[sorted(tensors)[3]].view(-1)[place] = value
        return tensors

    rewrite(folder, spoil)
    refused(folder, r"has weights that are not finite numbers \(NaN or infinity\): 1 of ")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_the_largest_and_smallest_numbers_are_numbers(checkpoint, dtype):
    folder = checkpoint("bert")
    limits = torch.finfo(dtype)
    values = torch.tensor([limits.max, limits.min, limits.tiny, limits.smallest_normal / 2, -0.0], dtype=dtype)

    def fill(tensors):
        tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        tensors[sorted(tensors)[3]].view(-1)[:5] = values
        return tensors

    rewrite(folder, fill)
    assert describe(folder).fingerprint == fingerprint(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", -1),
        ("num_hidden_layers", "12"),
        ("vocab_size", 10**12),
        ("vocab_size", 1_500_000_000),
        ("hidden_size", 2**40),
        ("intermediate_size", 10**9),
        ("max_position_embeddings", 2_000_000_000),
        ("num_attention_heads", 0),
    ],
)
def test_sizes_that_no_model_has_are_refused_before_anything_is_allocated(checkpoint, configure, name, value):
    folder = checkpoint("bert")
    configure(folder, **{name: value})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(folder, r"config\.json|configuration")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB


def test_tokens_that_have_no_embedding(checkpoint):
    folder = checkpoint("bert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([AddedToken(f"<extra-{number}>") for number in range(80)])
    tokenizer.save_pretrained(folder)
    refused(folder, r"tokenizer whose token '<extra-79>' is number \d+, and the model's embeddings end at 60")


def test_pickled_weights_are_taken_and_said_to_be_pickled(checkpoint):
    folder = checkpoint("bert")
    tensors = load_file(folder / WEIGHTS)
    assert not describe(folder).pickled
    (folder / WEIGHTS).unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    assert describe(folder).pickled


def test_pickled_weights_that_run_code_are_refused(checkpoint, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "made"), "w"))

    folder = checkpoint("bert")
    (folder / WEIGHTS).unlink()
    torch.save({"x": Evil()}, folder / "pytorch_model.bin")
    refused(folder, r"pytorch_model\.bin would run _?io\.open when it is read, and kndb runs nothing .*safetensors$")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: path.write_bytes(b'cos\nsystem\n(S"true"\ntR.'), r"would run os\.system when it is read"),
        (lambda path: path.write_bytes(b""), r"can't be read as pickled tensors \("),
        (lambda path: path.write_bytes(bytes(range(256)) * 9), r"can't be read as pickled tensors \("),
        (lambda path: torch.save([torch.ones(2)], path), "holds something other than tensors by name"),
        (lambda path: torch.save({"x": 3}, path), "holds something other than tensors by name"),
    ],
)
def test_pickled_weights_that_are_none_end_in_one_line(checkpoint, write, said):
    folder = checkpoint("bert")
    (folder / WEIGHTS).unlink()
    write(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=said) as caught:
        describe(folder)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], "more": 1}},
        {"x": {"dtype": "F32", "shape": [1 << 62], "data_offsets": [0, 8]}},
        {"x": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
        {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1 << 60]}},
        {"x": {"dtype": 3, "shape": [2], "data_offsets": [0, 8]}},
        {"x": []},
        {"x": {}},
        [],
    ],
    ids=str,
)
def test_headers_that_lie(checkpoint, header):
    folder = checkpoint("bert")
    content = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(content)) + content + b"\0" * 8)
    refused(folder, "can't be|lacks|the files have 2")


def test_a_configuration_chooses_no_code(checkpoint, configure, monkeypatch):
    """Neither remote code nor an implementation of attention from a hub is asked for by what a checkpoint says."""
    folder = checkpoint("bert")
    configure(
        folder,
        auto_map={"AutoModelForMaskedLM": "modeling_evil.Evil", "AutoConfig": "modeling_evil.Config"},
        _attn_implementation="kernels-community/evil",
        attn_implementation="kernels-community/evil",
    )
    (folder / "modeling_evil.py").write_text("raise SystemExit('ran')")
    description = describe(folder)
    assert description.family == "bert"
    from kndb.models.loading import load

    assert load(folder).model.config._attn_implementation == "sdpa"


# --- tokenizers that can't ask -----------------------------------------------------------------------------------


def with_tokenizer(folder, name, tokenizer, **config):
    """A random checkpoint of a masked family or T5, with a tokenizer."""
    masked_model(name, vocab_size=400, **config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["byte-level", "word-piece", "metaspace", "sentinels"])
def test_no_mask_token(tmp_path, kind):
    tokenizer = TOKENIZERS[kind]()
    tokenizer.mask_token = None
    folder = with_tokenizer(tmp_path / "model", "distilbert", tokenizer)
    refused(folder, r"model can't be asked: the tokenizer has no mask token.*name one in its tokenizer_config\.json")


@pytest.mark.parametrize("kind", ["byte-level", "word-piece", "metaspace"])
def test_no_sentinels(tmp_path, kind):
    folder = with_tokenizer(tmp_path / "model", "t5", TOKENIZERS[kind]())
    refused(folder, r"model can't be asked: the tokenizer has no token <extra_id_0>.*use a tokenizer with T5's")


def test_no_token_for_a_decoder_to_start_with(tmp_path, configure):
    tokenizer = TOKENIZERS["sentinels"]()
    tokenizer.pad_token = None
    folder = with_tokenizer(tmp_path / "model", "t5", tokenizer)
    configure(folder, decoder_start_token_id=None)
    refused(folder, "has no decoder_start_token_id.*no padding token to start with; add either")


@pytest.mark.parametrize("token", [400, -1])
def test_a_decoder_that_starts_with_a_token_unknown_to_it(tmp_path, configure, token):
    folder = with_tokenizer(tmp_path / "model", "t5", TOKENIZERS["sentinels"]())
    configure(folder, decoder_start_token_id=token)
    refused(folder, f"the token for the start of its decoder is number {token}, and the model knows tokens 0 to 399")


def test_a_mask_that_has_no_embedding(tmp_path):
    """A mask token that the vocabulary lacks is added behind it."""
    tokenizer = TOKENIZERS["word-piece"]()
    masked_model("distilbert", vocab_size=len(tokenizer)).save_pretrained(tmp_path / "model")
    tokenizer.mask_token = "<new mask>"
    tokenizer.save_pretrained(tmp_path / "model")
    refused(tmp_path / "model", "token '<new mask>' is number|the token for its blank is number")


def test_a_padding_token_that_positions_are_not_counted_from(tmp_path):
    """RoBERTa's positions begin behind its padding token's number."""
    tokenizer = TOKENIZERS["byte-level"]()
    right = with_tokenizer(tmp_path / "right", "roberta", tokenizer, pad_token_id=tokenizer.pad_token_id)
    assert describe(right).family == "roberta"
    wrong = with_tokenizer(tmp_path / "model", "roberta", tokenizer, pad_token_id=3)
    refused(wrong, r"padding token is number 1, and its config\.json says 3, from which a roberta model counts")
    tokenizer.pad_token = None
    none = with_tokenizer(tmp_path / "none", "roberta", tokenizer, pad_token_id=1)
    refused(none, "padding token is number None")


def test_a_tokenizer_that_can_not_be_loaded(checkpoint):
    folder = checkpoint("bert")
    (folder / "tokenizer.json").write_text("{}")
    refused(folder, "has a tokenizer that can't be loaded")
