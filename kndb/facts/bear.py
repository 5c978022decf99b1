"""BEAR: a JSON-lines file of facts per relation, and `metadata_relations.json` with the templates of all of them.

The aliases of subjects and the answer spaces are left out: a template is filled with the label, and any fact's answer
may be asked for among all of its relation's objects.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from ..errors import InputError
from ..records.facts import FactFile, FactRecord
from . import checks
from .checks import RecordError
from .collector import Collector, objects
from .folders import JSON_LINES, list_files, stem, subfolders, the_one
from .formats import Fields, Format, Shape
from .lines import read_document

_METADATA = ("metadata_relations.json", "metadata_relations.json.gz")
_FACT_FILE = re.compile(r"P\d+")
_DEPTH = 2
_EXPECTED = "a JSON object from each relation to its templates, as BEAR's metadata_relations.json is"


def is_here(folder: Path) -> bool:
    """Tells whether the folder, or one below it, holds BEAR's metadata."""
    return bool(_folders(folder))


def is_part(path: Path) -> bool:
    """Tells whether a file has one of the names that BEAR's files have."""
    return path.name in _METADATA or _FACT_FILE.fullmatch(stem(path)) is not None


def read_path(path: Path) -> list[FactFile]:
    """Reads BEAR.

    Args:
        path: a folder with `metadata_relations.json` and the files of facts in it or below it, or one such file of
            facts: then the metadata are looked for beside it.

    Returns:
        One `FactFile` with the templates and one per file of facts.

    Raises:
        InputError: if the folder holds no such metadata, or several folders do.
    """
    if path.is_dir():
        none = f"there is no {_METADATA[0]} in this folder or below it"
        several = f"several folders have a {_METADATA[0]} ({{}}); give one of them"
        folder, files = the_one(path, _folders(path), none=none, several=several), None
    else:
        folder, files = path.parent, [path]
    files = files or [file for file in list_files(folder, JSON_LINES) if _FACT_FILE.fullmatch(stem(file))]
    facts = [_read_facts(file) for file in files]
    metadata = _metadata(folder)
    if metadata is None:
        return facts
    return [_read_templates(metadata, None if path.is_dir() else [stem(path)]), *facts]


def _folders(folder: Path) -> list[Path]:
    return [place for place in (folder, *subfolders(folder, _DEPTH)) if _metadata(place) is not None]


def _metadata(folder: Path) -> Path | None:
    return next((folder / name for name in _METADATA if (folder / name).is_file()), None)


def _read_templates(path: Path, only: Collection[str] | None) -> FactFile:
    document = read_document(path, _EXPECTED)
    if not isinstance(document, dict):
        raise InputError(f"{path}: it must be {_EXPECTED} (got {checks.kind(document)})")
    collector = Collector(path)
    for number, (key, value) in enumerate(document.items(), 1):
        if only is not None and key not in only:
            continue
        with collector.rejecting(path, number):
            relation = checks.clean(key, "relation")
            if not isinstance(value, dict):
                raise RecordError(f"{checks.cut(repr(relation))} must be an object (got {checks.kind(value)})")
            templates = [_template(text) for text in checks.listed(value, "templates")]
            for template in templates:
                collector.template(relation, template)
    return collector.finish()


def _template(text: str) -> str:
    return checks.template({"template": text}, "template")


def _read_facts(path: Path) -> FactFile:
    relation = stem(path)
    if not _FACT_FILE.fullmatch(relation):
        raise InputError(f"{path}: the file's name must be the relation's, as in P36.jsonl")
    collector = Collector(path)
    collector.relation(relation)
    for number, record in objects(path, collector):
        with collector.rejecting(path, number):
            subject = checks.subject(record, "sub_label")
            answer = checks.text(record, "obj_label")
            found = checks.identifier(record, "sub_id")
            external_id = None if found is None else f"bear-{relation}-{found}"
            collector.fact(FactRecord(relation, subject, answer, external_id))
    return collector.finish()


def _recognises(shape: Shape, fields: Fields) -> bool:
    names = set(fields)
    return shape is Shape.LINES and {"sub_label", "obj_label", "answer_idx"} <= names


FORMAT = Format("bear", read_path, _recognises, is_here, is_part, takes_folders=True)
