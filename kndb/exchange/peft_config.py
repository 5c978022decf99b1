"""`adapter_config.json`, which says what a LoRA adapter of peft is: written for edits, and read from strangers.

The keys are those of peft's `LoraConfig`. Of a stranger's, what would change more than the named weights is refused,
and so is what this kndb does not know, unless it is empty: an adapter must never be taken for something that it is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import bounded_content
from ..records.json_text import JsonTextError, read_json

FILE = "adapter_config.json"
README = "README.md"
_MOST_BYTES = 1 << 20
_MOST_LETTERS = 10_000
_HARMLESS = frozenset(
    {
        *("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "peft_version", "revision"),
        *("task_type", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
        *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "lora_dropout", "fan_in_fan_out", "use_rslora", "bias"),
        *("init_lora_weights", "loftq_config", "eva_config", "megatron_config", "megatron_core", "runtime_config"),
        *("ensure_weight_tying", "low_cpu_mem_usage", "ephemeral_gpu_offload", "qalora_group_size"),
    }
)
"""Keys that say which modules have tensors, how they were trained, or what is looked at below."""
_REFUSED = {
    "use_dora": "DoRA scales whole weights beside what it adds",
    "modules_to_save": "whole modules are replaced by others",
    "lora_bias": "biases are added",
    "layer_replication": "layers are repeated",
    "target_parameters": "parameters other than modules' weights are changed",
    "trainable_token_indices": "embeddings of tokens are replaced",
    "alora_invocation_tokens": "it acts after certain tokens only",
    "use_qalora": "its factors are of groups of inputs",
    "use_bdlora": "its factors are block-diagonal",
}
"""Keys that must be empty, and what they would mean."""
_STARTS_AS_IT_IS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the base model as it is."""
_IN_PATTERNS = frozenset("\\^$*+?{}[]|()")


@dataclass(frozen=True)
class LoraSettings:
    """What of an adapter's configuration decides what is added to the weights: scale · B·A.

    Attributes:
        rank: of modules without one of their own; `ranks`: by module's name, or its end.
        alpha: the scale is alpha ÷ rank; `alphas`: by module's name, or its end.
        rank_stabilised: whether it is alpha ÷ √rank.
        base_model: the model that it is for, in its sender's words.
    """

    rank: int
    ranks: Mapping[str, int]
    alpha: float
    alphas: Mapping[str, float]
    rank_stabilised: bool
    base_model: str | None

    def rank_of(self, module: str) -> int:
        """The rank of a module's factors."""
        return int(_of(self.ranks, module, self.rank))

    def scale_of(self, module: str) -> float:
        """By what a module's B·A is multiplied."""
        rank = self.rank_of(module)
        return float(_of(self.alphas, module, self.alpha)) / (rank**0.5 if self.rank_stabilised else rank)


def _of(by_name: Mapping[str, float], module: str, otherwise: float) -> float:
    for name, value in by_name.items():
        if module == name or module.endswith(f".{name}"):
            return value
    return otherwise


# --- writing --------------------------------------------------------------------------------------


def config_text(
    ranks: Mapping[str, int],
    *,
    base_model: str | None,
    revision: str | None,
    task_type: str | None,
    fan_in_fan_out: bool,
) -> str:
    """The configuration of an adapter whose scale is 1.

    Args:
        ranks: by module's full name.
        base_model: where the model is from.
        revision: which one of it.
        task_type: what peft is to make of it: `CAUSAL_LM`, `SEQ_2_SEQ_LM`, or None for what has no word.
        fan_in_fan_out: whether the modules' weights are [in, out].
    """
    most = max(ranks.values())
    others = {module: rank for module, rank in sorted(ranks.items()) if rank != most}
    values = {
        "alpha_pattern": others,
        "auto_mapping": None,
        "base_model_name_or_path": base_model,
        "bias": "none",
        "fan_in_fan_out": fan_in_fan_out,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_alpha": most,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": most,
        "rank_pattern": others,
        "revision": revision,
        "target_modules": sorted(ranks),
        "task_type": task_type,
        "use_dora": False,
        "use_rslora": False,
    }
    return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def readme_text(base_model: str | None, sentences: Sequence[str]) -> str:
    """The page of an adapter: what it is for the hub, then sentences, each a line of a list."""
    head = ["---", "library_name: peft"]
    if base_model is not None:
        head += [f"base_model: {json.dumps(base_model)}", "base_model_relation: adapter"]
    head += ["---", "", "# Adapter of an edit", ""]
    return "\n".join([*head, *(f"- {sentence}" for sentence in sentences)]) + "\n"


# --- reading --------------------------------------------------------------------------------------


def read_config(folder: Path) -> LoraSettings:
    """Reads the configuration of an adapter folder.

    Raises:
        InputError: if there is none, it is not sound, or is of more than a plain LoRA adapter.
    """
    path = folder / FILE
    content = bounded_content(path, _MOST_BYTES)
    try:
        values = read_json(content.decode("utf-8"))
    except (JsonTextError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not sound: {error}; fetch the adapter again") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} must be a JSON object")
    _require_plain(path, values)
    return LoraSettings(
        rank=_rank(path, "r", values.get("r", 8)),
        ranks={name: _rank(path, name, value) for name, value in _pattern(path, values, "rank_pattern")},
        alpha=_number(path, "lora_alpha", values.get("lora_alpha", 8)),
        alphas={name: _number(path, name, value) for name, value in _pattern(path, values, "alpha_pattern")},
        rank_stabilised=values.get("use_rslora") is True,
        base_model=_base_model(path, values.get("base_model_name_or_path")),
    )


def _require_plain(path: Path, values: Mapping[str, Any]) -> None:
    if values.get("peft_type") != "LORA":
        raise InputError(f"{path}: peft_type is {_shown(values.get('peft_type'))}; only LORA can be taken in")
    bias = values.get("bias", "none")
    if bias != "none":
        raise InputError(f"{path}: bias is {_shown(bias)}, so that biases change; it must be none. {_MERGE}")
    for key, what in _REFUSED.items():
        if values.get(key):
            raise InputError(f"{path}: {key} is set: {what}. {_MERGE}")
    start = values.get("init_lora_weights", True)
    if not any(start is known or (isinstance(known, str) and start == known) for known in _STARTS_AS_IT_IS):
        raise InputError(
            f"{path}: init_lora_weights is {_shown(start)}, which takes a part out of the base model's own weights "
            f"first. {_MERGE}"
        )
    unknown = sorted(key for key, value in values.items() if key not in _HARMLESS and value)
    unknown = [key for key in unknown if key not in _REFUSED]
    if unknown:
        raise InputError(f"{path}: {unknown[0][:60]!r} is set, of which kndb does not know what it changes. {_MERGE}")


_MERGE = "Merge the adapter into the checkpoint with the tool that made it, and capture that"


def _rank(path: Path, name: str, value: object) -> int:
    if type(value) is not int or not 0 < value < 2**31:
        raise InputError(f"{path}: the rank {name[:80]!r} must be a whole number of at least 1 (got {_shown(value)})")
    return value


def _number(path: Path, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{path}: the alpha {name[:80]!r} must be a number (got {_shown(value)})")
    return float(value)


def _pattern(path: Path, values: Mapping[str, Any], key: str) -> list[tuple[str, object]]:
    found = values.get(key) or {}
    if not isinstance(found, dict):
        raise InputError(f"{path}: {key} must be an object (got {_shown(found)})")
    for name in found:
        # A stranger's regular expression could take for ever to match.
        if _IN_PATTERNS.intersection(name):
            raise InputError(
                f"{path}: {key} has the regular expression {name[:80]!r}; write out the names of the modules, or "
                f"their ends. {_MERGE}"
            )
    return list(found.items())


def _base_model(path: Path, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > _MOST_LETTERS or "\0" in value:
        raise InputError(f"{path}: base_model_name_or_path must be a text of at most {_MOST_LETTERS:,} letters")
    return value


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"
