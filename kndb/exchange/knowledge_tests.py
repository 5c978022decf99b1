"""Files of knowledge tests: JSON lines, or a table with commas, semicolons or tabs.

Each row is a test. Its fields are those of `FIELDS`; another one is refused, so that no misspelt expectation is passed
over. A field that takes several texts is a text, or a list of texts (in a table, as JSON).
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError, RejectedLine, UsageError
from ..files import writing
from ..records.knowledge_tests import TRAINING, KnowledgeTest, as_fields
from .lines import csv_records, json_lines

FIELDS = (
    *("name", "prompt", "fact", "relation", "subject", "prompts"),
    *("answer", "not", "probability", "above", "note"),
)
"""The fields of a test."""
_SEVERAL = ("answer", "not", "above")
_NUMBERS = ("fact", "probability")
_MOST_REJECTED = 1000
_SHOWN = 60
_BEGINNING_OF_LIST = "["

Fields = Mapping[str, Any]


class _FieldError(Exception):
    """A row that is no test; its text names the field."""


def read(path: Path, delimiter: str | None) -> list[KnowledgeTest]:
    """Reads a file of tests. One without a name is called `line N`, by the line on which it begins.

    Args:
        path: a file in UTF-8, gzipped or not.
        delimiter: what separates the cells of its table; None if it is JSON lines.

    Raises:
        InputError: if the file can't be read, has no test, or a row is none; all such rows are in `rejected`.
    """
    rows = _json_rows(path) if delimiter is None else _table_rows(path, delimiter)
    tests: list[KnowledgeTest] = []
    rejected: list[RejectedLine] = []
    names: dict[str, int] = {}
    for line, values in rows:
        found = _test_or_flaw(path, line, values, names)
        if isinstance(found, RejectedLine):
            rejected.append(found)
            if len(rejected) == _MOST_REJECTED:
                break
        else:
            names[found.name] = line
            tests.append(found)
    if rejected:
        more = f"; and {len(rejected) - 1} more" if len(rejected) > 1 else ""
        raise InputError(f"{rejected[0].text}{more}", rejected)
    if not tests:
        raise InputError(f"{path}: there is no test in it; each row must have 'prompt' and 'answer', or 'fact'")
    return tests


def write(path: Path, tests: list[KnowledgeTest]) -> None:
    """Writes tests as JSON lines, the whole file or nothing.

    Raises:
        OutputError: if it can't be written.
    """
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.writelines(json.dumps(as_fields(test), ensure_ascii=False) + "\n" for test in tests)


def _json_rows(path: Path) -> Iterator[tuple[int, Fields | str]]:
    """Each line's object; where it is none, what is wrong with it."""
    for line, record in json_lines(path):
        if isinstance(record, Exception):
            yield line, f"not valid JSON ({record}): each line must be one JSON object"
        else:
            yield line, record if isinstance(record, dict) else "each line must be one JSON object"


def _table_rows(path: Path, delimiter: str) -> Iterator[tuple[int, Fields | str]]:
    header: list[str] | None = None
    for line, cells in csv_records(path, delimiter):
        if header is None:
            header = [cell.strip() for cell in cells]
            if len(set(header)) < len(header):
                raise InputError(f"{path}:{line}: a column's name stands twice in the header ({', '.join(header)})")
            _require_known(path, line, header)
        elif len(cells) != len(header):
            yield line, f"it has {len(cells)} fields, and the header has {len(header)}"
        else:
            yield line, {name: _cell(name, cell) for name, cell in zip(header, cells, strict=True) if cell.strip()}


def _require_known(path: Path, line: int, header: list[str]) -> None:
    try:
        _check_names(header)
    except _FieldError as error:
        rejected = RejectedLine(str(path), line, str(error))
        raise InputError(rejected.text, [rejected]) from None


def _cell(name: str, cell: str) -> object:
    """A cell's value; what is no JSON where it must be stays text, and is refused as such."""
    listed = name in _SEVERAL and cell.lstrip().startswith(_BEGINNING_OF_LIST)
    if name not in _NUMBERS and not listed:
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def _check_names(names: list[str]) -> None:
    for name in names:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise _FieldError(f"{name[:_SHOWN]!r} is no field of a test{hint} The fields: {', '.join(FIELDS)}")


def _test_or_flaw(
    path: Path, line: int, values: Fields | str, names: Mapping[str, int]
) -> KnowledgeTest | RejectedLine:
    """A row's test, or why it is none; `names` has the lines of the names before it."""
    try:
        test = _test(line, values)
        if test.name in names:
            raise _FieldError(f"'name' {test.name[:_SHOWN]!r} is that of line {names[test.name]} already")
    except (_FieldError, UsageError) as error:
        return RejectedLine(str(path), line, str(error))
    return test


def _test(line: int, values: Fields | str) -> KnowledgeTest:
    if isinstance(values, str):
        raise _FieldError(values)
    _check_names(list(values))
    given = {name: value for name, value in values.items() if value is not None}
    texts = {
        name: _text(name, given.get(name)) for name in ("name", "prompt", "relation", "subject", "prompts", "note")
    }
    several = {name: _texts(name, given.get(name)) for name in _SEVERAL}
    return KnowledgeTest(
        name=f"line {line}" if texts["name"] is None else texts["name"],
        prompt=texts["prompt"],
        fact=_whole("fact", given.get("fact")),
        relation=texts["relation"],
        subject=texts["subject"],
        prompts=texts["prompts"] or TRAINING,
        answers=several["answer"],
        refused=several["not"],
        probability=_number("probability", given.get("probability")),
        above=several["above"],
        note=texts["note"],
    )


def _text(name: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _FieldError(f"{name!r} must be text (got {_shown(value)})")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _FieldError(f"{name!r} has half a surrogate pair in it, which is no text") from None
    # Of a prompt, spaces at its end count.
    stripped = value.strip()
    if not stripped:
        raise _FieldError(f"{name!r} is empty; it must be text")
    return value if name == "prompt" else stripped


def _texts(name: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    found = [_text(name, one) for one in (value if isinstance(value, list) else [value])]
    if not found or None in found:
        raise _FieldError(f"{name!r} must be a text or a list of texts (got {_shown(value)})")
    return tuple(dict.fromkeys(text for text in found if text is not None))


def _whole(name: str, value: object) -> int | None:
    if value is None or (type(value) is int and 0 < value < 1 << 63):
        return value
    raise _FieldError(f"{name!r} must be a fact's number (got {_shown(value)})")


def _number(name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _FieldError(f"{name!r} must be a number (got {_shown(value)})")
    return float(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
