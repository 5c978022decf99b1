"""The folder of edit objects, which several stores may share: those on a server by their choice, files of one stem."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ...advice import Placeholder, option
from ...errors import StoreError, UsageError
from ..connections import OBJECTS, STATISTICS
from ..files import is_database

OBJECTS_VARIABLE = "KNDB_OBJECTS"
STORES = "stores.txt"
"""The file in a folder of objects that names the stores whose edits lie there, one a line."""


def stores_noted(objects: Path) -> list[str]:
    """The stores on servers that wrote their names into a folder of objects.

    Raises:
        StoreError: if the file of names can't be read.
    """
    try:
        return (objects / STORES).read_text(encoding="utf-8").split("\n")[:-1]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, UnicodeError) as error:
        raise StoreError(f"{objects / STORES} can't be read: {error}") from error


def databases_beside(objects: Path) -> list[Path]:
    """The database files whose edit objects lie in a folder, by its name."""
    near = (path for path in objects.parent.glob("*") if path.with_suffix(OBJECTS) == objects)
    return sorted(path for path in near if is_database(path))


class SharedFolder:
    """Where a store's edit objects lie.

    Attributes:
        named: the folder; None if nobody said where it is.
    """

    def __init__(self, shown: str, named: str | Path | None, identity: Callable[[], str | None]) -> None:
        """Names the folder, which is touched later.

        Args:
            shown: how messages name the store.
            named: the folder; None takes the environment's KNDB_OBJECTS, and there may be none.
            identity: tells what tells the store from all others; None if the server does not say.
        """
        given = named if named is not None else os.environ.get(OBJECTS_VARIABLE) or None
        self.named = None if given is None else _resolved(given)
        self._shown, self._identity = shown, identity
        self._is_noted = False

    @property
    def objects(self) -> Path:
        """The folder.

        Raises:
            UsageError: if nobody said where it is.
        """
        if self.named is None:
            raise UsageError(
                f"{option('objects')} is missing: the edits of {self._shown} lie in a folder that all who use it "
                f"share; name it with {option('objects', Placeholder('FOLDER'))}, or in the environment variable "
                f"{OBJECTS_VARIABLE}"
            )
        return self.named

    @property
    def statistics(self) -> Path:
        """The folder of kept covariances, beside that of objects."""
        return self.objects.with_name(f"{self.objects.name.removesuffix(OBJECTS)}{STATISTICS}")

    def others(self) -> list[str]:
        """The other stores whose objects lie in the folder; this one, too, if its name is not known."""
        own = self._identity()
        found = [line for line in stores_noted(self.objects) if line != own] or (
            [] if own else [f"{self._shown} (unknown)"]
        )
        return [*found, *map(str, databases_beside(self.objects))]

    def note(self) -> None:
        """Makes the folder if need be, and writes the store's name into it, once.

        Raises:
            StoreError: if that can't be written.
        """
        folder = self.objects
        if self._is_noted:
            return
        own = self._identity()
        try:
            if own and own not in stores_noted(folder):
                folder.mkdir(parents=True, exist_ok=True)
                # A line before this one may have been cut short by a crash.
                begun = (folder / STORES).exists() and not (folder / STORES).read_bytes().endswith(b"\n")
                with (folder / STORES).open("a", encoding="utf-8") as file:
                    file.write(f"{chr(10) if begun else ''}{own}\n")
        except OSError as error:
            raise StoreError(
                f"{option('objects', str(folder))}: the folder of edit objects can't be written: "
                f"{error.strerror or error}"
            ) from error
        self._is_noted = True


def _resolved(named: str | Path) -> Path:
    try:
        return Path(named).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{option('objects', str(named))} can't be resolved to a folder: {error}") from error
