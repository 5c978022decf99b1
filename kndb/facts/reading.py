"""`read`: from a path to fact files: which format, which relations, and what becomes of rejected lines."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

from ..advice import option
from ..content import require_seekable
from ..errors import InputError, RejectedLine, UsageError
from ..records.facts import FactFile
from .detection import detect
from .folders import JSON_LINES, TABLES, list_files
from .languages import SEPARATOR
from .registry import BY_NAME
from .registry import FORMATS as FORMATS_OF_ALL

FORMATS: tuple[str, ...] = ("auto", *sorted(BY_NAME))
"""The formats that `read` knows by name; `auto` tells them apart by content."""


def read(
    path: Path,
    input_format: str = "auto",
    relations: Collection[str] = (),
    skip_invalid: bool = False,
    languages: Collection[str] = (),
) -> list[FactFile]:
    """Reads a fact list.

    Args:
        path: a file, or a folder: of own lists (JSON lines and tables), or of a data set that comes as one.
        input_format: one of `FORMATS`.
        relations: the keys of the relations to return; empty means all. A file that holds other relations
            only is left out with all its lines. Of lists in several languages, `P36` stands for P36 in each.
        languages: the languages to read, of lists that are sorted by language; empty means all.
        skip_invalid: whether lines that can't be used are listed in `FactFile.rejected` instead of stopping.

    Returns:
        One `FactFile` per file or pair of files, in the order of their names.

    Raises:
        UsageError: if there is no format of that name, or languages are asked for of another list.
        InputError: if there is nothing to read, no format fits, a line can't be used (unless `skip_invalid`),
            or a relation is asked for that no file has.
    """
    if input_format not in FORMATS:
        raise UsageError(f"{option('input_format')} must be one of {', '.join(FORMATS)} (got {input_format!r})")
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder")
    if input_format == "auto" and not path.is_dir():
        require_seekable(path)
    return choose(path, _read_format(path, input_format, languages), relations, skip_invalid)


def passed_over(path: Path, input_format: str = "auto") -> list[Path]:
    """Names the .json files directly in a folder of own lists: `read` passes over these.

    Args:
        path: what `read` was given.
        input_format: likewise.

    Raises:
        InputError: if no format fits the folder.
    """
    if not path.is_dir() or input_format != "auto" or detect(path) != "auto":
        return []
    return list_files(path, (".json",))


def choose(
    path: Path, files: Sequence[FactFile], relations: Collection[str] = (), skip_invalid: bool = False
) -> list[FactFile]:
    """Takes what is asked for from files that were read; the arguments, the result and the errors are those of `read`.

    Args:
        path: where the files come from.
        files: what was read there.
        relations: the keys of the relations to return; empty means all.
        skip_invalid: whether lines that can't be used may be there.

    Raises:
        InputError: as for `read`.
    """
    known = _known(files)
    relations = [key for named in relations for key in _in_languages(named, known)]
    chosen = _choose(files, relations)
    missing = [key for key in relations if key not in known]
    # A relation may be missing just because its lines are among those that can't be used.
    rejected = [line for file in (files if missing else chosen) for line in file.rejected]
    if rejected and not skip_invalid:
        raise _rejection(rejected)
    if missing:
        raise _unknown(path, missing[0], known)
    if not any(file.facts or file.templates or file.rejected for file in chosen):
        raise InputError(f"{path}: there is no fact and no template in it")
    return chosen


def _read_format(path: Path, name: str, languages: Collection[str]) -> list[FactFile]:
    found = detect(path) if name == "auto" else name
    if languages:
        return _read_languages(path, found, languages)
    if path.is_dir() and not (found in BY_NAME and BY_NAME[found].takes_folders):
        return _read_folder(path, found)
    return BY_NAME[found].read(path)


def _read_languages(path: Path, name: str, languages: Collection[str]) -> list[FactFile]:
    reader = None if name not in BY_NAME else BY_NAME[name].read_languages
    if reader is None:
        sorted_so = " and ".join(sorted(one.name for one in FORMATS_OF_ALL if one.read_languages))
        raise UsageError(
            f"{option('languages', list(languages))} is for lists that are sorted by language ({sorted_so}), and "
            f"{path} is not"
        )
    return reader(path, languages)


def _read_folder(folder: Path, name: str) -> list[FactFile]:
    """Reads a folder of lists, each file in the format it has."""
    suffixes = (*JSON_LINES, *TABLES) if name == "auto" else BY_NAME[name].suffixes
    if not suffixes:
        raise InputError(f"{folder}: this is a folder, and {name} is one file; name the file")
    paths = list_files(folder, suffixes)
    if not paths:
        endings = " or ".join(suffixes)
        raise InputError(f"{folder}: there is no file whose name ends in {endings} in this folder")
    return [file for path in paths for file in _read_format(path, name, ())]


def _in_languages(named: str, known: Collection[str]) -> list[str]:
    """A relation as it was named; or, where no file has it, what it is called in each language."""
    translated = [key for key in known if key.rpartition(SEPARATOR)[0] == named]
    return [named] if named in known or not translated else translated


def _choose(files: Sequence[FactFile], relations: Collection[str]) -> list[FactFile]:
    if not relations:
        return list(files)
    wanted = set(relations)
    # A file without any relation has rejected lines only: they may be of a relation that is asked for.
    return [_only(file, wanted) for file in files if not file.relations or not wanted.isdisjoint(file.relations)]


def _only(file: FactFile, wanted: Collection[str]) -> FactFile:
    return replace(
        file,
        relations={key: label for key, label in file.relations.items() if key in wanted},
        templates=tuple(template for template in file.templates if template.relation in wanted),
        facts=tuple(fact for fact in file.facts if fact.relation in wanted),
    )


def _known(files: Sequence[FactFile]) -> dict[str, str | None]:
    known: dict[str, str | None] = {}
    for file in files:
        known.update({key: label or known.get(key) for key, label in file.relations.items()})
    return known


def _unknown(path: Path, wanted: str, known: Mapping[str, str | None]) -> InputError:
    nearest = ", ".join(_nearest(wanted, known)) or "none at all"
    return InputError(
        f"{option('relations', [wanted])}: {path} does not have this relation; the nearest there: {nearest}"
    )


def _nearest(wanted: str, known: Mapping[str, str | None], count: int = 3) -> list[str]:
    """The relations whose key or label resembles the text most, the most similar first."""

    def likeness(key: str) -> float:
        names = (key, known[key] or key)
        return max(SequenceMatcher(None, wanted.lower(), name.lower()).ratio() for name in names)

    best = sorted(known, key=lambda key: (-likeness(key), key))[:count]
    return [f"{key} ({known[key]})" if known[key] else key for key in best]


def _rejection(rejected: Sequence[RejectedLine]) -> InputError:
    more = len(rejected) - 1
    further = f" {more} further line{'s' if more > 1 else ''} can't be used either." if more else ""
    return InputError(f"{rejected[0].text}.{further} To skip such lines, give {option('skip_invalid', True)}", rejected)
