"""Writing a patched checkpoint as a folder of its own.

Files of the base checkpoint without a changed tensor are copied, or hard-linked if that is asked for. A safetensors
file with changed tensors is copied and patched: every other byte stays as it was. Weights in other formats beside them
are left out. The folder appears under its name when it is complete.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from ..advice import option
from ..errors import ModelError, OutputError, UsageError
from ..files import sync
from .cards import NewCard, write_card
from .conversion import convert_file, count_lost, follow_dtype, require_dtype
from .dtypes import DTYPE_NAMES
from .expert_files import stored_parts
from .sparse_files import copy_file
from .weights import OTHER_WEIGHTS, TensorPlace, places_in, stored_name, weight_files


@dataclass(frozen=True)
class Exported:
    """What an export did with the checkpoint's weight files.

    Attributes:
        files_written: how many have other bytes than the checkpoint's; `bytes_written`: bytes that were put in them.
        files_copied: how many are copies; `files_linked`: how many are hard links, which share their bytes.
        values_rounded: values that a narrower dtype could not hold.
    """

    files_written: int
    bytes_written: int
    files_copied: int
    files_linked: int
    values_rounded: int = 0


def export_checkpoint(
    source: Path,
    target: Path,
    changed: Mapping[str, torch.Tensor],
    *,
    link: bool = False,
    dtype: str | None = None,
    rounding: bool = False,
    card: NewCard | None = None,
) -> Exported:
    """Copies a checkpoint, some of its parameters replaced.

    Args:
        source: the base checkpoint's folder; only read.
        target: a folder that does not exist yet, or is empty.
        changed: the parameters to replace, by their names in the model, in the checkpoint's own dtype and shape.
        link: hard-link the weight files that stay as they are. What writes to a linked file writes to the checkpoint.
        dtype: float32, float16 or bfloat16 for all floating weights; None keeps what each has.
        rounding: with `dtype`, allow that values change.
        card: a model card to write beside the weights; None copies the one that is there, if there is.

    Raises:
        UsageError: if the target exists and is not empty, or lies in the source, or the dtype is another one.
        ModelError: if a parameter is not in the checkpoint's safetensors files, or the dtype would change a value and
            that was not allowed.
        OutputError: if the target can't be written.
    """
    if target.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{target} lies in the base checkpoint's own folder {source}; choose another {option('out')}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists already and is not an empty folder; choose another {option('out')}")
    if rounding and dtype is None:
        raise UsageError(f"{option('round')} allows that a dtype changes values: it needs {option('dtype')}")
    wanted = None if dtype is None else require_dtype(dtype)
    replaced = _replacements(source, changed)
    if wanted is not None and not rounding:
        _require_exact(source, replaced, wanted)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            folder = Path(scratch) / "checkpoint"
            folder.mkdir()
            _copy_other_files(source, folder)
            if card is not None:
                write_card(folder, card)
            done = _write(folder, replaced, link, wanted)
            sync(folder)
            if target.exists():
                target.rmdir()
            folder.replace(target)
            sync(target.parent)
    except OSError as error:
        raise OutputError(f"{target} can't be written: {error.strerror or error}") from error
    return done


# --- what changes ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Replacement:
    """A tensor's new bytes, and where they belong."""

    place: TensorPlace
    tensor: torch.Tensor


def _replacements(source: Path, changed: Mapping[str, torch.Tensor]) -> dict[Path, dict[str, _Replacement]]:
    """For each weight file, the tensors in it that are to have other bytes, by their names there."""
    found: dict[Path, dict[str, _Replacement]] = {}
    files = weight_files(source)
    missing = _apart(changed, files)
    for path in files:
        found[path] = {}
        if path.suffix != ".safetensors":
            continue
        places = places_in(path)
        names = {name: stored for name in missing if (stored := stored_name(name, places)) is not None}
        with safe_open(path, framework="pt") as file:
            for name, stored in names.items():
                tensor = missing.pop(name).detach().cpu().contiguous()
                place = places[stored]
                if (place.dtype, place.shape) != (DTYPE_NAMES.get(tensor.dtype), tuple(tensor.shape)):
                    present = file.get_tensor(stored)
                    raise ModelError(
                        f"{name} in {path} is {present.dtype} {list(present.shape)}, and "
                        f"the edited one is {tensor.dtype} {list(tensor.shape)}"
                    )
                if not _raw(file.get_tensor(stored)).equal(_raw(tensor)):
                    found[path][stored] = _Replacement(place, tensor)
    if missing:
        raise ModelError(
            f"the safetensors files of {source} have no tensor for {sorted(missing)[0]}, which an edit changes. Save "
            "the checkpoint with save_pretrained first"
        )
    return found


def _apart(changed: Mapping[str, torch.Tensor], files: list[Path]) -> dict[str, torch.Tensor]:
    """The parameters as files have them: those of all experts perhaps as a tensor for each."""
    stored = {name for path in files if path.suffix == ".safetensors" for name in places_in(path)}
    found: dict[str, torch.Tensor] = {}
    for name, tensor in changed.items():
        parts = None if stored_name(name, stored) else stored_parts(name, stored)
        if parts is None:
            found[name] = tensor
            continue
        for expert, whole in enumerate(tensor):
            found |= {part.format(expert): one for part, one in zip(parts, whole.chunk(len(parts)), strict=True)}
    return found


def _raw(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _require_exact(source: Path, replaced: Mapping[Path, Mapping[str, _Replacement]], dtype: torch.dtype) -> None:
    lost, tensors, first = 0, 0, ""
    for path, replacements in replaced.items():
        for name, count in count_lost(path, _tensors(replacements), dtype):
            lost, tensors, first = lost + count, tensors + 1, first or name
    if lost:
        name = str(dtype).removeprefix("torch.")
        raise ModelError(
            f"{name} can't hold {lost} values of {tensors} tensors of {source}, {first} the first; a dtype must change "
            f"none. Leave out {option('dtype')}, or have them rounded: {option('round')}"
        )


def _tensors(replacements: Mapping[str, _Replacement]) -> dict[str, torch.Tensor]:
    return {name: replacement.tensor for name, replacement in replacements.items()}


# --- writing --------------------------------------------------------------------------------------


def _copy_other_files(source: Path, folder: Path) -> None:
    weights = weight_files(source)
    for path in sorted(source.iterdir()):
        if path.is_file() and path not in weights and path.suffix not in OTHER_WEIGHTS:
            shutil.copyfile(path, folder / path.name)
            sync(folder / path.name)


def _write(
    folder: Path,
    replaced: Mapping[Path, Mapping[str, _Replacement]],
    link: bool,
    dtype: torch.dtype | None,
) -> Exported:
    written = size = copied = linked = rounded = 0
    for path, replacements in replaced.items():
        target = folder / path.name
        if dtype is not None:
            rounded += convert_file(path, target, _tensors(replacements), dtype)
            written, size = written + 1, size + target.stat().st_size
        elif replacements:
            copy_file(path, target)
            size += _patch(target, replacements)
            written += 1
        elif link:
            _link(path, target)
            linked += 1
        else:
            copy_file(path, target)
            copied += 1
    if dtype is not None:
        follow_dtype(folder, dtype)
    return Exported(written, size, copied, linked, rounded)


def _patch(path: Path, replacements: Mapping[str, _Replacement]) -> int:
    written = 0
    with path.open("r+b") as file:
        for replacement in replacements.values():
            file.seek(replacement.place.start)
            written += file.write(_raw(replacement.tensor).numpy().tobytes())
        file.flush()
        os.fsync(file.fileno())
    return written


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path.resolve(), target)
    except OSError as error:
        raise ModelError(
            f"{path} can't be hard-linked from {target.parent.parent.parent}: {error.strerror or error}; links "
            "take a folder on the checkpoint's own file system, and one that knows them. Leave "
            f"{option('link')} out to copy it"
        ) from error
