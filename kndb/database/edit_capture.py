"""A checkpoint that another tool edited, as an edit of a registered model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ..editing.captures import CapturedTensor, capture, captured_tensors
from ..editing.diff_file import EditObject
from ..errors import EditError, UsageError
from ..files import sha256
from ..models import loading
from ..models.fingerprint import fingerprint
from ..models.network import Network
from ..models.weights import OTHER_WEIGHTS, weight_files
from .edit_drafts import Draft
from .models import ModelCommands, ModelVersion


@dataclass(frozen=True, eq=False)
class Captured:
    """A checkpoint's difference from a model, not stored yet.

    Attributes:
        draft: the edit.
        tensors: how it keeps each parameter's change.
        other_files: files of the checkpoint other than weights that differ, which no edit holds.
    """

    draft: Draft
    tensors: tuple[CapturedTensor, ...]
    other_files: tuple[str, ...]


def capture_checkpoint(models: ModelCommands, model: str, source: str) -> Captured:
    """What leads from a model's current version to an edited checkpoint; see `EditCommands.draft_capture`."""
    version = models.load(model)
    folder = loading.locate(source)
    if folder.resolve() == version.folder.resolve():
        raise UsageError(f"{source} is the checkpoint of {model!r} itself; expected an edited copy of it")
    edited = loading.load(folder)
    network = Network(version.model, version.adapter)
    weights = _as_stored(dict(version.model.named_parameters()), dict(edited.model.named_parameters()))
    # Of the folder only its name: where it lies says nothing elsewhere.
    recipe = {"from": folder.name, "from_fingerprint": fingerprint(folder)}
    content: EditObject = capture(network, weights, fingerprint=version.record.fingerprint, recipe=recipe)
    draft = Draft(version, content, None, None, None)
    return Captured(draft, tuple(captured_tensors(content)), tuple(_other_files(version, folder)))


def _as_stored(present: Mapping[str, torch.Tensor], edited: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The edited weights in the model's dtypes.

    Raises:
        EditError: if a dtype can't hold each value.
    """
    found: dict[str, torch.Tensor] = {}
    for name, tensor in edited.items():
        expected = present[name].dtype if name in present else tensor.dtype
        cast = tensor.detach().to(expected)
        if tensor.dtype != expected and not bool((cast.to(tensor.dtype) == tensor).all()):
            raise EditError(
                f"{name} is {tensor.dtype} in the edited checkpoint, with values that {expected} can't hold; "
                f"expected the model's own dtype. Save the edited model in {expected}, or register the original in "
                f"{tensor.dtype}"
            )
        found[name] = cast
    return found


def _other_files(version: ModelVersion, folder: Path) -> list[str]:
    sides = []
    for place in (version.folder, folder):
        weights = set(weight_files(place))
        sides.append(
            {
                path.name: sha256(path)
                for path in place.iterdir()
                if path.is_file() and path not in weights and path.suffix not in OTHER_WEIGHTS
            }
        )
    names = set(sides[0]) & set(sides[1])
    left_out = {"model.safetensors.index.json", "generation_config.json"}
    return sorted(name for name in names - left_out if sides[0][name] != sides[1][name])
