"""mLAMA and mParaRel: templates and facts in a folder for each language.

A relation in a language is a relation of its own, `P36@de`: a template is only ever filled with names in its language,
and facts of different languages are different facts. Which of a relation's records are templates and which are facts is
told by their fields, so that these layouts are read alike:

    mLAMA                       mParaRel                  the two halves of mParaRel in one folder
    de/templates.jsonl          patterns/de/P36.jsonl     de/P36.jsonl
    de/P36.jsonl                tuples/de/P36.jsonl       de/P36_facts.jsonl
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from ..advice import Placeholder, option
from ..errors import InputError
from ..records.facts import FactFile, FactRecord
from . import checks
from .checks import Record, RecordError
from .collector import Collector, objects
from .folders import JSON_LINES, key_of, list_files, stem, subfolders
from .formats import Fields, Format, Shape, never
from .lines import head_objects

SEPARATOR = "@"
"""Between a relation's key and its language."""

_LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][A-Za-z0-9]+)*|simple")
"""Codes as Wikipedia has them: de, zh-hans, be-tarask; `simple` is its simple English."""
_TEMPLATES = "templates"
_FACTS = "_facts"
"""What the names of files of facts end in where both halves lie in one folder."""
_HALVES = {"patterns", "tuples"}
_DEPTH = 4
"""From the folder above mParaRel's own down to data/mpararel_reviewed/patterns/de."""
_EXPECTED = "a folder that holds one for each language, such as de/P36.jsonl"

Places = dict[str, list[Path]]
"""For each language, the folders of its files."""


def holds_mlama(folder: Path) -> bool:
    """Tells whether the folder, or one below it, is one of a language in mLAMA, with the templates in one file."""
    return any(_has_templates(place) for places in _places(folder).values() for place in places)


def holds_mpararel(folder: Path) -> bool:
    """Tells whether the folder, or one below it, is one of a language in mParaRel."""
    return bool(_places(folder)) and not holds_mlama(folder)


def is_part(path: Path) -> bool:
    """Tells whether a file in the folder of a language may belong to it."""
    return path.name != "relations.jsonl"


def read_path(path: Path) -> list[FactFile]:
    """Reads all languages; see `read_languages`."""
    return read_languages(path, ())


def read_languages(path: Path, languages: Collection[str]) -> list[FactFile]:
    """Reads mLAMA or mParaRel.

    Args:
        path: a folder with the languages' folders in it or below it, or the folder of one language.
        languages: which of them; none named means all.

    Returns:
        One `FactFile` per file.

    Raises:
        InputError: if there is no folder of a language, languages' folders lie in several places, or a language is
            asked for that is not there.
    """
    if not path.is_dir():
        raise InputError(
            f"{path}: this is a single file, and templates and facts are in several; give {_EXPECTED}. To read one "
            f"relation only, give that folder, {option('languages', [Placeholder('CODE')])} and "
            f"{option('relations', [Placeholder('ID')])}"
        )
    places = _places(path)
    if not places:
        raise InputError(f"{path}: there is no folder of a language with lists in it; give {_EXPECTED}")
    _require_one_set(path, places)
    for language in languages:
        if language not in places:
            there = ", ".join(sorted(places))
            raise InputError(f"{option('languages', [language])}: {path} does not have this language; it has {there}")
    chosen = [language for language in sorted(places) if not languages or language in languages]
    return [
        _read_file(file, language)
        for language in chosen
        for folder in places[language]
        for file in list_files(folder, JSON_LINES)
    ]


def _places(folder: Path) -> Places:
    """The folders of languages: all that are called like one and lie where one of them holds lists."""
    found = [place for place in (folder, *subfolders(folder, _DEPTH)) if _is_language(place)]
    parents = {_parent(place) for place in found if _holds_lists(place)}
    # The other half of a list, too, even if nothing in it can be read.
    parents |= {parent.with_name(half) for parent in parents if parent.name in _HALVES for half in _HALVES}
    places: Places = {}
    for place in found:
        if _parent(place) in parents:
            places.setdefault(place.absolute().name, []).append(place)
    return places


def _parent(folder: Path) -> Path:
    return folder.absolute().parent


def _is_language(folder: Path) -> bool:
    return _LANGUAGE.fullmatch(folder.absolute().name) is not None and bool(list_files(folder, JSON_LINES))


def _holds_lists(folder: Path) -> bool:
    # Own lists, too, may have a file of templates; the other files tell.
    others = [path for path in list_files(folder, JSON_LINES) if stem(path) != _TEMPLATES]
    return any(_is_pattern(record) or _is_fact(record) for path in others[:1] for record in head_objects(path))


def _has_templates(folder: Path) -> bool:
    return any(stem(path) == _TEMPLATES for path in list_files(folder, JSON_LINES))


def _require_one_set(path: Path, places: Places) -> None:
    """Refuses several copies: languages' folders lie in one folder, or in two beside each other."""
    parents = list(dict.fromkeys(_parent(folder) for folders in places.values() for folder in folders))
    names = {parent.name for parent in parents}
    halves = len(parents) == 2 and names == _HALVES and parents[0].parent == parents[1].parent
    if len(parents) > 1 and not halves:
        several = ", ".join(str(parent) for parent in parents)
        raise InputError(f"{path}: languages' folders lie in several places ({several}); give one of them")


def _read_file(path: Path, language: str) -> FactFile:
    name = key_of(path).removesuffix(_FACTS)
    collector = Collector(path)
    if stem(path) != _TEMPLATES:
        collector.relation(_key(name, language))
    for number, record in objects(path, collector):
        with collector.rejecting(path, number):
            _add(record, name, language, collector)
    return collector.finish()


def _add(record: Record, name: str, language: str, collector: Collector) -> None:
    if "pattern" in record:
        collector.template(_key(name, language), checks.template(record, "pattern"))
    elif "template" in record:
        collector.template(_key(checks.text(record, "relation"), language), checks.template(record, "template"))
    elif name == _TEMPLATES:
        raise RecordError("a template must have 'relation' and 'template'")
    else:
        _add_fact(record, _key(name, language), collector)


def _add_fact(record: Record, relation: str, collector: Collector) -> None:
    subject = checks.subject(record, "sub_label")
    answer = checks.text(record, "obj_label")
    external_id = checks.identifier(record, "uuid")
    line = checks.identifier(record, "lineid")
    if external_id is None and line is not None:
        external_id = f"{relation}-{line}"
    collector.fact(FactRecord(relation, subject, answer, external_id))


def _key(relation: str, language: str) -> str:
    return f"{relation}{SEPARATOR}{language}"


def _is_pattern(record: Fields) -> bool:
    return "pattern" in record and "lemma" not in record


def _is_fact(record: Fields) -> bool:
    names = set(record)
    return {"sub_label", "obj_label", "sub_uri"} <= names and "predicate_id" not in names


def _recognises(shape: Shape, fields: Fields) -> bool:
    return shape is Shape.LINES and (_is_fact(fields) or _is_pattern(fields))


MLAMA = Format("mlama", read_path, never, holds_mlama, is_part, takes_folders=True, read_languages=read_languages)
MPARAREL = Format(
    "mpararel", read_path, _recognises, holds_mpararel, is_part, takes_folders=True, read_languages=read_languages
)
