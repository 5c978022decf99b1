"""Plans of edits from forms: computed once, kept while they are looked at, so that what is stored is what was shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from ..advice import option
from ..errors import UsageError, VersionMovedError
from ..records.conditions import CheckedConditions, parse_conditions
from .visit import Visit
from .workroom import Work

if TYPE_CHECKING:
    from ..database.edits.draft import Draft
    from ..database.edits.preview import EditPreview, PreviewedAnswer, PreviewedFlips
    from ..database.edits.preview_together import PreviewedFact
    from ..records.queries import Collateral

TOP, OTHERS = 3, 40
"""Answers of a prompt that are shown, and other facts that are asked whether their answers change."""
WAYS: Mapping[str, tuple[str, ...]] = {
    "update": ("fact", "to"),
    "optimize": ("fact", "to"),
    "erase": ("relation",),
    "together": ("answers",),
}
"""How an edit is planned, and the fields that each way must have."""


@dataclass(frozen=True)
class Plan:
    """What an edit is to do.

    Attributes:
        model: whose.
        way: one of `WAYS`.
        fact: the fact's number; `to`: its new answer.
        relation: the relation to forget; `top`: how many of its neurons.
        answers: many facts with their new answers, as `EditCommands.targets_in` takes them.
        refinement: whose knowledge neurons; None for the one that is chosen.
        require: conditions that must hold for the edit to be stored.
        confident: whether the worse end of each measure's confidence interval is compared.
    """

    model: str
    way: str = "update"
    fact: int | None = None
    to: str = ""
    relation: str = ""
    top: int = 20
    answers: str = ""
    refinement: int | None = None
    require: tuple[str, ...] = ()
    confident: bool = False

    def fields(self) -> dict[str, str]:
        """The plan as a form's fields, and as an address's parameters."""
        found = {"model": self.model, "way": self.way}
        if self.way == "erase":
            found |= {"relation": self.relation, "top": str(self.top)}
        elif self.way == "together":
            found |= {"answers": self.answers}
        else:
            found |= {"fact": str(self.fact), "to": self.to}
        if self.refinement is not None:
            found["refinement"] = str(self.refinement)
        if self.require:
            found |= {"require": "\n".join(self.require), "confident": "yes" if self.confident else ""}
        return found

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Plan:
        """The plan of a form's fields.

        Raises:
            UsageError: if one is missing or no number, there is no such way to plan, or a condition is none.
        """
        way = fields.get("way") or "update"
        if way not in WAYS:
            raise UsageError(f"an edit is planned by {', '.join(WAYS)} (got {way[:40]!r})")
        for name in ("model", *WAYS[way]):
            if not fields.get(name, "").strip():
                raise UsageError(f"the form must have {name}")
        require = tuple(line.strip() for line in fields.get("require", "").splitlines() if line.strip())
        confident = bool(fields.get("confident"))
        if confident and not require:
            raise UsageError(f"{option('confident')} needs {option('require')}: it says how conditions are compared")
        parse_conditions(require, confident=confident)
        plan = cls(fields["model"].strip(), way, refinement=_number(fields, "refinement"), require=require)
        plan = replace(plan, confident=confident)
        if way == "erase":
            top = _number(fields, "top")
            return replace(plan, relation=fields["relation"].strip(), top=20 if top is None else top)
        if way == "together":
            return replace(plan, answers="\n".join(fields["answers"].strip().splitlines()))
        return replace(plan, fact=_number(fields, "fact"), to=fields["to"].strip())


def _number(fields: Mapping[str, str], name: str) -> int | None:
    text = fields.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise UsageError(f"{name} must be a number (got {text[:40]!r})")
    return int(text)


@dataclass(frozen=True)
class Tried:
    """A plan that was computed, and what it does to its own facts.

    Attributes:
        draft: the edit, which is not stored.
        answers: to the prompts of its fact, or of its relation's facts.
        facts: of an edit of many facts, what it does to each.
        collateral: who else holds the value slots.
    """

    draft: Draft
    answers: Sequence[PreviewedAnswer]
    facts: Sequence[PreviewedFact]
    collateral: Collateral


def tried(visit: Visit, wanted: Plan, version: str) -> Tried:
    """A plan on the model's current version, computed and tried: what was shown, if the version is still the same.

    Args:
        visit: the page, or the form.
        wanted: the plan; its conditions are not looked at.
        version: the id of the model's current version.

    Raises:
        VersionMovedError: if the model is at another version once the plan is computed.
        KndbError: what the methods that plan raise.
    """
    bare = replace(wanted, require=(), confident=False)
    return visit.room.drafted((bare, version, visit.room.store_state()), lambda: _try(visit, bare, version))


def _try(visit: Visit, wanted: Plan, version: str) -> Tried:
    edits = visit.database.edits
    draft = _draft(visit, wanted)
    if draft.version.version != version:
        raise VersionMovedError(
            f"model {wanted.model} moved from version {version} to {draft.version.version} while the edit was planned; "
            "plan it again"
        )
    if wanted.way == "together":
        return Tried(draft, (), edits.preview_together(draft), edits.preview_flips(draft, others=0).collateral)
    found = edits.preview(draft, top=TOP)
    return Tried(draft, found.answers, (), found.collateral)


def flips(visit: Visit, wanted: Plan, found: Tried) -> Work[EditPreview | PreviewedFlips]:
    """What a plan that was tried does to the answers to other facts: `asked`, and `flips`."""
    edits, draft = visit.database.edits, found.draft
    bare = replace(wanted, require=(), confident=False)

    def compute() -> EditPreview | PreviewedFlips:
        if wanted.way == "together":
            return edits.preview_flips(draft, others=OTHERS)
        return edits.preview(draft, top=1, others=OTHERS)

    return Work(("flips", bare, draft.object_hash, visit.room.store_state()), compute)


def conditions(visit: Visit, wanted: Plan, found: Tried) -> Work[CheckedConditions]:
    """The conditions on a plan that was tried, of which it has at least one, with what was measured."""
    edits, draft = visit.database.edits, found.draft
    check = partial(edits.check, draft, wanted.require, confident=wanted.confident)
    return Work(("conditions", wanted, draft.object_hash, visit.room.store_state()), check)


def _draft(visit: Visit, wanted: Plan) -> Draft:
    drafts = visit.database.edits.drafts
    if wanted.way == "erase":
        return drafts.erase(wanted.model, wanted.relation, top=wanted.top, refinement=wanted.refinement)
    if wanted.way == "together":
        targets = visit.database.edits.targets_in(wanted.answers)
        return drafts.together(wanted.model, targets, refinement=wanted.refinement)
    assert wanted.fact is not None
    plan = drafts.optimize if wanted.way == "optimize" else drafts.update
    return plan(wanted.model, wanted.fact, wanted.to, refinement=wanted.refinement)
