"""Names of processes by which others on the same machine see whether one is gone."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path

from ..files import boot_id

_PROC = Path("/proc")


def own_name() -> str:
    """This process's name, with something random: another name at each call."""
    return f"{_machine()} {os.getpid()} {_started(os.getpid())} {secrets.token_hex(4)}"


def is_gone(name: str) -> bool:
    """Whether the process of a name was one of this machine, and is there no more."""
    machine, _, rest = name.partition(" ")
    parts = rest.split(" ")
    if machine != _machine() or len(parts) != 3 or not parts[0].isdecimal():
        return False
    number = int(parts[0])
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    return _started(number) != parts[1]


@cache
def _machine() -> str:
    """What tells this machine, since it was started, from others; containers with process numbers of their own too."""
    parts = [socket.gethostname()]
    boot = boot_id()
    if boot is not None:
        parts.append(boot)
    with suppress(OSError):  # no Linux
        parts.append(str((_PROC / "self/ns/pid").readlink()))
    return "/".join(parts).replace(" ", "-")


def _started(number: int) -> str:
    """When a process was started, in ticks of the system's clock; `?` where the system does not say, or it is gone."""
    try:
        text = (_PROC / str(number) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "?"
    fields = text.rpartition(")")[2].split()  # The name before may hold anything.
    return "?" if fields[0] == "Z" else fields[19]
