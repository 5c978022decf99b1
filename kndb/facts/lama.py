"""LAMA T-REx: `relations.jsonl` with a template per relation, and a JSON-lines file of facts per relation.

The evidences of a fact (`masked_sentence`, …) are no prompts of this database and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ..records.facts import FactFile, FactRecord
from . import checks
from .collector import Collector, objects
from .folders import JSON_LINES, list_files, stem, subfolders, the_one
from .formats import Fields, Format, Shape
from .lines import head_objects

_DEPTH = 2
_RELATIONS = ("relations.jsonl", "relations.jsonl.gz")
_FACT_FILE = re.compile(r"P\d+")


def is_here(folder: Path) -> bool:
    """Tells whether the folder, or one below it, holds LAMA's files of facts."""
    return bool(_fact_folders(folder))


def read_path(path: Path) -> list[FactFile]:
    """Reads LAMA T-REx.

    Args:
        path: a folder with the files of facts in it or below it, or one such file, or `relations.jsonl`
            alone. `relations.jsonl` is looked for beside the facts and in the folder above.

    Returns:
        One `FactFile` with the templates of `relations.jsonl` and one per file of facts.

    Raises:
        InputError: if the folder holds no file of facts, or several folders of them.
    """
    if path.name in _RELATIONS:
        return [_read_relations(path)]
    if not path.is_dir():
        return _read_single(path)
    folder = the_one(
        path,
        _fact_folders(path),
        none="there is no file of facts, such as LAMA's P17.jsonl, in this folder or below it",
        several="several folders have files of facts ({}); give one of them",
    )
    files = [_read_facts(file) for file in _fact_files(folder)]
    relations = _find_relations(folder)
    return files if relations is None else _joined(_read_relations(relations), files)


def is_part(path: Path) -> bool:
    """Tells whether a file has one of the names that LAMA's files have."""
    return path.name in _RELATIONS or _FACT_FILE.fullmatch(stem(path)) is not None


def _fact_folders(folder: Path) -> list[Path]:
    return [place for place in (folder, *subfolders(folder, _DEPTH)) if _holds_facts(place)]


def _holds_facts(folder: Path) -> bool:
    # ParaRel's files have the same names: the fields tell them apart.
    return any("predicate_id" in record for path in _fact_files(folder)[:1] for record in head_objects(path))


def _fact_files(folder: Path) -> list[Path]:
    return [path for path in list_files(folder, JSON_LINES) if _FACT_FILE.fullmatch(stem(path))]


def _read_single(path: Path) -> list[FactFile]:
    facts = _read_facts(path)
    relations = _find_relations(path.parent)
    return [facts] if relations is None else _joined(_read_relations(relations, facts.relations), [facts])


def _joined(templates: FactFile, files: list[FactFile]) -> list[FactFile]:
    """Templates and facts, the facts' relations with the labels that stand beside the templates."""
    labels = templates.relations
    labelled = [replace(file, relations={key: labels.get(key) for key in file.relations}) for file in files]
    return [templates, *labelled]


def _find_relations(folder: Path) -> Path | None:
    # Not made absolute: messages name files as the user did.
    above = folder.parent if folder.name not in ("", "..") else folder / ".."
    candidates = (place / name for place in (folder, above) for name in _RELATIONS)
    return next((path for path in candidates if path.is_file()), None)


def _read_relations(path: Path, only: Collection[str] | None = None) -> FactFile:
    collector = Collector(path)
    for number, record in objects(path, collector):
        with collector.rejecting(path, number):
            key = checks.text(record, "relation")
            label = checks.optional_text(record, "label")
            template = checks.template(record, "template")
            if only is None or key in only:
                collector.relation(key, label)
                collector.template(key, template)
    return collector.finish()


def _read_facts(path: Path) -> FactFile:
    collector = Collector(path)
    for number, record in objects(path, collector):
        with collector.rejecting(path, number):
            key = checks.text(record, "predicate_id")
            subject = checks.subject(record, "sub_label")
            answer = checks.text(record, "obj_label")
            collector.fact(FactRecord(key, subject, answer, checks.identifier(record, "uuid")))
    return collector.finish()


def _recognises(shape: Shape, fields: Fields) -> bool:
    names = set(fields)
    facts = {"sub_label", "predicate_id"} <= names
    return shape is Shape.LINES and (facts or {"relation", "template", "label", "type"} <= names)


FORMAT = Format("lama", read_path, _recognises, is_here, is_part, takes_folders=True)
