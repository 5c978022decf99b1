"""What the report in an edit's recipe finds wrong with it. Imports no torch, so that lists of edits say it at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HARM = 2.0
"""A plan that multiplies the perplexity of other facts' answers by this is warned about."""
LITTLE_FORGOTTEN = 0.5
"""And so is an erase that leaves more than this share of the relation's right answers right."""


@dataclass(frozen=True)
class Fault:
    """Why a plan is not what was wanted.

    Attributes:
        kind: `no-success`: the new answer wins on none of the fact's prompts. `harm`: perplexity of other answers times
            `HARM` or more. `not-forgotten`: an erase that leaves most right answers right. `no-numbers`: with the edit,
            the model's probabilities are not numbers.
        where: `relation` or `elsewhere`, of a harm.
        factor: of a harm, perplexity after ÷ before.
    """

    kind: str
    where: str = ""
    factor: float = 0.0


def faults(kind: str, recipe: Mapping[str, Any]) -> list[Fault]:
    """What a recipe's report finds wrong with its edit; nothing where there is no report."""
    report = recipe.get("report")
    if not isinstance(report, Mapping):
        return []
    found = []
    if report.get("prompts") and report["success"] == 0:
        found.append(Fault("no-success"))
    groups = {name: report.get(name) for name in ("relation", "elsewhere")}
    for name, group in groups.items():
        if not isinstance(group, Mapping) or not group.get("prompts"):
            continue
        if group["surprisal"] is None:
            found.append(Fault("no-numbers"))
            break
        if kind == "erase" and name == "relation":
            if group["right"] > LITTLE_FORGOTTEN * group["right_before"]:
                found.append(Fault("not-forgotten"))
            continue
        factor = perplexity_factor(group)
        if factor >= HARM:
            found.append(Fault("harm", name, factor))
    return found


def perplexity_factor(group: Mapping[str, Any]) -> float:
    """Perplexity after ÷ before of a group of a report; infinite where that is no float."""
    try:
        return math.exp(group["surprisal"] - group["surprisal_before"])
    except OverflowError:
        return math.inf
