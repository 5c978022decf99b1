"""Temporary folders in memory: a disk takes a fifth of the time of tests that make tens of thousands of files.

No power fails while tests run, so that flushing to a disk shows nothing more.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM = 6 << 30
"""Free bytes below which it is left alone; a run of all tests takes some 2 GB."""
_A_DAY = 86_400


def use_memory() -> None:
    """Has this process and those that it starts make their temporary folders in memory, where there is room.

    They lie in one folder, where those of failed tests stay; what killed programs left there goes a day later.
    The environment's TMPDIR is obeyed: `TMPDIR=/tmp` keeps the tests on that disk.
    """
    if "TMPDIR" in os.environ or not _has_room():
        return
    folder = MEMORY / f"kndb-tests-{os.geteuid()}"
    try:
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)  # The tests' server may run as another user.
    except OSError:  # somebody else's
        return
    _forget_old(folder)
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None  # It was found out before.


def _forget_old(folder: Path) -> None:
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < time.time() - _A_DAY:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _has_room() -> bool:
    try:
        return os.access(MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(MEMORY).free >= ROOM
    except OSError:
        return False
