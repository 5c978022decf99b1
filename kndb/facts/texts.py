"""Texts about facts, over which activations are measured: JSON lines, or the bags of the paper's own code.

A JSON line is {"fact": …, "kind": …, "text": …}. The paper's file of one relation is a list of {"th_bags": […],
"h_bags": […]}, one entry for each fact of the relation, by position: sentences that name head and tail, and the head
alone. Which facts these are is in another file, `query_pairs.json`: {"P101": [[head, tail], …]}, by the same positions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..advice import Placeholder, call, option
from ..errors import InputError, RejectedLine, UsageError
from ..records.facts import BLANK
from . import checks
from .checks import Record, RecordError
from .collector import Collector, objects
from .lines import read_document, read_head

HEAD_AND_TAIL, HEAD, NEITHER = KINDS = ("head-and-tail", "head", "neither")
"""What a text names of its fact."""

TEXT_FORMATS = ("auto", "jsonl", "bags")
"""The formats that `read_texts` knows by name; `auto` tells them apart by content."""

PAIRS = "query_pairs.json"
"""What the file that names the facts of bags is called, unless the user says otherwise."""

_MASK = "[MASK]"
_BAGS = 'a JSON list of {"th_bags": [sentences], "h_bags": [sentences]}, one for each fact'
_PAIRS_FORM = 'a JSON object of relations, as in {"P101": [[head, tail], …]}'
_FORMATS = f"The formats: {call('kndb.page_text', 'experiments')}"
_RELATION = re.compile(r"(?<![A-Za-z0-9])P[0-9]+(?![A-Za-z0-9])")

Pairs = Mapping[str, Sequence[tuple[str, str]]]
"""For each relation, subject and object of its facts."""


@dataclass(frozen=True)
class FactName:
    """How a file names a fact: by the store's number, by its external id, or by relation, subject and object."""

    number: int | None = None
    external_id: str | None = None
    triple: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class NamedText:
    """A text about a fact.

    Attributes:
        fact: the fact.
        kind: one of `KINDS`.
        text: with its blank as `[Y]`, where the file says which word is left out; else whole.
    """

    fact: FactName
    kind: str
    text: str


@dataclass(frozen=True)
class TextFile:
    """What one file holds.

    Attributes:
        source: the file as the user named it.
        texts: in the order of the file.
        bags: whether it holds the paper's bags, which have no texts of kind `neither` of their own.
    """

    source: str
    texts: tuple[NamedText, ...]
    bags: bool = False


def read_texts(paths: Sequence[Path], input_format: str = "auto", pairs: Path | None = None) -> list[TextFile]:
    """Reads files of texts, gzipped or not.

    Args:
        paths: the files.
        input_format: one of `TEXT_FORMATS`.
        pairs: the file that names the facts of bags; None looks for `query_pairs.json` beside the bags, then in the
            folder above.

    Raises:
        UsageError: if there is no format of that name, or no bags for the pairs.
        InputError: if a file can't be read, a line can't be used, or the bags' facts are not known.
    """
    if input_format not in TEXT_FORMATS:
        raise UsageError(f"{option('input_format')} must be one of {', '.join(TEXT_FORMATS)} (got {input_format!r})")
    for path in [*paths, *([pairs] if pairs else [])]:
        if not path.is_file():
            raise InputError(f"{path}: {'this is a folder; name a file' if path.is_dir() else 'there is no such file'}")
    known: dict[Path, Pairs] = {}
    files = []
    for path in paths:
        if (_detect(path) if input_format == "auto" else input_format) == "bags":
            place = pairs or _find_pairs(path)
            if place not in known:
                known[place] = _read_pairs(place)
            files.append(_read_bags(path, known[place], place))
        else:
            files.append(_read_lines(path))
        if not files[-1].texts:
            raise InputError(f"{path}: there is no text in it")
    if pairs is not None and not any(file.bags for file in files):
        raise UsageError(f"{option('pairs')} names the facts of bags, and no file has bags; leave it out")
    return files


def _detect(path: Path) -> str:
    start = read_head(path).lstrip()[:1]
    if start in ("[", "{"):
        return "bags" if start == "[" else "jsonl"
    seen = f"it begins with {start!r}" if start else "it is empty"
    raise InputError(
        f'{path}: {seen}; it must be JSON lines of {{"fact": …, "kind": …, "text": …}}, or {_BAGS}. {_FORMATS}'
    )


# --- JSON lines ----------------------------------------------------------------------------------------------


def _read_lines(path: Path) -> TextFile:
    collector = Collector(path)
    texts = []
    for number, record in objects(path, collector):
        with collector.rejecting(path, number):
            texts.append(NamedText(_fact(record), _kind(record), _text(checks.text(record, "text"))))
    _refuse(collector.finish().rejected)
    return TextFile(str(path), tuple(texts))


def _fact(record: Record) -> FactName:
    value = record.get("fact")
    if isinstance(value, int) and not isinstance(value, bool):
        return FactName(number=value)
    if isinstance(value, dict):
        names = ("relation", "subject", "object")
        relation, subject, object_ = (checks.text(value, name) for name in names)
        return FactName(triple=(relation, subject, object_))
    return FactName(external_id=checks.text(record, "fact"))


def _kind(record: Record) -> str:
    kind = checks.text(record, "kind")
    if kind not in KINDS:
        raise RecordError(f"'kind' must be one of {', '.join(KINDS)} (got {kind!r})")
    return kind


def _text(value: str) -> str:
    text = value.replace(_MASK, BLANK)
    if text.count(BLANK) > 1:
        raise RecordError(f"the text {value!r} has {text.count(BLANK)} blanks; it can have one {BLANK}, or none")
    return text


# --- the paper's bags ----------------------------------------------------------------------------------------


def _read_bags(path: Path, pairs: Pairs, place: Path) -> TextFile:
    relation = _relation(path)
    if relation not in pairs:
        raise InputError(
            f"{path}: {relation}, the relation in this file's name, is not among the {len(pairs)} relations of "
            f"{place}; name the right file with {option('pairs', Placeholder('FILE'))}"
        )
    bags, facts = _list(path), pairs[relation]
    if len(bags) != len(facts):
        raise InputError(
            f"{path}: it has {len(bags)} entries, and {place} has {len(facts)} facts of {relation}. The two must "
            "match, as an entry's position tells its fact; name the right file with "
            f"{option('pairs', Placeholder('FILE'))}"
        )
    texts: list[NamedText] = []
    rejected: list[RejectedLine] = []
    for number, (bag, (head, tail)) in enumerate(zip(bags, facts, strict=True), 1):
        fact = FactName(triple=(relation, head, tail))
        try:
            texts += [NamedText(fact, HEAD_AND_TAIL, text) for text in _sentences(bag, "th_bags")]
            texts += [NamedText(fact, HEAD, text) for text in _sentences(bag, "h_bags")]
        except RecordError as error:
            rejected.append(RejectedLine(str(path), number, str(error)))
    _refuse(rejected)
    return TextFile(str(path), tuple(texts), bags=True)


def _relation(path: Path) -> str:
    found: list[str] = list(dict.fromkeys(_RELATION.findall(path.name)))
    if len(found) != 1:
        seen = f"holds several relations ({', '.join(found)})" if found else "holds no relation"
        raise InputError(
            f"{path}: the file's name {seen}; it must name one, as final_distant_allbags_P101_new.json does"
        )
    return found[0]


def _list(path: Path) -> list[object]:
    bags = read_document(path, _BAGS)
    if not isinstance(bags, list):
        raise InputError(f"{path}: it must be {_BAGS} (got {checks.kind(bags)})")
    return bags


def _sentences(bag: object, name: str) -> list[str]:
    if not isinstance(bag, dict) or name not in bag:
        found = f"the fields {', '.join(bag)}" if isinstance(bag, dict) else checks.kind(bag)
        raise RecordError(f"a bag must be an object with 'th_bags' and 'h_bags' (got {found})")
    return [_text(text) for text in checks.texts(bag, name)]


def _find_pairs(path: Path) -> Path:
    places = [folder / name for folder in path.absolute().parents[:2] for name in (PAIRS, f"{PAIRS}.gz")]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(
            f"{path}: {PAIRS}, which names the facts of the bags, is neither beside it nor in the folder above; "
            f"name that file with {option('pairs', Placeholder('FILE'))}"
        )
    return found


def _read_pairs(path: Path) -> Pairs:
    document = read_document(path, _PAIRS_FORM)
    if not isinstance(document, dict):
        raise InputError(f"{path}: it must be {_PAIRS_FORM} (got {checks.kind(document)})")
    return {relation: _pairs(path, relation, items) for relation, items in document.items()}


def _pairs(path: Path, relation: str, items: object) -> list[tuple[str, str]]:
    if not isinstance(items, list):
        raise InputError(f"{path}: {relation!r} must be a list of [head, tail] (got {checks.kind(items)})")
    return [_pair(item, f"{path}: pair {number} of {relation}") for number, item in enumerate(items, 1)]


def _pair(item: object, place: str) -> tuple[str, str]:
    if not isinstance(item, list) or len(item) != 2:
        found = f"a list of {len(item)}" if isinstance(item, list) else checks.kind(item)
        raise InputError(f"{place} must be [head, tail] (got {found})")
    try:
        return checks.clean(item[0], "head"), checks.clean(item[1], "tail")
    except RecordError as error:
        raise InputError(f"{place}: {error}") from error


def _refuse(rejected: Sequence[RejectedLine]) -> None:
    if rejected:
        more = f" {len(rejected) - 1} further ones can't be used either." if len(rejected) > 1 else ""
        raise InputError(f"{rejected[0].text}.{more} {_FORMATS}", rejected)
