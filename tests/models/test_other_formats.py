"""Pickled checkpoints and GGUF files, written anew as safetensors."""

from __future__ import annotations

import gguf
import numpy
import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

import kndb
from kndb.cli.main import exit_code
from kndb.errors import ModelError, UsageError
from kndb.models.fingerprint import fingerprint
from kndb.models.loading import load
from kndb.models.other_formats import convert


@pytest.fixture
def pickled(checkpoint):
    folder = checkpoint("bert")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder


def test_a_pickled_checkpoint_keeps_its_weights_and_tokens(pickled, saved, tmp_path):
    before = fingerprint(pickled)
    convert(pickled, tmp_path / "new")
    assert fingerprint(pickled) == before
    old, new, original = load(pickled), load(tmp_path / "new"), load(saved["bert"])
    for name, tensor in original.model.state_dict().items():
        assert torch.equal(new.model.state_dict()[name], tensor)
        assert torch.equal(old.model.state_dict()[name], tensor)
    text = "The capital of France is Paris."
    assert new.tokenizer(text)["input_ids"] == original.tokenizer(text)["input_ids"]


def test_on_the_command_line(pickled, tmp_path, capsys):
    database = str(tmp_path / "kndb.db")
    assert exit_code(["model", "add", str(pickled), "--name", "old", "--db", database]) == 0
    said = capsys.readouterr().err
    assert "old has pickled weights" in said
    assert f"kndb model convert {pickled} --out DIR" in said
    assert exit_code(["model", "convert", str(pickled), "--out", str(tmp_path / "new")]) == 0
    capsys.readouterr()
    assert exit_code(["model", "add", str(tmp_path / "new"), "--name", "new", "--db", database]) == 0
    assert "pickled" not in capsys.readouterr().err
    with kndb.open(database) as opened:
        assert opened.models.ask("new", "The capital of France is [Y].", device="cpu")


def test_what_is_safetensors_already_and_what_is_there(checkpoint, pickled, tmp_path):
    with pytest.raises(UsageError, match="has safetensors already; register it as it is"):
        convert(checkpoint("bert"), tmp_path / "new")
    (tmp_path / "new").mkdir()
    with pytest.raises(UsageError, match="exists already; choose another out"):
        convert(pickled, tmp_path / "new")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF" + b"\xff" * 64], ids=["empty", "cut off", "garbage"])
def test_what_is_no_gguf_leaves_nothing(tmp_path, content):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.gguf can't be read as GGUF"):
        convert(path, tmp_path / "new")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model.gguf"]
    with pytest.raises(UsageError, match=r"is no file; name a GGUF file"):
        convert(tmp_path / "none.gguf", tmp_path / "new")


def test_without_the_package(tmp_path, monkeypatch):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr("kndb.models.other_formats.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'kndb\[gguf\]'"):
        convert(tmp_path / "model.gguf", tmp_path / "new")


def test_a_gguf_file_becomes_the_model_that_it_was_written_from(tmp_path):
    """Written here tensor by tensor as llama.cpp names and turns them, in 32 bits: nothing is lost."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=300,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            tie_word_embeddings=False,
        )
    ).eval()
    path = tmp_path / "tiny.gguf"
    _write_gguf(model, path)
    description = convert(path, tmp_path / "new")
    assert (description.family, description.layers, description.neurons) == ("llama", 2, 64)
    loaded = load(tmp_path / "new")
    ids = torch.tensor([[5, 9, 200, 31]])
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(ids).logits, model(ids).logits)


def _write_gguf(model: LlamaForCausalLM, path) -> None:
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(
        ["<|endoftext|>", "x", "t", "1", *(f"t{number}" for number in range(1, config.vocab_size - 3))]
    )
    writer.add_token_types([1] * config.vocab_size)
    writer.add_token_merges(["t 1"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    names = {
        "self_attn.q_proj": ("attn_q", config.num_attention_heads),
        "self_attn.k_proj": ("attn_k", config.num_key_value_heads),
        "self_attn.v_proj": ("attn_v", None),
        "self_attn.o_proj": ("attn_output", None),
        "mlp.gate_proj": ("ffn_gate", None),
        "mlp.up_proj": ("ffn_up", None),
        "mlp.down_proj": ("ffn_down", None),
        "input_layernorm": ("attn_norm", None),
        "post_attention_layernorm": ("ffn_norm", None),
    }
    state = {name: tensor.numpy().astype(numpy.float32) for name, tensor in model.state_dict().items()}
    for layer in range(config.num_hidden_layers):
        for name, (other, heads) in names.items():
            value = state[f"model.layers.{layer}.{name}.weight"]
            if heads is not None:  # llama.cpp keeps the halves of each head's rotary pairs interleaved.
                value = value.reshape(heads, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
            writer.add_tensor(f"blk.{layer}.{other}.weight", numpy.ascontiguousarray(value))
    for name, other in (
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
    ):
        writer.add_tensor(f"{other}.weight", state[f"{name}.weight"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
