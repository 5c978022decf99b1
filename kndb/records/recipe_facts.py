"""Facts as recipes name them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .json_values import JsonObject, or_null, said, text, whole


@dataclass(frozen=True, kw_only=True)
class RecipeFact(JsonObject):
    """The fact that an edit is for, by its number in the store where it was planned, and by name."""

    id: int = field(metadata=said(whole))
    relation: str = field(metadata=said(text))
    subject: str | None = field(metadata=said(or_null(text)))
    object: str = field(metadata=said(text))


def facts_in_words(relations: Iterable[str]) -> str:
    """Many facts by their relations, such as `12 facts · P103, P30, P36 and 2 more`.

    Args:
        relations: the relation of each fact.
    """
    every = list(relations)
    keys = sorted(set(every))
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{len(every)} fact{'' if len(every) == 1 else 's'} · {', '.join(keys[:3])}{more}"
