"""What a field must be. Each check raises `RecordError`, which names the field and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..records.facts import BLANK, SUBJECT_SLOT

Record = Mapping[str, object]
"""A parsed line or list item."""

_SHOWN = 200
"""Characters of a file's text that a reason quotes: there may be as many reasons as lines."""


class RecordError(Exception):
    """A record that can't be used; its text is the reason. It never leaves `kndb.facts`."""


def text(record: Record, name: str) -> str:
    """Returns a field that must hold text, without surrounding whitespace."""
    if name not in record:
        raise _missing(record, name)
    return clean(record[name], name)


def optional_text(record: Record, name: str) -> str | None:
    """Returns a field that may be missing, null or blank (then None), and holds text otherwise."""
    value = record.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return clean(value, name)


def identifier(record: Record, name: str) -> str | None:
    """Returns a field that holds an identifier: text, or a whole number; None where there is none."""
    value = record.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return optional_text(record, name)


def clean(value: object, name: str) -> str:
    """Returns a value that must be text, without surrounding whitespace."""
    if not isinstance(value, str):
        raise RecordError(f"{name!r} must be text (got {kind(value)})")
    stripped = value.strip()
    if not stripped:
        raise RecordError(f"{name!r} is empty; it must be text")
    if not _storable(stripped):
        raise RecordError(f"{name!r} has a NUL or half a surrogate pair, which can't be stored")
    return stripped


def subject(record: Record, name: str) -> str:
    """Returns a subject: text that can't be taken for a slot once it stands in a prompt."""
    value = text(record, name)
    for slot in (SUBJECT_SLOT, BLANK):
        if slot in value:
            raise RecordError(
                f"{name!r} has {slot} in it; a subject can't have {SUBJECT_SLOT} or {BLANK}, which mark the blanks "
                "of prompts"
            )
    return value


def template(record: Record, name: str) -> str:
    """Returns a field that must hold a template: text with one `[X]` and one `[Y]`."""
    cleaned = text(record, name)
    once(cleaned, SUBJECT_SLOT, name)
    once(cleaned, BLANK, name)
    return cleaned


def once(value: str, mark: str, name: str) -> None:
    """Checks that a mark stands exactly once in a text."""
    count = value.count(mark)
    if count != 1:
        raise RecordError(f"the {name} {cut(repr(value))} has {count or 'no'} {mark}; it must have exactly one")


def no_slots(value: str, name: str) -> None:
    """Checks that a text in which slots are marked otherwise holds no `[X]` and no `[Y]`."""
    for slot in (SUBJECT_SLOT, BLANK):
        if slot in value:
            raise RecordError(f"the {name} {cut(repr(value))} has {slot} in it; leave that out")


def nested(record: Record, name: str) -> Record:
    """Returns a field that must hold an object."""
    if name not in record:
        raise _missing(record, name)
    value = record[name]
    if not isinstance(value, dict):
        raise RecordError(f"{name!r} must be an object (got {kind(value)})")
    return value


def listed(record: Record, name: str) -> Sequence[str]:
    """Returns a field that must hold a list of texts, at least one."""
    if name not in record:
        raise _missing(record, name)
    found = texts(record, name)
    if not found:
        raise RecordError(f"{name!r} is an empty list; it must have at least one text")
    return found


def texts(record: Record, name: str) -> Sequence[str]:
    """Returns a field that may be missing and holds a list of texts otherwise."""
    value = record.get(name, [])
    if not isinstance(value, list):
        raise RecordError(f"{name!r} must be a list of texts (got {kind(value)})")
    return [clean(item, name) for item in value]


def cut(text: str) -> str:
    """A text as a reason shows it: its beginning, if it is long."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def items(record: Record, name: str) -> Sequence[object]:
    """Returns a field that may be missing or null and holds a list otherwise."""
    value = record.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise RecordError(f"{name!r} must be a list (got {kind(value)})")
    return value


def an_object(value: object, name: str) -> Record:
    """Returns a value that must be an object."""
    if not isinstance(value, dict):
        raise RecordError(f"{name!r} must be an object (got {kind(value)})")
    return value


def kind(value: object) -> str:
    """Names the JSON type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"


def _missing(record: Record, name: str) -> RecordError:
    names = cut(", ".join(list(record)[:8]))
    return RecordError(f"the field {name!r} is missing (given: {names or 'no fields'})")


def _storable(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in value
