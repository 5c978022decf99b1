"""How far gradient steps have come, in a file: whoever was stopped goes on from there, to the same bytes.

A safetensors file: for each layer Δv and Adam's two means, how many steps were taken, when each prompt is due. It is
bound to a key, a text of all that decides the steps; a file of another key is refused. Invariant: the file is there
whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ...errors import EditError
from ...files import replacing

_FORMAT = "kndb-steps-2"
_PARTS = ("change", "mean", "square")


@dataclass(frozen=True, eq=False)
class StepsTaken:
    """Where gradient steps stand.

    Attributes:
        taken: how many steps were taken.
        changes: Δv by layer; `means` and `squares`: Adam's means of gradients and of their squares.
        due: in which step each edited prompt is due; empty where all take turns.
    """

    taken: int
    changes: Mapping[int, torch.Tensor]
    means: Mapping[int, torch.Tensor]
    squares: Mapping[int, torch.Tensor]
    due: Sequence[int]


def save_steps(path: Path, key: str, steps: StepsTaken) -> None:
    """Writes the file, or replaces it.

    Raises:
        OSError: if it can't be written.
    """
    parts = zip(_PARTS, (steps.changes, steps.means, steps.squares), strict=True)
    tensors = {
        f"{layer}.{part}": tensor.detach().cpu().contiguous() for part, of in parts for layer, tensor in of.items()
    }
    about = {"format": _FORMAT, "key": key, "taken": json.dumps(steps.taken), "due": json.dumps(list(steps.due))}
    with replacing(path) as temporary:
        save_file(tensors, temporary, about)


def saved_steps(path: Path, key: str) -> StepsTaken | None:
    """What the file says; None if there is none.

    Raises:
        EditError: if it is no such file, or of other steps.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise EditError(f"{path} can't be read as steps of a plan: {error}; remove it to begin again") from error
    if about.get("format") != _FORMAT:
        raise EditError(f"{path} holds no steps of a plan; name another file")
    if about.get("key") != key:
        raise EditError(
            f"{path} holds the steps of another plan: of other facts, settings or weights; name another file, or "
            "remove it to begin again"
        )
    of: dict[str, dict[int, torch.Tensor]] = {part: {} for part in _PARTS}
    for name, tensor in tensors.items():
        layer, _, part = name.partition(".")
        of[part][int(layer)] = tensor
    changes, means, squares = (of[part] for part in _PARTS)
    return StepsTaken(int(about["taken"]), changes, means, squares, json.loads(about["due"]))
