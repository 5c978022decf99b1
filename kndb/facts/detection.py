"""Telling a fact list's format from its content; a file's name counts only where the content says nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from ..advice import call
from ..errors import InputError
from .delimiters import headers, sniff
from .folders import JSON_LINES, TABLES, list_files, names, subfolders, suffix
from .formats import Shape
from .lines import head_objects, read_head
from .registry import BY_NAME, FORMATS


def detect(path: Path) -> str:
    """Tells the format of a file or a folder.

    Args:
        path: an existing file or folder.

    Returns:
        One of the formats; for a folder of own lists `auto`, as each of its files has its own.

    Raises:
        InputError: if no format fits; the message says what was seen.
    """
    return _detect_folder(path) if path.is_dir() else _detect_file(path)


def holds_new_answers(path: Path) -> bool:
    """Tells whether a file is an own list of new answers for facts of a store, or at least no other list.

    Args:
        path: an existing file.

    Returns:
        True where the first records have the fields of such a list; and, where the file's name is that of an own list,
        also where nothing published has such records: its reader then says what is wrong with them.

    Raises:
        InputError: if the file can't be read.
    """
    head = read_head(path)
    if head.lstrip()[:1] in ("{", "["):
        item = _first_item(head) if head.lstrip().startswith("[") else None
        if any(_has_targets(record) for record in ([item] if item else head_objects(path))):
            return True
    elif any(_has_targets(columns) for _, columns in headers(_first_line(head))):
        return True
    if suffix(path) not in (*JSON_LINES, *TABLES):
        return False
    try:
        return BY_NAME[detect(path)].own
    except InputError:
        return True


def table_delimiter(path: Path, columns: Collection[str]) -> str | None:
    """Tells what separates the cells of an own list.

    Args:
        path: an existing file.
        columns: names that its header may have.

    Returns:
        The delimiter; None if it is JSON lines.
    """
    head = read_head(path)
    if suffix(path) not in TABLES and (suffix(path) in JSON_LINES or head.lstrip()[:1] in ("{", "[")):
        return None
    return sniff(_first_line(head), columns)


def _detect_folder(folder: Path) -> str:
    direct = list_files(folder, (*JSON_LINES, *TABLES))
    here = [one for one in FORMATS if one.is_here(folder)]
    if direct and not any(all(one.is_part(path) for path in direct) for one in here):
        return "auto"
    if len(here) > 1:
        first, last = ", ".join(one.name for one in here[:-1]), here[-1].name
        count = "both" if len(here) == 2 else "all"
        raise InputError(f"{folder}: {first} and {last} are {count} in this folder; give the folder of one of them")
    if not here:
        raise _failed(folder, _seen_in(folder))
    return here[0].name


def _detect_file(path: Path) -> str:
    head = read_head(path)
    start = head.lstrip()[:1]
    if start == "[":
        return _detect_document(path, head)
    if start == "{" and suffix(path) not in TABLES:
        return _detect_lines(path)
    found = _detect_table(path, head)
    if found is not None:
        return found
    if suffix(path) in TABLES:
        return "csv"
    if suffix(path) in JSON_LINES:
        return "jsonl"
    raise _failed(path, f"text that begins {head.strip()[:60]!r}" if start else "nothing")


def _detect_document(path: Path, head: str) -> str:
    if re.match(r"\s*\[\s*\[", head):
        return "bags"
    record = _first_item(head)
    # A record may be longer than what is looked at: then the names in it speak for it.
    fields = record if record is not None else dict.fromkeys(re.findall(r'"(\w+)"\s*:', head))
    found = _format_of(Shape.DOCUMENT, fields)
    if found is not None:
        return found
    if record is None:
        raise _failed(path, f"JSON that begins {head.strip()[:60]!r}")
    raise _failed(path, f"a JSON list of objects with the fields {', '.join(record)}")


def _detect_table(path: Path, head: str) -> str | None:
    columns = [dict.fromkeys(names) for _, names in headers(_first_line(head))]
    for one in columns:
        _require_no_targets(path, one)
    return next((name for one in columns if (name := _format_of(Shape.TABLE, one)) is not None), None)


def _detect_lines(path: Path) -> str:
    seen: set[str] = set()
    for record in head_objects(path):
        _require_no_targets(path, record)
        found = _format_of(Shape.LINES, record)
        if found is not None:
            return found
        seen.update(record)
    if not seen and suffix(path) in JSON_LINES:
        return "jsonl"
    fields = ", ".join(sorted(seen))
    raise _failed(path, f"JSON objects with the fields {fields}" if seen else "no line with a JSON object")


def _require_no_targets(path: Path, fields: Collection[str]) -> None:
    """Refuses an own list of new answers: facts that are in a store already, and what edits are to make of them."""
    if _has_targets(fields):
        raise InputError(
            f"{path}: this is a list of new answers for facts that are in a database, and no list of facts; plan edits "
            f"with: {call('edits.targets', path=path)}"
        )


def _has_targets(fields: Collection[str]) -> bool:
    """Whether a record's fields are those of an own list of new answers."""
    return "to" in fields and "object" not in fields and ("fact" in fields or {"relation", "subject"} <= set(fields))


def _first_line(head: str) -> str:
    return next((line for line in head.split("\n") if line.strip()), "")


def _format_of(shape: Shape, record: Mapping[str, object]) -> str | None:
    return next((one.name for one in FORMATS if one.recognises(shape, record.keys())), None)


def _first_item(head: str) -> dict[str, object] | None:
    start = head.index("[") + 1
    start += len(head[start:]) - len(head[start:].lstrip())
    try:
        item, _ = json.JSONDecoder().raw_decode(head, start)
    except (ValueError, RecursionError):
        return None
    return item if isinstance(item, dict) else None


def _seen_in(folder: Path) -> str:
    found = names(folder)
    below = next((place for place in subfolders(folder, 2) if list_files(place, (*JSON_LINES, *TABLES))), None)
    seen = f"{', '.join(found[:6])}{', …' if len(found) > 6 else ''}" if found else "nothing"
    return f"{seen}, with lists in {below}" if below else seen


def _failed(path: Path, seen: str) -> InputError:
    return InputError(
        f"{path}: it holds {seen}. That is none of the formats that are read: own lists ({_names(own=True)}) and data "
        f"sets ({_names(own=False)}). Of a folder, only the .jsonl, .csv and .tsv files directly in it are read. What "
        f"each looks like: {call('kndb.page_text', 'formats')}"
    )


def _names(*, own: bool) -> str:
    return ", ".join(sorted(one.name for one in FORMATS if one.own is own))
