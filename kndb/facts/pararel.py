"""ParaRel: a folder of patterns and a folder of facts, one JSON-lines file per relation in each.

The relation's key is the file's name; ParaRel has no labels for relations.
"""

from __future__ import annotations

from pathlib import Path

from ..advice import Placeholder, option
from ..errors import InputError
from ..records.facts import FactFile, FactRecord
from . import checks
from .collector import Collector, objects
from .folders import JSON_LINES, key_of, list_files, subfolders, the_one
from .formats import Fields, Format, Shape

_PATTERNS = "graphs_json"
_FACTS = "trex_lms_vocab"
_DEPTH = 4
"""From the folder above ParaRel's own down to data/pattern_data/graphs_json."""
_EXPECTED = f"a folder that holds data/pattern_data/{_PATTERNS} and data/{_FACTS}, or both directly"


def is_here(folder: Path) -> bool:
    """Tells whether the folder, or one below it, holds ParaRel's patterns or its facts."""
    return any(path.name in (_PATTERNS, _FACTS) for path in subfolders(folder, _DEPTH))


def read_path(path: Path) -> list[FactFile]:
    """Reads ParaRel.

    Args:
        path: a folder with both of ParaRel's folders in it or below it.

    Returns:
        One `FactFile` per relation, with patterns, facts or both.

    Raises:
        InputError: if there is no such pair of folders, or more than one.
    """
    if not path.is_dir():
        raise InputError(
            f"{path}: this is a single file, and ParaRel has patterns and facts in two files; give {_EXPECTED}. "
            f"To read one relation only, give that folder and {option('relations', [Placeholder('ID')])}"
        )
    patterns = _by_relation(_only(path, _PATTERNS))
    facts = _by_relation(_only(path, _FACTS))
    keys = sorted(patterns.keys() | facts.keys())
    return [_read_relation(key, patterns.get(key), facts.get(key)) for key in keys]


def _only(folder: Path, name: str) -> Path:
    found = [path for path in subfolders(folder, _DEPTH) if path.name == name]
    none = f"there is no folder {name} in it; give {_EXPECTED}"
    several = f"it has several folders {name} ({{}}); give a folder with one copy of ParaRel"
    return the_one(folder, found, none=none, several=several)


def _by_relation(folder: Path) -> dict[str, Path]:
    return {key_of(path): path for path in list_files(folder, JSON_LINES)}


def _read_relation(key: str, patterns: Path | None, facts: Path | None) -> FactFile:
    collector = Collector(next(path for path in (facts, patterns) if path is not None))
    collector.relation(key)
    if patterns is not None:
        _read_patterns(key, patterns, collector)
    if facts is not None:
        _read_facts(key, facts, collector)
    return collector.finish()


def _read_patterns(key: str, path: Path, collector: Collector) -> None:
    for number, record in objects(path, collector):
        with collector.rejecting(path, number):
            collector.template(key, checks.template(record, "pattern"))


def _read_facts(key: str, path: Path, collector: Collector) -> None:
    for number, record in objects(path, collector):
        with collector.rejecting(path, number):
            subject = checks.subject(record, "sub_label")
            answer = checks.text(record, "obj_label")
            collector.fact(FactRecord(key, subject, answer, checks.identifier(record, "uuid")))


def _recognises(shape: Shape, fields: Fields) -> bool:
    names = set(fields)
    return shape is Shape.LINES and ({"sub_label", "obj_label"} <= names or {"pattern", "lemma"} <= names)


FORMAT = Format("pararel", read_path, _recognises, is_here, takes_folders=True)
