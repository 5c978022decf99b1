"""Recipes of edits of many facts, whatever planned them: what measures, lists, shares and previews them asks here."""

from __future__ import annotations

from typing import Protocol

from .many_recipes import ManyRecipe
from .together import TogetherRecipe

GroupRecipe = TogetherRecipe | ManyRecipe
"""A recipe with `facts`, `layers`, `neurons`, `kept_facts`, `prompts_each`, `refinement`, `seed` and `report`."""


class EditedFact(Protocol):
    """A fact with its new answer.

    Attributes:
        id, relation, subject, object: the fact, by its number in the store where the edit was planned, and by name.
        to: its new answer.
        old_answer: the answer that the model gave; None if nobody asked.
    """

    @property
    def id(self) -> int: ...  # noqa: D102
    @property
    def relation(self) -> str: ...  # noqa: D102
    @property
    def subject(self) -> str | None: ...  # noqa: D102
    @property
    def object(self) -> str: ...  # noqa: D102
    @property
    def to(self) -> str: ...  # noqa: D102
    @property
    def old_answer(self) -> str | None: ...  # noqa: D102
