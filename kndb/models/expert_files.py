"""How weight files hold the experts of a mixture, which a loaded model has in one parameter for all.

Files have either that parameter, [E, …], or a tensor for each expert and projection, as checkpoints were published
before transformers 5 and as it still writes them. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ModelError


@dataclass(frozen=True)
class Together:
    """A parameter of all experts, and the tensors of which files make it.

    Attributes:
        loaded: how the parameter's name ends.
        stored: how the names of an expert's tensors end, with {} for the expert's number; they lie one below the other.
    """

    loaded: str
    stored: tuple[str, ...]


TOGETHER = (
    Together(".mlp.experts.down_proj", (".block_sparse_moe.experts.{}.w2.weight",)),
    Together(
        ".mlp.experts.gate_up_proj",
        (".block_sparse_moe.experts.{}.w1.weight", ".block_sparse_moe.experts.{}.w3.weight"),
    ),
    Together(".mlp.experts.down_proj", (".mlp.experts.{}.down_proj.weight",)),
    Together(".mlp.experts.gate_up_proj", (".mlp.experts.{}.gate_proj.weight", ".mlp.experts.{}.up_proj.weight")),
)
RENAMED = (
    (".mlp.gate.weight", ".block_sparse_moe.gate.weight"),
    ("lm_head.weight", "embed_out.weight"),
    ("LayerNorm.weight", "LayerNorm.gamma"),
    ("LayerNorm.bias", "LayerNorm.beta"),
)
"""Parameters that some files call otherwise."""


def stored_names(name: str) -> list[str]:
    """What files may call a parameter that they hold as a whole: its own name first."""
    found = [name, *(name.removesuffix(end) + other for end, other in RENAMED if name.endswith(end))]
    return found + [one.partition(".")[2] for one in found]


def stored_parts(name: str, stored: Container[str]) -> tuple[str, ...] | None:
    """Names of the tensors of each expert, with {} for its number, where files hold a parameter so; else None.

    Args:
        name: the parameter's name in the model.
        stored: the names in the files.
    """
    for one in TOGETHER:
        if name.endswith(one.loaded):
            start = name.removesuffix(one.loaded)
            for prefix in (start, start.partition(".")[2]):
                parts = tuple(prefix + end for end in one.stored)
                if all(part.format(0) in stored for part in parts):
                    return parts
    return None


def as_loaded(entries: Mapping[str, Mapping[str, Any]], names: Mapping[str, int]) -> dict[str, Mapping[str, Any]]:
    """What files say of each tensor, those of single experts put together as they are when they are loaded.

    Args:
        entries: dtype and shape of each tensor in the files.
        names: the model's parameters of all experts, and how many experts each has.

    Returns:
        Entries that stand for what is put together have a dtype and a shape only.

    Raises:
        ModelError: if an expert's tensor is missing, or has another shape than the first one's.
    """
    found = dict(entries)
    for name, experts in names.items():
        parts = stored_parts(name, entries)
        if parts is None:
            continue
        first = entries[parts[0].format(0)]
        for one in (part.format(expert) for expert in range(experts) for part in parts):
            if one not in entries:
                raise ModelError(f"the weights lack {one}, a part of {name}; fetch the checkpoint again")
            if entries[one]["shape"] != first["shape"]:
                raise ModelError(
                    f"{one} has the shape {list(entries[one]['shape'])} among the weights, and {parts[0].format(0)} "
                    f"has {list(first['shape'])}; the two are not of one model: fetch the checkpoint again"
                )
            del found[one]
        rows, *others = first["shape"]
        found[name] = {"dtype": first["dtype"], "shape": [experts, rows * len(parts), *others]}
    return found
