"""What plans of edits are found to do, in memory, before they are stored: the part `report` of a recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from .json_values import JsonObject, as_json, count, list_of, number, or_null, said, share, text, whole


@dataclass(frozen=True, kw_only=True)
class OthersReport(JsonObject):
    """What an edit does to the answers of some facts that it is not for, a prompt of each.

    Attributes:
        prompts: how many; without any, there is nothing else.
        surprisal_before, surprisal: mean −log p of the fact's object, in nats; None for what is no number.
        changed: share whose most probable token is another one after.
        right_before, right: share that are answered with the object.
    """

    prompts: int = field(metadata=said(count))
    surprisal_before: float | None = field(default=None, metadata=said(or_null(number)))
    surprisal: float | None = field(default=None, metadata=said(or_null(number)))
    changed: float | None = field(default=None, metadata=said(or_null(share)))
    right_before: float | None = field(default=None, metadata=said(or_null(share)))
    right: float | None = field(default=None, metadata=said(or_null(share)))

    def as_json(self) -> dict[str, Any]:
        """The object: of prompts, all measures, null where there is no number."""
        measures = ("surprisal_before", "surprisal", "changed", "right_before", "right") if self.prompts else ()
        return {"prompts": self.prompts} | {name: getattr(self, name) for name in measures} | dict(self.extra)

    @property
    def perplexity_factor(self) -> float | None:
        """Perplexity after ÷ before, infinite where that is no float; None where one of them is no number."""
        if self.surprisal is None or self.surprisal_before is None:
            return None
        try:
            return math.exp(self.surprisal - self.surprisal_before)
        except OverflowError:
            return math.inf


@dataclass(frozen=True, kw_only=True)
class ReportRefinement(JsonObject):
    """Whose neurons an edit changes: the refinement's number, its run's, the method and the version.

    Reports of an earlier kndb do not say the version.
    """

    number: int = field(metadata=said(whole))
    run: int = field(metadata=said(whole))
    method: str = field(metadata=said(text))
    version: str | None = field(default=None, metadata=said(text))


@dataclass(frozen=True, kw_only=True)
class PlanReport(JsonObject):
    """What an edit of a relation is found to do, in memory, before it is stored.

    Attributes:
        relation: to other facts of the relation (of an erase, to its facts); `elsewhere`: to facts of other relations.
        refinement: whose neurons the edit changes.
    """

    relation: OthersReport = field(metadata=said(OthersReport.parse, as_json))
    elsewhere: OthersReport = field(metadata=said(OthersReport.parse, as_json))
    refinement: ReportRefinement = field(metadata=said(ReportRefinement.parse, as_json))


@dataclass(frozen=True, kw_only=True)
class FactReport(JsonObject):
    """What an edit of a fact is found to do: `PlanReport`, and what it does to the fact.

    Attributes:
        prompts: the fact's prompts, held-out templates left out; without any, measures over them are None.
        success_before, success: shares of these whose most probable token is the new answer.
        probability_before, probability: its mean over them.
        held_out_prompts, held_out_success: prompts of held-out templates, and the same share of these.

    Of an edit of many facts, the prompts are those of all of them; a prompt has the new answer if each of its tokens is
    the most probable one, and its probability is the geometric mean of theirs. `refinement` is None where layers were
    named, and nobody's neurons were asked for. `without_success` are the numbers of those facts whose new answers win
    on none of their prompts; None without any, for one fact, and in reports of an earlier kndb.
    """

    prompts: int = field(metadata=said(count))
    success_before: float | None = field(metadata=said(or_null(share)))
    success: float | None = field(metadata=said(or_null(share)))
    probability_before: float | None = field(metadata=said(or_null(share)))
    probability: float | None = field(metadata=said(or_null(share)))
    held_out_prompts: int = field(metadata=said(count))
    held_out_success: float | None = field(metadata=said(or_null(share)))
    relation: OthersReport = field(metadata=said(OthersReport.parse, as_json))
    elsewhere: OthersReport = field(metadata=said(OthersReport.parse, as_json))
    refinement: ReportRefinement | None = field(default=None, metadata=said(ReportRefinement.parse, as_json))
    without_success: tuple[int, ...] | None = field(default=None, metadata=said(list_of(whole), list))
