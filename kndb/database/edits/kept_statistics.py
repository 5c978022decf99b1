"""The folder of kept covariances beside a database: which files are in it, what they say, and whether they are sound.

A covariance is one file for each checkpoint, version and layer, and can always be counted again: nothing in the
database names it, and no backup holds it. What is not finished yet lies beside it as `….begun.safetensors`. Imports no
torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...advice import call
from ...editing.many.covariance_file import CovarianceHeader, check_file, read_header
from ...errors import EditError, StoreError, UsageError
from ...records.display import Rows
from ...records.models import Model
from ...records.statistics import LayerStatistics
from ...store import models as store_models
from ...store.engine import Store

_NAME = re.compile(r"([0-9a-f]{16})-(v[0-9a-f]{16})-L(\d{1,6})(\.begun)?\.safetensors")
_TEMPORARY = re.compile(r"\..+\.(\d{1,9})-[0-9a-f]{8}\.tmp")


@dataclass(frozen=True, order=True)
class KeptFile:
    """A file in the folder, as its name says.

    Attributes:
        fingerprint: the first 16 digits of the checkpoint's.
        version: the version.
        layer: the layer.
        begun: whether its count is not finished.
        path: where it is.
    """

    fingerprint: str
    version: str
    layer: int
    begun: bool
    path: Path

    def is_of(self, model: Model) -> bool:
        """Whether it is of a model's checkpoint."""
        return self.fingerprint == model.fingerprint[:16]


def file_of(store: Store, fingerprint: str, version: str, layer: int, *, begun: bool = False) -> Path:
    """Where a layer's covariance is kept."""
    return store.statistics / f"{fingerprint[:16]}-{version}-L{layer}{'.begun' if begun else ''}.safetensors"


def kept_statistics(store: Store, model: str | None = None) -> Rows[LayerStatistics]:
    """What is kept, of all models or of one, by model, version and layer; of a finished count, not what was begun.

    Raises:
        NotFoundError: if there is no such model.
        StoreError: if the folder can't be read.
    """
    with store.reading() as connection:
        models = store_models.models(connection) if model is None else [store_models.model(connection, model)]
    rows = [
        _row(one, kept)
        for one in models
        if one.has_checkpoint
        for kept in sorted(_kept_files(store))
        if kept.is_of(one)
    ]
    return Rows(rows, LayerStatistics)


def delete_statistics(store: Store, model: str, layers: Sequence[int] = ()) -> Rows[LayerStatistics]:
    """Deletes what is kept of a model: of some layers, or of all; of every version, sound or not.

    Returns:
        What was deleted.

    Raises:
        NotFoundError: if there is no such model.
        UsageError: if nothing is kept of one of the layers.
        StoreError: if a file can't be removed.
    """
    every = kept_statistics(store, model)
    missing = sorted(set(layers) - {one.layer for one in every})
    if missing:
        have = ", ".join(map(str, sorted({one.layer for one in every}))) or "none"
        raise UsageError(f"no statistics of layer {missing[0]} of model {model} are kept; there are those of: {have}")
    chosen = [one for one in every if not layers or one.layer in layers]
    remove_files([one.file for one in chosen])
    return Rows(chosen, LayerStatistics)


def remedy(model: str, layer: int) -> str:
    """How to get rid of a file that can't be used."""
    return f"delete it with: {call('edits.delete_statistics', model=model, layers=[layer])}, then count again"


# --- db check -------------------------------------------------------------------------------------------------


def statistics_problems(store: Store) -> tuple[list[str], list[str]]:
    """What is wrong in the folder, and its left-overs: files that are no covariances of kndb's."""
    if not store.backend.has_folders or not os.path.lexists(store.statistics):
        return [], []
    if store.statistics.is_symlink() or not store.statistics.is_dir():
        return [f"{store.statistics} is no folder; kept statistics lie in a folder of that name: move it away"], []
    try:
        with store.reading() as connection:
            models = [one for one in store_models.models(connection) if one.has_checkpoint]
    except StoreError:
        return [], []  # What keeps the models from being read is named elsewhere.
    problems: list[str] = []
    kept = {one.path: one for one in _kept_files(store)}
    for path in sorted(kept):
        problem = _problem(kept[path], models)
        problems += [] if problem is None else [problem]
    return problems, sorted(str(path) for path in _paths(store) if path not in kept and not _being_written(path))


def _problem(kept: KeptFile, models: Sequence[Model]) -> str | None:
    own = next((model for model in models if kept.is_of(model)), None)
    if own is None:
        return (
            f"statistics {kept.path}: no model of this database has a fingerprint that begins with {kept.fingerprint}; "
            "remove the file"
        )
    try:
        header = check_file(kept.path)
    except EditError as error:
        return f"statistics of {own.name}: {error.text}"
    wrong = mismatch(header, own, kept.version, kept.layer)
    if wrong is None and not kept.begun and not header.complete:
        wrong = (
            f"its count ended after {header.done} of {header.origin.texts} texts, and its name says that it is whole"
        )
    return None if wrong is None else f"statistics {kept.path}: {wrong}; {remedy(own.name, kept.layer)}"


def mismatch(header: CovarianceHeader, model: Model, version: str, layer: int) -> str | None:
    """Why a file is not what its name says of it; None if it is."""
    origin = header.origin
    if origin.fingerprint != model.fingerprint:
        return (
            f"it is of the checkpoint with fingerprint {origin.fingerprint[:16]}, and model {model.name} has "
            f"{model.fingerprint[:16]}"
        )
    if (origin.version, header.layer, header.neurons) != (version, layer, model.neurons):
        return (
            f"it is of version {origin.version}, layer {header.layer}, {header.neurons} neurons; version {version}, "
            f"layer {layer}, {model.neurons} neurons belong there"
        )
    return None


def remove_files(paths: Sequence[str]) -> None:
    """Removes files, such as those that `statistics_problems` called left-overs.

    Raises:
        StoreError: if one can't be removed.
    """
    try:
        for path in paths:
            Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{error.filename} can't be removed: {error.strerror or error}") from error


def _kept_files(store: Store) -> Iterator[KeptFile]:
    for path in _paths(store):
        found = _NAME.fullmatch(path.name)
        if found is not None and path.parent == store.statistics:
            yield KeptFile(found[1], found[2], int(found[3]), found[4] is not None, path)


def _paths(store: Store) -> Iterator[Path]:
    """All that lies in the folder and is no folder itself; links are given, not followed."""
    for parent, folders, names in os.walk(store.statistics):
        paths = [Path(parent, name) for name in (*folders, *names)]
        yield from (path for path in paths if path.is_symlink() or not path.is_dir())


def _being_written(path: Path) -> bool:
    """Whether a process that is still there writes the file: its name has the process's number."""
    found = _TEMPORARY.fullmatch(path.name)
    if found is None:
        return False
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _row(model: Model, kept: KeptFile) -> LayerStatistics:
    try:
        size = kept.path.lstat().st_size
        header = read_header(kept.path)
    except OSError as error:
        return LayerStatistics(
            model.name, kept.version, kept.layer, file=str(kept.path), problem=error.strerror or str(error)
        )
    except EditError as error:
        return LayerStatistics(model.name, kept.version, kept.layer, size=size, file=str(kept.path), problem=error.text)
    return LayerStatistics(
        model=model.name,
        version=kept.version,
        layer=kept.layer,
        source=header.origin.source,
        texts=header.origin.texts,
        done=header.done,
        tokens=header.keys,
        neurons=header.neurons,
        rank=header.rank,
        condition=header.condition,
        digest=header.origin.digest,
        size=size,
        file=str(kept.path),
        problem=mismatch(header, model, kept.version, kept.layer),
    )
