"""Facts as recipes name them."""

from __future__ import annotations

from dataclasses import dataclass, field

from .json_values import JsonObject, or_null, said, text, whole


@dataclass(frozen=True, kw_only=True)
class RecipeFact(JsonObject):
    """The fact that an edit is for, by its number in the store where it was planned, and by name."""

    id: int = field(metadata=said(whole))
    relation: str = field(metadata=said(text))
    subject: str | None = field(metadata=said(or_null(text)))
    object: str = field(metadata=said(text))
