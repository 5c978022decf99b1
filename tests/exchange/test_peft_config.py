"""Configurations of LoRA adapters: what is written for edits, and what is refused of strangers."""

import json

import pytest

from kndb.errors import InputError
from kndb.exchange.peft_config import FILE, config_text, read_config

PLAIN = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "bias": "none", "target_modules": ["c_proj"]}


@pytest.fixture
def read(tmp_path):
    def of(values):
        content = values if isinstance(values, bytes) else json.dumps(values).encode()
        (tmp_path / FILE).write_bytes(content)
        return read_config(tmp_path)

    return of


def test_the_scale_is_alpha_by_rank_with_each_modules_own(read):
    found = read({**PLAIN, "rank_pattern": {"h.0.mlp.c_proj": 2}, "alpha_pattern": {"mlp.c_proj": 9}})
    assert (found.rank_of("transformer.h.0.mlp.c_proj"), found.rank_of("transformer.h.1.mlp.c_proj")) == (2, 4)
    assert found.scale_of("transformer.h.0.mlp.c_proj") == 4.5
    assert found.scale_of("transformer.h.10.attn") == 1.5
    # An end of a name begins where a part of it does.
    assert read({**PLAIN, "rank_pattern": {"c_proj": 2}}).rank_of("mlp.xc_proj") == 4
    assert read({**PLAIN, "use_rslora": True}).scale_of("c_proj") == 3.0


def test_what_is_written_has_a_scale_of_one(read):
    ranks = {"h.0.c": 3, "h.1.c": 7, "h.2.c": 7}
    text = config_text(ranks, base_model="gpt2", revision="main", task_type="CAUSAL_LM", fan_in_fan_out=True)
    found = read(text.encode())
    assert {module: found.rank_of(module) for module in ranks} == ranks
    assert {found.scale_of(module) for module in ranks} == {1.0}
    assert found.base_model == "gpt2"
    values = json.loads(text)
    assert values["target_modules"] == sorted(ranks)
    assert values["rank_pattern"] == values["alpha_pattern"] == {"h.0.c": 3}


@pytest.mark.parametrize("harmless", [
    {"lora_dropout": 0.1, "task_type": "CAUSAL_LM", "peft_version": "9", "layers_to_transform": [1]},
    {"init_lora_weights": "gaussian", "use_dora": False, "modules_to_save": None, "something_new": []},
    {"rank_pattern": None, "alpha_pattern": {}, "base_model_name_or_path": None, "inference_mode": True},
])  # fmt: skip
def test_what_changes_nothing_is_passed_over(read, harmless):
    assert read({**PLAIN, **harmless}).scale_of("c_proj") == 1.5


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"peft_type": "IA3"}, "only LORA"),
        ({"peft_type": None}, "only LORA"),
        ({"bias": "all"}, "bias is"),
        ({"use_dora": True}, "use_dora is set: DoRA scales"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is set"),
        ({"lora_bias": True}, "lora_bias is set"),
        ({"layer_replication": [[0, 4]]}, "layer_replication is set"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"something_new": 3}, "'something_new' is set, of which kndb does not know"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "regular expression"),
        ({"r": True}, "whole number"),
        ({"r": 0}, "whole number"),
        ({"r": 10**30}, "whole number"),
        ({"lora_alpha": "9"}, "must be a number"),
        ({"rank_pattern": [3]}, "rank_pattern must be an object"),
        ({"base_model_name_or_path": "x" * 10_001}, "at most 10,000 letters"),
        ({"base_model_name_or_path": ["x"]}, "at most 10,000 letters"),
    ],
)
def test_more_than_a_plain_adapter_is_refused(read, change, text):
    with pytest.raises(InputError, match=text):
        read({**PLAIN, **change})


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"{", "not sound"),
        (b"[]", "must be a JSON object"),
        (b"\xff", "not sound"),
        (b" " * 2_000_000, "more than 1,048,576 bytes"),
        (b'{"r": 1, "r": 2}', "twice"),
        (b'{"lora_alpha": NaN}', "not sound"),
        (b"[" * 100_000, "not sound"),
    ],
)
def test_what_is_no_configuration_is_refused(read, content, text):
    with pytest.raises(InputError, match=text):
        read(content)


def test_a_folder_in_its_place_is_refused(tmp_path):
    with pytest.raises(InputError, match="can't be read"):
        read_config(tmp_path)
    (tmp_path / FILE).mkdir()
    with pytest.raises(InputError, match="no regular file"):
        read_config(tmp_path)
