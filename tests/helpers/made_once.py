"""Folders that take long to make, such as trained models: made once per machine, and again when their making changes.

An entry's name has a hash of all that decides its content: what the caller says, the text of each kndb module that the
making imports, directly or not, and the versions of Python and of the packages that compute. Entries lie in
`~/.cache/kndb-tests`, or where the environment's KNDB_TEST_CACHE says; `off` makes all anew for each run.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

VARIABLE = "KNDB_TEST_CACHE"
OFF = "off"
PACKAGES = ("numpy", "safetensors", "tokenizers", "torch", "transformers")
SUMS = "sums.json"
"""The file of an entry with the sha256 of each other one: a test that damaged an entry spoils no later run."""
UNUSED_DAYS = 14

ROOT = Path(__file__).parents[2]


def cache_folder() -> Path | None:
    """Where entries are kept; None if none are."""
    given = os.environ.get(VARIABLE, "")
    if given == OFF:
        return None
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kndb-tests"


def made_once(
    name: str, decided_by: object, modules: tuple[str, ...], make: Callable[[Path], None], otherwise: Path
) -> Path:
    """The folder of an entry, which is only to be read.

    Args:
        name: what the entry is.
        decided_by: settings, texts: all but code that decides the content. Its `repr` is taken.
        modules: the modules of kndb that make it, by absolute name.
        make: fills an empty folder. It is called if there is no sound entry.
        otherwise: an empty folder for it where nothing is kept: if that is off, or the cache can't be written.
    """
    cache = cache_folder()
    if cache is None:
        make(otherwise)
        return otherwise
    entry = cache / f"{name}-{key(decided_by, modules)}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _alone(cache / f"{name}.lock"):
            if not is_sound(entry):
                _make(entry, make)
            os.utime(entry)
            _forget_unused(cache, name)
    except OSError:  # a home that is missing, full or read-only
        make(otherwise)
        return otherwise
    return entry


def key(decided_by: object, modules: tuple[str, ...], root: Path = ROOT) -> str:
    """The hash of all that decides an entry's content."""
    digest = hashlib.sha256(repr(decided_by).encode())
    digest.update(repr([platform.python_version(), platform.machine(), *map(version, PACKAGES)]).encode())
    for path in sorted(code_of(modules, root)):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:20]


def code_of(modules: tuple[str, ...], root: Path = ROOT) -> set[Path]:
    """The files of modules and of all that they import of kndb, at once or later."""
    found: set[Path] = set()
    open_names = set(modules)
    while open_names:
        path, package = _source(open_names.pop(), root)
        if path is not None and path not in found:
            found.add(path)
            open_names.update(_imports(ast.parse(path.read_text(encoding="utf-8")), package))
    return found


def _source(name: str, root: Path) -> tuple[Path | None, list[str]]:
    """The file of a module, or of the module that an imported name lies in; and the package that it is in."""
    parts = name.split(".")
    while parts and parts[0] == "kndb":
        place = root.joinpath(*parts)
        if (place / "__init__.py").is_file():
            return place / "__init__.py", parts
        if place.with_suffix(".py").is_file():
            return place.with_suffix(".py"), parts[:-1]
        parts = parts[:-1]
    return None, []


def _imports(tree: ast.AST, package: list[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def is_sound(entry: Path) -> bool:
    """Whether an entry is there, with each byte as it was made."""
    try:
        return json.loads((entry / SUMS).read_bytes()) == sums(entry)
    except (OSError, ValueError):
        return False


def sums(folder: Path) -> dict[str, str]:
    """The sha256 of each file below a folder, by relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != SUMS
    }


def _make(entry: Path, make: Callable[[Path], None]) -> None:
    """Makes an entry beside its place and moves it there: one that was stopped in the middle is none."""
    with tempfile.TemporaryDirectory(dir=entry.parent, prefix="unfinished-") as temporary:
        made = Path(temporary) / entry.name
        made.mkdir()
        make(made)
        (made / SUMS).write_text(json.dumps(sums(made)), encoding="utf-8")
        shutil.rmtree(entry, ignore_errors=True)
        made.rename(entry)


def _forget_unused(cache: Path, name: str) -> None:
    oldest = time.time() - UNUSED_DAYS * 86400
    for entry in cache.glob(f"{name}-*"):
        if entry.stat().st_mtime < oldest:
            shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Lets one process at a time in: the others find what it made."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
