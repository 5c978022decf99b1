"""Telling a fact list's format from its content; a file's name counts only where the content says nothing."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

from ..errors import InputError
from . import counterfact, lama, own, pararel
from .folders import COMMA_SEPARATED, JSON_LINES, list_files, names, subfolders, suffix
from .lines import head_objects, read_head

TRIED = ("jsonl", "csv", "pararel", "lama", "bags", "counterfact")
_OWN_FIELDS = {"relation", "subject", "object", "template", "prompt"}


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


def _detect_folder(folder: Path) -> str:
    direct = list_files(folder, (*JSON_LINES, *COMMA_SEPARATED))
    in_lama = lama.is_here(folder)
    if direct and not (in_lama and all(lama.is_part(path) for path in direct)):
        return "auto"
    in_pararel = pararel.is_here(folder)
    if in_lama and in_pararel:
        raise InputError(f"{folder}: both LAMA and ParaRel are in this folder; give the folder of one of them")
    if not in_lama and not in_pararel:
        raise _failed(folder, _seen_in(folder))
    return "lama" if in_lama else "pararel"


def _detect_file(path: Path) -> str:
    head = read_head(path)
    start = head.lstrip()[:1]
    if start == "[":
        return _detect_document(path, head)
    if suffix(path) in COMMA_SEPARATED:
        return "csv"
    if start == "{":
        return _detect_lines(path)
    if own.looks_own(_header(head)):
        return "csv"
    if suffix(path) in JSON_LINES:
        return "jsonl"
    raise _failed(path, f"text that begins {head.strip()[:60]!r}" if start else "nothing")


def _detect_document(path: Path, head: str) -> str:
    if re.match(r"\s*\[\s*\[", head):
        return "bags"
    if '"requested_rewrite"' in head:
        return "counterfact"
    record = _first_item(head)
    if record is None:
        raise _failed(path, f"JSON that begins {head.strip()[:60]!r}")
    if counterfact.is_easyedit(record):
        raise counterfact.easyedit_error(path)
    raise _failed(path, f"a JSON list of objects with the fields {', '.join(record)}")


def _detect_lines(path: Path) -> str:
    seen: set[str] = set()
    for record in head_objects(path):
        found = _format_of(path, record)
        if found is not None:
            return found
        seen.update(record)
    if not seen and suffix(path) in JSON_LINES:
        return "jsonl"
    fields = ", ".join(sorted(seen))
    raise _failed(path, f"JSON objects with the fields {fields}" if seen else "no line with a JSON object")


def _format_of(path: Path, record: dict[str, object]) -> str | None:
    fields = set(record)
    if counterfact.is_easyedit(record):
        raise counterfact.easyedit_error(path)
    if "requested_rewrite" in fields:
        return "counterfact"
    if {"sub_label", "predicate_id"} <= fields or {"relation", "template", "label", "type"} <= fields:
        return "lama"
    if {"sub_label", "obj_label"} <= fields or {"pattern", "lemma"} <= fields:
        return "pararel"
    return "jsonl" if fields & _OWN_FIELDS else None


def _first_item(head: str) -> dict[str, object] | None:
    start = head.index("[") + 1
    start += len(head[start:]) - len(head[start:].lstrip())
    try:
        item, _ = json.JSONDecoder().raw_decode(head, start)
    except (ValueError, RecursionError):
        return None
    return item if isinstance(item, dict) else None


def _header(head: str) -> list[str]:
    first = next((line for line in head.split("\n") if line.strip()), "")
    try:
        return [cell.strip() for row in csv.reader([first]) for cell in row]
    except csv.Error:
        return []


def _seen_in(folder: Path) -> str:
    found = names(folder)
    below = next((place for place in subfolders(folder, 2) if list_files(place, (*JSON_LINES, *COMMA_SEPARATED))), None)
    seen = f"{', '.join(found[:6])}{', …' if len(found) > 6 else ''}" if found else "nothing"
    return f"{seen}, with lists in {below}" if below else seen


def _failed(path: Path, seen: str) -> InputError:
    return InputError(
        f"{path}: this is none of the formats {', '.join(TRIED)}: it holds {seen}. Of a folder, only the .jsonl "
        "and .csv files directly in it are read"
    )
