"""From what an experiment found for each fact to one line for each relation, and one for all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean

from ..records.probes import ARMS, TEXT_KINDS, ActivationSummary, FactActivation, ProbeFact, ProbeSummary

_PROMPTS_OF = ("own", "other")


def summarize_scaling(rows: Sequence[ProbeFact]) -> list[ProbeSummary]:
    """Means over each relation's prompts, then the means over the relations' values (method.md section 4).

    Returns:
        By relation, whose neurons, and whose prompts; the rows over all relations (None) come last.
    """
    groups: dict[tuple[str, str, str], list[ProbeFact]] = {}
    for row in rows:
        groups.setdefault((row.relation, row.neurons_from, row.prompts_of), []).append(row)
    order = sorted(groups, key=lambda key: (key[0], ARMS.index(key[1]), _PROMPTS_OF.index(key[2])))
    relations = [_of_relation(*key, groups[key]) for key in order]
    alike: dict[tuple[str, str], list[ProbeSummary]] = {}
    for arm, prompts_of in ((arm, prompts_of) for arm in ARMS for prompts_of in _PROMPTS_OF):
        alike[arm, prompts_of] = [row for row in relations if (row.neurons_from, row.prompts_of) == (arm, prompts_of)]
    return relations + [_over_relations(*key, some) for key, some in alike.items() if some]


def summarize_activations(rows: Sequence[FactActivation]) -> list[ActivationSummary]:
    """Means over each relation's facts, then over all facts; each fact counts once, however many texts it has.

    Returns:
        By relation and kind of text; the rows over all relations (None) come last.
    """
    groups: dict[tuple[str | None, str], list[FactActivation]] = {}
    for row in rows:
        for relation in (row.relation, None):
            groups.setdefault((relation, row.kind), []).append(row)
    order = sorted(groups, key=lambda key: (key[0] is None, key[0] or "", TEXT_KINDS.index(key[1])))
    return [
        ActivationSummary(
            relation=relation,
            kind=kind,
            facts=len(groups[relation, kind]),
            texts=sum(row.texts for row in groups[relation, kind]),
            mean_activation=fmean(row.mean_activation for row in groups[relation, kind]),
        )
        for relation, kind in order
    ]


def _of_relation(relation: str, arm: str, prompts_of: str, rows: Sequence[ProbeFact]) -> ProbeSummary:
    prompts = sum(row.prompts for row in rows)

    def over_prompts(values: Iterable[float]) -> float:
        return sum(value * row.prompts for value, row in zip(values, rows, strict=True)) / prompts

    before = over_prompts(row.probability_before for row in rows)
    after = over_prompts(row.probability_after for row in rows)
    return ProbeSummary(
        relation=relation,
        neurons_from=arm,
        prompts_of=prompts_of,
        facts=len(rows),
        prompts=prompts,
        neurons=fmean(row.neurons for row in rows),
        probability_before=before,
        probability_after=after,
        change=(after - before) / before if before else math.nan,
        correct_before=over_prompts(row.correct_before for row in rows),
        correct_after=over_prompts(row.correct_after for row in rows),
        flips=over_prompts(row.flips for row in rows),
    )


def _over_relations(arm: str, prompts_of: str, rows: Sequence[ProbeSummary]) -> ProbeSummary:
    return ProbeSummary(
        relation=None,
        neurons_from=arm,
        prompts_of=prompts_of,
        facts=sum(row.facts for row in rows),
        prompts=sum(row.prompts for row in rows),
        neurons=fmean(row.neurons for row in rows),
        probability_before=fmean(row.probability_before for row in rows),
        probability_after=fmean(row.probability_after for row in rows),
        change=fmean(row.change for row in rows),
        correct_before=fmean(row.correct_before for row in rows),
        correct_after=fmean(row.correct_after for row in rows),
        flips=fmean(row.flips for row in rows),
    )
