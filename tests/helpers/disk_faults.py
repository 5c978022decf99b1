"""Kills a process at the n-th step of its work, or makes the disk fail there: for programs that fork.

Steps are the calls that change the disk, whoever makes them: Python's own (`os.write`, `os.fsync`, …), and SQLite's
(write, flush, truncate and delete of the database and its log), which are reached by putting other functions into its
table of system functions. A kill also comes at each statement that SQLite runs.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import errno
import os
import signal
import sqlite3
import traceback
from collections.abc import Callable
from typing import Any

from kndb.errors import KndbError

KILL, ERROR, FULL = "kill", "error", "full"
"""SIGKILL; an I/O error, once; no space left, from then on."""

FORKS = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Environment of a program that forks often: where Linux gives it huge pages, a fork takes a quarter of the time."""

REFUSED = 3
"""The exit status of a child whose work raised one of kndb's errors."""

CALLS = ("mkdir", "open", "write", "fsync", "replace")
NEED_SPACE = ("mkdir", "write")

# SQLite's codes: disk full, and the I/O errors of writing, flushing, truncating and deleting.
SQLITE_FULL = 13
SQLITE_ERRORS = {"write": 10 | 3 << 8, "truncate": 10 | 6 << 8, "sync": 10 | 4 << 8, "delete": 10 | 10 << 8}

_POINTER, _INT, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_OPEN = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER, _INT, _POINTER)
_DELETE = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _INT)
# Place in sqlite3_io_methods, which has 19 fields of a pointer's size, and type.
_METHODS = {
    "write": (3, ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _INT, _LONG)),
    "truncate": (4, ctypes.CFUNCTYPE(_INT, _POINTER, _LONG)),
    "sync": (5, ctypes.CFUNCTYPE(_INT, _POINTER, _INT)),
}


class _Vfs(ctypes.Structure):
    """The beginning of SQLite's table of system functions."""

    _fields_ = (
        *((name, _INT) for name in ("version", "file_size", "longest_path")),
        *((name, _POINTER) for name in ("next", "name", "data", "open", "delete")),
    )


def sqlite_is_reached() -> bool:
    """Whether SQLite is a library of its own here; some builds of Python have it inside, out of reach."""
    return hasattr(ctypes.CDLL(_sqlite3.__file__), "sqlite3_vfs_find")


class Faults:
    """Counts steps from 1 on and lets the fault happen at the n-th; to be made in the child that shall suffer it."""

    def __init__(self, kind: str, number: int) -> None:
        self.kind = kind
        self.left = number
        self._kept: list[Any] = []  # what SQLite points to
        for name in NEED_SPACE if kind == FULL else CALLS:
            setattr(os, name, self._around(getattr(os, name)))
        if sqlite_is_reached():
            self._patch_sqlite()
        if kind == KILL:
            self._trace_statements()

    def step(self, *_: object) -> bool:
        """Whether this call must fail; does not return where it is the one to be killed at."""
        self.left -= 1
        if self.kind == KILL and self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.left == 0 or (self.kind == FULL and self.left < 0)

    def _around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if self.step() and self.kind != KILL:
                number = errno.ENOSPC if self.kind == FULL else errno.EIO
                raise OSError(number, os.strerror(number))
            result = real(*arguments, **options)
            if self.kind == KILL:
                self.step()
            return result

        return call

    def _trace_statements(self) -> None:
        connect = sqlite3.connect

        def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **options)
            connection.set_trace_callback(self.step)
            return connection

        sqlite3.connect = traced

    def _patch_sqlite(self) -> None:
        find = ctypes.CDLL(_sqlite3.__file__).sqlite3_vfs_find
        find.restype = ctypes.POINTER(_Vfs)
        vfs = find(None).contents
        opened, delete = _OPEN(vfs.open), _DELETE(vfs.delete)

        def open_file(table: int, name: int, file: int, flags: int, found: int) -> int:
            code = opened(table, name, file, flags, found)
            methods = ctypes.cast(file, ctypes.POINTER(_POINTER))
            if code == 0 and methods[0]:
                methods[0] = self._methods(methods[0])
            return code

        functions = [_OPEN(open_file), _DELETE(self._function("delete", delete))]
        self._kept += [*functions, opened, delete]
        vfs.open, vfs.delete = (ctypes.cast(function, _POINTER).value for function in functions)

    def _methods(self, address: int) -> int:
        table = (_POINTER * 19).from_buffer_copy(ctypes.string_at(address, 19 * ctypes.sizeof(_POINTER)))
        for name, (place, kind) in _METHODS.items():
            function = kind(self._function(name, kind(table[place])))
            self._kept.append(function)
            table[place] = ctypes.cast(function, _POINTER).value
        self._kept.append(table)
        return ctypes.addressof(table)

    def _function(self, name: str, real: Callable[..., int]) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            if self.kind == FULL and name != "write":
                return real(*arguments)
            if self.step() and self.kind != KILL:
                return SQLITE_FULL if self.kind == FULL else SQLITE_ERRORS[name]
            return real(*arguments)

        return call


def run_in_child(work: Callable[[], object], fault: Callable[[], object]) -> tuple[str, object]:
    """Runs a work in a fork of this process, which is warm: all is imported.

    Args:
        work: the work.
        fault: called in the child first; what it gives back, a `Faults`, tells whether its step was reached.

    Returns:
        `killed`, `refused` (by an error of kndb's) or `done`, and whether the fault's step was reached.
    """
    child = os.fork()
    if child == 0:
        try:
            made = fault()
            status = 0
            try:
                work()
            except KndbError:
                status = REFUSED
            reached = not isinstance(made, Faults) or made.left <= 0
            os._exit(status | reached << 4)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return "killed", True
    code = os.WEXITSTATUS(status)
    assert code & 15 in (0, REFUSED), "the work raised an error that is not kndb's"
    return ("refused" if code & 15 else "done"), bool(code >> 4)
