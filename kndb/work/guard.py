"""A temporary folder for programs that this process starts, and somebody who cleans up if it is killed.

A small process waits for the end of a pipe, which comes with the end of this one, however that comes. Unless it was
told that all is well, it ends the programs that it was shown, and those that write into the folder, which would outlive
this process; and deletes it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

_PROC = Path("/proc")
_WATCHER = """
import json, os, shutil, signal, sys, time
folder, processes = sys.argv[1], {}
os.setsid()
def started(number):
    try:
        with open(f"/proc/{number}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return None
for line in sys.stdin:
    if line.strip() == "done":
        sys.exit()
    processes = json.loads(line)
for number, since in processes.items():
    if int(number) != os.getpid() and started(number) == since:
        try:
            os.kill(int(number), signal.SIGKILL)
        except OSError:
            pass
# Those that came later write their logs there.
for entry in os.listdir("/proc") if os.path.isdir("/proc/self/fd") else ():
    if entry.isdecimal() and int(entry) != os.getpid():
        for file in ("1", "2"):
            try:
                if os.readlink(f"/proc/{entry}/fd/{file}").startswith(folder + "/"):
                    os.kill(int(entry), signal.SIGKILL)
                    break
            except OSError:
                pass
for _ in range(50):
    shutil.rmtree(folder, ignore_errors=True)
    if not os.path.exists(folder):
        break
    time.sleep(0.1)
"""


@dataclass
class Guard:
    """Who cleans up.

    Attributes:
        folder: the folder.
    """

    folder: Path
    _pipe: IO[str] = field(repr=False)

    def watch(self) -> None:
        """Shows it the processes that were started so far, directly or by one of them."""
        with suppress(OSError):
            self._pipe.write(json.dumps(_descendants()) + "\n")
            self._pipe.flush()


@contextmanager
def guarded_folder(parent: str, prefix: str) -> Iterator[Guard]:
    """A new folder, deleted at the end of the block; or soon after this process, if it is killed within."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    command = [sys.executable, "-I", "-S", "-c", _WATCHER, str(folder)]
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(  # noqa: S603 - this Python, and words of its own
        command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, text=True
    ) as watcher:
        assert watcher.stdin is not None
        try:
            yield Guard(folder, watcher.stdin)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                watcher.stdin.write("done\n")
                watcher.stdin.flush()


def _descendants() -> dict[int, str]:
    """The processes below this one, with when they were started; none where the system does not say."""
    parents: dict[int, tuple[int, str]] = {}
    for path in _PROC.glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            parents[int(path.parent.name)] = (int(fields[1]), fields[19])
    found = {os.getpid()}
    size = 0
    while len(found) > size:
        size = len(found)
        found |= {number for number, (parent, _) in parents.items() if parent in found}
    own = {os.getpid()}
    return {number: parents[number][1] for number in found - own if number in parents}
