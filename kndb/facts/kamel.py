"""KAMEL: a folder for each relation with facts in `train.jsonl`, `dev.jsonl` and `test.jsonl`; questions in a CSV file.

A fact's objects are a list, all of them right: each is a fact. The question with its blank after it is the relation's
template.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection
from itertools import zip_longest
from pathlib import Path

from ..errors import InputError
from ..records.facts import BLANK, SUBJECT_SLOT, FactFile, FactRecord
from . import checks
from .checks import Record, RecordError
from .collector import Collector, objects
from .folders import JSON_LINES, list_files, stem, subfolders
from .formats import Fields, Format, Shape
from .lines import read_lines

_QUESTIONS = ("question-templates.csv", "question-templates.csv.gz")
_RELATION = re.compile(r"P\d+")
_SPLITS = ("train", "dev", "test")
_DEPTH = 3
"""From the folder above KAMEL's own down to data/KAMEL/P36."""
_HOLE = "[S]"


def is_here(folder: Path) -> bool:
    """Tells whether the folder, or one below it, holds KAMEL's folders of facts."""
    return bool(_relation_folders(folder))


def is_part(path: Path) -> bool:
    """Tells whether a file has one of the names that KAMEL's files have."""
    return path.name in _QUESTIONS or stem(path) in _SPLITS


def read_path(path: Path) -> list[FactFile]:
    """Reads KAMEL.

    Args:
        path: a folder with the relations' folders in it or below it, the folder of one relation, or one file in it.
            `question-templates.csv` is looked for in the folder given and in the folders above those of the relations.

    Returns:
        One `FactFile` with the questions and one per file of facts.

    Raises:
        InputError: if there is no folder of a relation, or relations' folders lie in several places.
    """
    if path.is_dir():
        folders = _relation_folders(path)
        if not folders:
            raise InputError(
                f"{path}: there is no folder of a relation with facts in it, such as KAMEL's P36/train.jsonl"
            )
        _require_one_place(path, folders)
        files = [_read_facts(file) for folder in folders for file in _fact_files(folder)]
        questions = _find_questions(path, folders[0])
        only = [path.absolute().name] if folders[0] == path else None
    else:
        files = [_read_facts(path)]
        questions = _find_questions(path.parent, path.parent)
        only = [_relation_of(path)]
    return files if questions is None else [_read_questions(questions, only), *files]


def _relation_folders(folder: Path) -> list[Path]:
    return [place for place in (folder, *subfolders(folder, _DEPTH)) if _is_relation(place)]


def _is_relation(folder: Path) -> bool:
    return _RELATION.fullmatch(folder.absolute().name) is not None and bool(_fact_files(folder))


def _fact_files(folder: Path) -> list[Path]:
    return [path for path in list_files(folder, JSON_LINES) if stem(path) in _SPLITS]


def _require_one_place(path: Path, folders: list[Path]) -> None:
    places = list(dict.fromkeys(folder.parent for folder in folders))
    if len(places) > 1:
        several = ", ".join(str(place) for place in places)
        raise InputError(f"{path}: relations' folders lie in several places ({several}); give one of them")


def _find_questions(given: Path, folder: Path) -> Path | None:
    # Not made absolute: messages name files as the user did.
    above = [folder / ("../" * up) for up in range(1, _DEPTH + 1)]
    candidates = (place / name for place in (given, *above) for name in _QUESTIONS)
    return next((path for path in candidates if path.is_file()), None)


def _read_questions(path: Path, only: Collection[str] | None) -> FactFile:
    collector = Collector(path)
    for line in read_lines(path):
        if line.problem is not None:
            collector.reject(path, line.number, line.problem)
        elif line.text.strip():
            with collector.rejecting(path, line.number):
                key, template = _question(line.text)
                if only is None or key in only:
                    collector.template(key, template)
    return collector.finish()


def _question(text: str) -> tuple[str, str]:
    try:
        cells = next(csv.reader([text], strict=True, skipinitialspace=True))
    except csv.Error as error:
        raise RecordError(f"not valid CSV ({error}): a line must be a relation, a comma and a question") from error
    if len(cells) != 2:
        raise RecordError(f"a line must be a relation, a comma and a question with {_HOLE} (got {len(cells)} fields)")
    key, question = checks.clean(cells[0], "relation"), checks.clean(cells[1], "question")
    checks.no_slots(question, "question")
    checks.once(question, _HOLE, "question")
    return key, f"{question.replace(_HOLE, SUBJECT_SLOT)} {BLANK}"


def _relation_of(path: Path) -> str:
    name = path.absolute().parent.name
    if not _RELATION.fullmatch(name):
        raise InputError(
            f"{path}: KAMEL's facts name no relation; the file must lie in a folder that does, as in P36/dev.jsonl"
        )
    return name


def _read_facts(path: Path) -> FactFile:
    relation = _relation_of(path)
    collector = Collector(path)
    collector.relation(relation)
    for number, record in objects(path, collector):
        with collector.rejecting(path, number):
            _add(relation, record, collector)
    return collector.finish()


def _add(relation: str, record: Record, collector: Collector) -> None:
    subject = checks.subject(record, "sub_label")
    answers = checks.listed(record, "obj_label")
    for number, answer in zip_longest(_numbers(record)[: len(answers)], answers):
        external_id = None if number is None else f"kamel-{relation}-{number}"
        collector.fact(FactRecord(relation, subject, answer, external_id))


def _numbers(record: Record) -> list[int]:
    """The numbers of the objects within the relation, as far as there are any."""
    value = record.get("index", [])
    if not isinstance(value, list) or not all(type(number) is int for number in value):
        raise RecordError(f"'index' must be a list of whole numbers (got {checks.kind(value)})")
    return value


def _recognises(shape: Shape, fields: Fields) -> bool:
    return shape is Shape.LINES and {"index", "sub_label", "obj_label"} <= set(fields)


FORMAT = Format("kamel", read_path, _recognises, is_here, is_part, takes_folders=True)
