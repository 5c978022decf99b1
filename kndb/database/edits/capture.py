"""A checkpoint that another tool edited, as an edit of a registered model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...editing.objects.captured import CapturedTensor, captured_tensors
from ...editing.objects.captures import capture
from ...errors import EditError, UsageError
from ...files import sha256
from ...models import loading
from ...models.fingerprint import fingerprint
from ...models.weights import OTHER_WEIGHTS, tensor_places, weight_files
from ..models import ModelCommands, ModelVersion
from .draft import Draft

_NAMED = 5


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
        raise UsageError(f"{source} is the checkpoint of {model!r} itself; name an edited copy of it")
    _require_same_tensors(version, folder)
    edited = loading.load(folder)
    _require_same_buffers(version.model, edited.model)
    weights = _as_stored(dict(version.model.named_parameters()), dict(edited.model.named_parameters()))
    content = capture(
        version.network,
        weights,
        fingerprint=version.record.fingerprint,
        source=folder.name,  # Where the folder lies says nothing elsewhere.
        source_fingerprint=fingerprint(folder),
    )
    draft = Draft(version, content, None, None, None)
    return Captured(draft, tuple(captured_tensors(content)), tuple(_other_files(version, folder)))


def _require_same_tensors(version: ModelVersion, folder: Path) -> None:
    """Refuses a checkpoint with tensors that the model does not load, or of other shapes; reads headers only.

    Raises:
        EditError: if there are any.
        ModelError: if the weights are pickled, or a header is not sound.
    """
    here, there = tensor_places(version.folder), tensor_places(folder)
    loaded = set(version.model.state_dict())
    known = {*here, *loaded, *(name.partition(".")[2] for name in loaded)}
    extra = sorted(set(there) - known)
    if extra:
        raise EditError(
            f"the edited checkpoint has tensors that the model does not use: {', '.join(extra[:_NAMED])}"
            f"{', …' if len(extra) > _NAMED else ''}; an edit could not hold them"
        )
    for name in sorted(set(here) & set(there)):
        if here[name].shape != there[name].shape:
            raise EditError(
                f"{name} is {list(there[name].shape)} in the edited checkpoint, and {list(here[name].shape)} in the "
                "model's"
            )


def _require_same_buffers(present: Any, edited: Any) -> None:
    """Refuses a checkpoint in which something differs that is saved with the weights and is no parameter."""
    buffers = dict(present.named_buffers())
    for name, tensor in edited.named_buffers():
        if name in edited.state_dict() and not torch.equal(tensor, buffers.get(name, tensor)):
            raise EditError(
                f"buffer {name} differs in the edited checkpoint; an edit can hold changes of parameters alone"
            )


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
                f"save the edited model in {expected}, or register the original in "
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
