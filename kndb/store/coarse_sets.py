"""Coarse sets: for each attributed prompt, the neurons whose scores reach the threshold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from sqlalchemy import Connection, text

from .refinements import REACHES

_COARSE = """
SELECT prompt.fact_id, prompt.id, score.layer, score.neuron, score.score
FROM fact
CROSS JOIN prompt ON prompt.fact_id = fact.id
CROSS JOIN prompt_result ON prompt_result.run_id = :run AND prompt_result.prompt_id = prompt.id
LEFT JOIN score ON score.run_id = :run AND score.prompt_id = prompt.id AND {reaches}
WHERE {chosen} = :chosen AND prompt_result.max_score IS NOT NULL
ORDER BY fact.id
"""
"""CROSS JOIN is SQLite's way to keep the order of joins: from the facts on, each table is found by its key."""


@dataclass(frozen=True)
class Coarse:
    """What decides the coarse sets of a refinement's run.

    Attributes:
        run: the run whose scores are read.
        threshold: a prompt's coarse set holds the neurons of at least this share of its largest score.
        negative: take the lowest scores in place of the largest.
    """

    run: int
    threshold: float
    negative: bool = False


CoarseRow = tuple[int, int, int | None, int | None, float | None]
"""A fact, one of its prompts, and the layer, neuron and score of a member; the last three None for an empty set."""


def coarse_sets_of_fact(connection: Connection, coarse: Coarse, fact_id: int) -> list[CoarseRow]:
    """The coarse sets of all attributed prompts of one fact."""
    return list(_rows(connection, coarse, "fact.id", fact_id))


def coarse_sets_of_relation(connection: Connection, coarse: Coarse, relation_id: int) -> Iterable[CoarseRow]:
    """The coarse sets of all attributed prompts of a relation's facts, fact by fact; read as they are asked for."""
    return _rows(connection, coarse, "fact.relation_id", relation_id)


def has_scores(connection: Connection, run_id: int) -> bool:
    """Whether a run has the result of any prompt; an import may bring refined sets alone."""
    found = connection.execute(text("SELECT 1 FROM prompt_result WHERE run_id = :run LIMIT 1"), {"run": run_id})
    return found.first() is not None


def _rows(connection: Connection, coarse: Coarse, column: str, value: int) -> Iterable[CoarseRow]:
    """Rows fact by fact, each fact's by prompt and neuron.

    Only a fact's own are sorted, and here: SQLite would sort all of them before it gives the first.
    """
    query = _COARSE.format(reaches=REACHES[coarse.negative], chosen=column)
    values = {"run": coarse.run, "threshold": coarse.threshold, "chosen": value}
    with connection.execute(text(query).execution_options(stream_results=True), values) as found:
        for _, rows in groupby((tuple(row) for row in found), itemgetter(0)):
            yield from sorted(rows, key=_place)


def _place(row: CoarseRow) -> tuple[int, int, int]:
    _, prompt, layer, neuron, _ = row
    return prompt, -1 if layer is None else layer, -1 if neuron is None else neuron
