"""Words that read differently in Python and in a shell: options, and calls that help.

An error, a note or a remedy is one text. Where it speaks of an option or of something to run, `option` and `call` put a
mark into it: JSON between two characters of Unicode's private use area. `for_python` says the marks in Python (so does
`str(error)`), and the command line says them as it spells options and commands (`kndb.cli.advice`).

    f"{option('top')} must be at least 1 (got {top})"
    f"no run {number}; list them with: {call('query.runs', model=model)}"

read `top must be at least 1 (got 0)` and `no run 7; list them with: db.query.runs(model='m')` in Python, and
`--top must be at least 1 (got 0)` and `no run 7; list them with: kndb query runs --model m` in a shell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START, END = "\ue000", "\ue001"
_MARK = re.compile(f"{START}(.*?){END}", re.DOTALL)
_NOTHING: Any = object()


@dataclass(frozen=True)
class Placeholder:
    """A value that the reader fills in: it is shown as it is, without quotes, such as PATH or ID."""

    name: str


@dataclass(frozen=True)
class Option:
    """An option that a text speaks of.

    Attributes:
        name: the parameter's name in Python, such as max_share.
        value: what to give it, or `given` is False: only the option is spoken of.
        given: whether a value belongs to it.
    """

    name: str
    value: Any = None
    given: bool = False


@dataclass(frozen=True)
class Call:
    """A call that a text advises.

    Attributes:
        method: of a `Database`, such as attribution.run; or of the package, such as kndb.open.
        arguments: by position.
        keywords: by name.
    """

    method: str
    arguments: tuple[Any, ...] = ()
    keywords: tuple[tuple[str, Any], ...] = ()


def option(name: str, value: Any = _NOTHING) -> str:
    """Marks an option in a text, alone or with the value to give it."""
    content = {"option": name} if value is _NOTHING else {"option": name, "value": _packed(value)}
    return f"{START}{json.dumps(content)}{END}"


def call(method: str, /, *arguments: Any, **keywords: Any) -> str:
    """Marks a call in a text; keywords that are None or empty are left out.

    Args:
        method: a method of `Database` by its path, such as attribution.run; or of the package: kndb.open.
        arguments: numbers, texts, lists of these, or a `Placeholder`.
        keywords: the same, by name.
    """
    kept = {name: _packed(value) for name, value in keywords.items() if value is not None and value not in ((), [])}
    content = {"call": method, "arguments": [_packed(value) for value in arguments], "keywords": kept}
    return f"{START}{json.dumps(content)}{END}"


def rendered(text: str, say: Callable[[Option | Call], str]) -> str:
    """A text with its marks said by a function; what is no mark after all stays as it is."""

    def one(match: re.Match[str]) -> str:
        mark = _mark(match[1])
        return match[0] if mark is None else say(mark)

    return _MARK.sub(one, text)


def for_python(text: str) -> str:
    """A text with its marks as Python says them."""
    return rendered(text, _in_python)


def marks(text: str) -> list[Option | Call]:
    """All marks of a text, in order."""
    found = (_mark(content) for content in _MARK.findall(text))
    return [mark for mark in found if mark is not None]


def _in_python(mark: Option | Call) -> str:
    if isinstance(mark, Option):
        return f"{mark.name}={_literal(mark.value)}" if mark.given else mark.name
    words = [_literal(value) for value in mark.arguments]
    words += [f"{name}={_literal(value)}" for name, value in mark.keywords]
    owner = "" if mark.method.startswith("kndb.") else "db."
    return f"{owner}{mark.method}({', '.join(words)})"


def _literal(value: Any) -> str:
    if isinstance(value, Placeholder):
        return value.name
    if isinstance(value, list):
        return f"[{', '.join(_literal(one) for one in value)}]"
    return repr(value)


def _packed(value: Any) -> Any:
    if isinstance(value, Placeholder):
        return {"placeholder": value.name}
    if isinstance(value, (list, tuple)):
        return [_packed(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        return Placeholder(str(value["placeholder"]))
    return [_unpacked(one) for one in value] if isinstance(value, list) else value


def _mark(content: str) -> Option | Call | None:
    """A mark; None for what is none after all: a text from a file may hold the two characters, too."""
    try:
        found = json.loads(content)
        if "option" in found:
            return Option(_name(found["option"]), _unpacked(found.get("value")), "value" in found)
        keywords = tuple((_name(name), _unpacked(value)) for name, value in found["keywords"].items())
        return Call(_name(found["call"]), tuple(_unpacked(value) for value in found["arguments"]), keywords)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _name(value: object) -> str:
    """A parameter's name, or a method's path."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z_.]*", value):
        raise ValueError(value)
    return value
