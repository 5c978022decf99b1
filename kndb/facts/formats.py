"""What a format of fact lists states about itself; `registry` lists them all, `detection` tells them apart."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ..records.facts import FactFile


class Shape(Enum):
    """How a file holds its records."""

    LINES = "JSON lines"
    DOCUMENT = "a JSON list"
    TABLE = "a table"


Fields = Collection[str]
"""The names of a record's fields, or of a table's columns."""


def never(*_: object) -> bool:
    """Nothing of this format can be told by that."""
    return False


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: what `--input-format` calls it.
        read: from a path of this format to fact files; raises InputError for what is none.
        recognises: whether a record with these fields, in a file of this shape, is of this format. Formats are asked in
            the order of the registry, the narrowest first: the first that recognises a record has it.
        is_here: whether a folder, or one below it, holds this format; a format of single files is never there.
        is_part: whether a file directly in such a folder belongs to it, by its name.
        suffixes: of the files of a folder that this format reads one by one; none if it takes a folder as a whole, or
            is a single file.
        takes_folders: whether it takes a folder as a whole.
        read_languages: as `read`, of these languages only; None if its lists are not sorted by language.
        own: whether it is a form of the project's own lists, and no data set.
    """

    name: str
    read: Callable[[Path], list[FactFile]]
    recognises: Callable[[Shape, Fields], bool] = never
    is_here: Callable[[Path], bool] = never
    is_part: Callable[[Path], bool] = never
    suffixes: tuple[str, ...] = ()
    takes_folders: bool = False
    read_languages: Callable[[Path, Collection[str]], list[FactFile]] | None = None
    own: bool = False
