"""Finding a checkpoint's folder: lab models and hub names included. Imports no torch."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ModelError
from ..records.models import LAB_MODELS
from .checkpoint_files import INDEX, SINGLE, weight_map

PATTERNS = ("*.json", "*.txt", "*.model", "chat_template.jinja")
"""What is fetched of a checkpoint before its weights."""
REVISION = "@"
"""Stands between a hub name and the revision that is meant."""


def lab_folder(name: str) -> Path:
    """The folder of a lab model that kndb ships.

    Raises:
        ModelError: if this installation lacks it.
    """
    folder = Path(str(importlib.resources.files("kndb.data"))) / name
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"this installation of kndb lacks its lab model {name}: it belongs in {folder}; install kndb again"
        )
    return folder


def locate(source: str) -> Path:
    """The local folder of a checkpoint: a lab model's name, a folder, or a hub name (downloaded if need be).

    A folder here that is called like a lab model has to be named as a path, such as `./lab-bert`.

    Raises:
        ModelError: if there is no such checkpoint.
    """
    if source in LAB_MODELS:
        return lab_folder(source)
    if Path(source).is_dir():
        return Path(source).resolve()
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        if Path(source).exists():
            raise ModelError(f"{source} is a file; name a checkpoint's folder, or a hub name such as gpt2")
        raise ModelError(f"there is no folder {source}; name a checkpoint's folder, or a hub name such as gpt2")
    return _download(source)


def lasting_source(source: str, folder: Path) -> str:
    """How to find a located checkpoint again: a lab model's name, a folder's whole path, or a hub name's revision.

    A hub name alone would mean other files once its owner changes them, or a folder of that name here.
    """
    if source in LAB_MODELS:
        return source
    if Path(source).is_dir():
        return str(folder)
    return source if REVISION in source else f"{source}{REVISION}{folder.name}"


def _download(source: str) -> Path:
    """Fetches a checkpoint's files from the hub: its weights by the names that it says, and no others."""
    from huggingface_hub import snapshot_download

    name, _, revision = source.partition(REVISION)
    try:
        with _without_bars():
            folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=[*PATTERNS]))
            listing = folder / INDEX
            weights = sorted(set(weight_map(listing).values())) if listing.is_file() else [SINGLE]
            return Path(snapshot_download(name, revision=folder.name, allow_patterns=weights))
    except ModelError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{source!r} is no folder here, no lab model ({', '.join(LAB_MODELS)}), and could not be had from the "
            f"hub: {reason}"
        ) from error


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keeps the hub's progress bars off a user's terminal."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not disabled:
            enable_progress_bars()
