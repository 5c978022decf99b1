"""The first copy of a checkpoint that becomes a working copy: files of its own, complete or not there at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import UsageError
from ...files import sync, temporary_name
from ...models.sparse_files import copy_file
from ...models.weights import OTHER_WEIGHTS, tensor_places
from ..objects.slot_bytes import SlotSwitch
from . import state as copy_state
from . import switch_log
from .bytes import stamp
from .copy import Switched, WorkingCopy
from .opening import LOCK, translated
from .state import CopyState

OWN_FILES = (copy_state.NAME, switch_log.NAME, LOCK)
"""What a checkpoint that is itself a working copy has besides a checkpoint's files."""


def create(
    source: Path,
    target: Path,
    *,
    model: str,
    fingerprint: str,
    base: str,
    version: str,
    changes: Sequence[SlotSwitch],
    check: Callable[[Path], None],
) -> Switched:
    """Copies a checkpoint and writes a version's slots; the folder appears when it is complete.

    Args:
        source: the base checkpoint; only read, and never linked to.
        target: a folder that does not exist yet, or is empty.
        model: the model's name in the store.
        fingerprint: the base checkpoint's.
        base: the base version's id.
        version: the version wanted.
        changes: what slots hold in the base version and in the other.
        check: looks at the copied files before a slot is written, and raises if they are not what they should be.

    Raises:
        UsageError: if the target is something else, or lies in the source.
        ModelError: if the checkpoint can't be copied or patched.
    """
    require_free(source, target)
    tensor_places(source)  # Ahead of the copying, which can take minutes.
    temporary = temporary_name(target.absolute())
    with translated(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        try:
            names = [path.name for path in sorted(source.iterdir()) if _is_copied(path)]
            for name in names:
                copy_file(source / name, temporary / name)
            check(temporary)
            state = CopyState(model, fingerprint, base, "", {name: stamp(temporary / name) for name in names}, {})
            copy_state.write(temporary, state)
            copy = WorkingCopy(temporary, state, None)
            done = copy.switch(version, changes)
            copy.consolidate()
            sync(temporary)
            temporary.replace(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync(target.absolute().parent)
    return done


def require_free(source: Path, target: Path) -> None:
    """Refuses a place where no working copy can be made.

    Raises:
        UsageError: if it lies in the base checkpoint's folder, or is something that is not an empty folder.
    """
    if target.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{target} lies in the base checkpoint's own folder {source}; choose another folder")
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise UsageError(
            f"{target} is neither a working copy nor an empty folder; choose another, such as one that does not exist "
            "yet"
        )


def _is_copied(path: Path) -> bool:
    return path.is_file() and path.suffix not in OTHER_WEIGHTS and path.name not in OWN_FILES
