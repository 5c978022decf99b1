"""JSON texts of others: read within bounds, so that no text takes much memory, and what is read can be written again.

A text of n bytes takes at most some 10·n bytes of memory while it is read (`benchmarks/hostile_edits.py` measures it).
"""

from __future__ import annotations

import json
import math
from typing import NoReturn

MOST_DEPTH = 64
"""Lists and objects that may lie in one another."""
MOST_CONTAINERS = 500_000
"""Brackets that may open in a text, those within its strings included."""
MOST_COMMAS = 3_000_000
"""Commas that may stand in a text, those within its strings included."""
_LONGEST_NUMBER = 400
"""Digits of a number, about: no float has more than 309 before its point."""


class JsonTextError(ValueError):
    """A text that is not read; its message says what is wrong, such as `key 'a' twice`."""


def read_json(text: str, *, finite: bool = True) -> object:
    """Reads a text in which each key stands once.

    Args:
        text: the text.
        finite: refuse NaN and infinity, and numbers that no float holds.

    Raises:
        JsonTextError: if it is no JSON, or holds more than the bounds above allow, half a surrogate pair, or a number
            of more than some 300 digits.
    """
    if text.count("[") + text.count("{") > MOST_CONTAINERS or text.count(",") > MOST_COMMAS:
        raise JsonTextError(f"more than {MOST_CONTAINERS:,} lists and objects, or {MOST_COMMAS:,} commas")

    def whole(digits: str) -> int:
        if len(digits) > _LONGEST_NUMBER:
            raise JsonTextError(f"a number of {len(digits):,} digits")
        return int(digits)

    def fraction(digits: str) -> float:
        value = float(digits)
        if finite and not math.isfinite(value):
            raise JsonTextError(f"the number {digits[:30]}, which no float holds")
        return value

    def constant(word: str) -> float:
        if finite:
            raise JsonTextError(f"{word} where a number is expected")
        return float(word)

    try:
        value: object = json.loads(
            text, object_pairs_hook=_object, parse_constant=constant, parse_int=whole, parse_float=fraction
        )
    except JsonTextError:
        raise
    except RecursionError:
        _too_deep()
    except ValueError as error:
        raise JsonTextError(f"malformed JSON ({error})") from None
    _require_shallow(value)
    if not _storable(text, value):
        raise JsonTextError("half a surrogate pair, which no text can hold")
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise JsonTextError(f"key {twice[:60]!r} twice")
    return result


def _require_shallow(value: object) -> None:
    level = [value]
    for _ in range(MOST_DEPTH + 1):
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict):
                inner += [other for other in one.values() if isinstance(other, (dict, list))]
            elif isinstance(one, list):
                inner += [other for other in one if isinstance(other, (dict, list))]
        if not inner:
            return
        level = inner
    _too_deep()


def _too_deep() -> NoReturn:
    raise JsonTextError(f"more than {MOST_DEPTH} lists or objects in one another")


def _storable(text: str, value: object) -> bool:
    # Text that was UTF-8 holds no half of a pair; only an escape makes one.
    if "\\u" not in text:
        return True
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
