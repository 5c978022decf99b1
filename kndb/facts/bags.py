"""The bags of the paper's own code: a list of bags, each a list of [prompt with `[MASK]`, answer, relation].

A bag is a fact. Its subject stands in the prompts but is not named, so its prompts belong to it alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from ..errors import InputError
from ..records.facts import BLANK, FactFile, FactRecord
from . import checks
from .checks import RecordError
from .collector import Collector
from .formats import Format
from .lines import read_document

_MASK = "[MASK]"
_EXPECTED = "a JSON list of bags, a bag being a list of [prompt with [MASK], answer, relation]"
_RELATION = re.compile(r"([^()]+)\((.*)\)", re.DOTALL)


def read_file(path: Path) -> FactFile:
    """Reads one file of bags.

    Args:
        path: the file.

    Returns:
        A fact per bag; the line of a rejected bag is its 1-based number.

    Raises:
        InputError: if the file is no JSON list.
    """
    bags = read_document(path, _EXPECTED)
    if not isinstance(bags, list):
        raise InputError(f"{path}: it must be {_EXPECTED} (got {checks.kind(bags)})")
    collector = Collector(path)
    for number, bag in enumerate(bags, 1):
        with collector.rejecting(path, number):
            _add(bag, collector)
    return collector.finish()


def _add(bag: object, collector: Collector) -> None:
    if not isinstance(bag, list) or not bag:
        found = "an empty bag" if bag == [] else checks.kind(bag)
        raise RecordError(f"a bag must be a list of [prompt, answer, relation] (got {found})")
    entries = [_entry(entry) for entry in bag]
    answer = _shared([entry[1] for entry in entries], "answer")
    key, label = _relation(_shared([entry[2] for entry in entries], "relation"))
    prompts = tuple(dict.fromkeys(entry[0] for entry in entries))
    collector.fact(FactRecord(key, None, answer, _external_id(key, answer, prompts), prompts))
    collector.relation(key, label)


def _entry(entry: object) -> tuple[str, str, str]:
    if not isinstance(entry, list) or len(entry) != 3:
        found = f"a list of {len(entry)}" if isinstance(entry, list) else checks.kind(entry)
        raise RecordError(f"each entry of a bag must be [prompt, answer, relation] (got {found})")
    prompt = checks.clean(entry[0], "prompt")
    checks.no_slots(prompt, "prompt")
    checks.once(prompt, _MASK, "prompt")
    return prompt.replace(_MASK, BLANK), checks.clean(entry[1], "answer"), checks.clean(entry[2], "relation")


def _shared(values: list[str], name: str) -> str:
    distinct = list(dict.fromkeys(values))
    if len(distinct) > 1:
        raise RecordError(f"a bag has one {name}, and this one has {_two(distinct)}")
    return distinct[0]


def _two(values: list[str]) -> str:
    return " and ".join(checks.cut(repr(value)) for value in values[:2])


def _relation(text: str) -> tuple[str, str | None]:
    """`P1376(capital of)` as key and label; without parentheses, the whole text is the key."""
    match = _RELATION.fullmatch(text)
    if match is None or not match[1].strip():
        return text, None
    return match[1].strip(), match[2].strip() or None


def _external_id(key: str, answer: str, prompts: tuple[str, ...]) -> str:
    text = json.dumps([key, answer, *sorted(prompts)], ensure_ascii=False)
    return "bag-" + hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


FORMAT = Format("bags", lambda path: [read_file(path)])
"""Its records have no fields: `detection` knows them by being lists."""
