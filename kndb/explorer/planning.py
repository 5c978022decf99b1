"""Plans of edits from forms: computed once, kept while they are looked at, so that what is stored is what was shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from .visit import Visit


@dataclass(frozen=True)
class Plan:
    """What an edit is to do.

    Attributes:
        model: whose.
        fact: the fact's number; `to`: its new answer.
        way: `update` or `optimize`.
        refinement: whose knowledge neurons; None for the one that is chosen.
    """

    model: str
    fact: int
    to: str
    way: str = "update"
    refinement: int | None = None

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            UsageError: for another way.
        """
        if self.way not in ("update", "optimize"):
            raise UsageError(f"an edit is planned by update or optimize (got {self.way[:40]!r})")

    def fields(self) -> dict[str, str]:
        """The plan as a form's fields."""
        number = "" if self.refinement is None else str(self.refinement)
        return {"model": self.model, "fact": str(self.fact), "to": self.to, "way": self.way, "refinement": number}

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Plan:
        """The plan of a form's fields.

        Raises:
            UsageError: if one is missing, or no number.
        """
        for name in ("model", "fact", "to"):
            if not fields.get(name):
                raise UsageError(f"the form must have {name}")
        numbers = {}
        for name in ("fact", "refinement"):
            text = fields.get(name, "")
            if text and not (text.isascii() and text.isdigit() and len(text) < 19):
                raise UsageError(f"{name} must be a number (got {text[:40]!r})")
            numbers[name] = int(text) if text else None
        assert numbers["fact"] is not None
        return cls(fields["model"], numbers["fact"], fields["to"], fields.get("way") or "update", numbers["refinement"])


def prepared(visit: Visit, wanted: Plan) -> Any:
    """The draft of a plan on the model's current version: the one that was shown, if the version is still the same."""
    edits, version = visit.database.edits, visit.database.models.resolve_version(wanted.model)

    def draft() -> Any:
        plan = edits.drafts.optimize if wanted.way == "optimize" else edits.drafts.update
        return plan(wanted.model, wanted.fact, wanted.to, refinement=wanted.refinement)

    return visit.room.drafted((wanted, version), draft)
