"""What a refinement and its run know of one fact: its prompts, its neurons, and the facts that share them."""

from __future__ import annotations

from sqlalchemy import Connection, text

from ...records.attribution import KnowledgeNeuron
from ...records.queries import NearFact, PromptFindings

_PROMPTS = """
SELECT prompt.id, prompt.text, COALESCE(template.held_out, FALSE) AS held_out, result.probability, result.predicted,
    result.predicted_probability, result.correct, result.completeness_error, result.worst_layer,
    result.completeness_error > :limit AS above_tolerance, result.skipped
FROM prompt
LEFT JOIN template ON template.id = prompt.template_id
LEFT JOIN prompt_result AS result ON result.run_id = :run AND result.prompt_id = prompt.id
WHERE prompt.fact_id = :fact
ORDER BY prompt.id
"""
_NEAREST = """
WITH
own AS (SELECT layer, neuron FROM knowledge_neuron WHERE refinement_id = :refinement AND fact_id = :fact),
sharing AS (
    SELECT other.fact_id, COUNT(*) AS shared
    FROM own CROSS JOIN knowledge_neuron AS other
        INDEXED BY ix_knowledge_neuron_refinement_id_layer_neuron
        ON other.refinement_id = :refinement AND other.layer = own.layer AND other.neuron = own.neuron
    WHERE other.fact_id <> :fact
    GROUP BY other.fact_id
),
least AS (
    SELECT MIN(shared) AS shared FROM (SELECT shared FROM sharing ORDER BY shared DESC LIMIT :nearest) AS nearest
),
sized AS (
    SELECT sharing.fact_id, sharing.shared,
        (SELECT COUNT(*) FROM own)
        + (SELECT COUNT(*) FROM knowledge_neuron AS every
           WHERE every.refinement_id = :refinement AND every.fact_id = sharing.fact_id)
        - sharing.shared AS together
    FROM sharing
    WHERE sharing.shared >= (SELECT shared FROM least)
    ORDER BY sharing.shared DESC, together, sharing.fact_id
    LIMIT :nearest
)
SELECT fact.id, relation.key, fact.subject, fact.object, sized.shared,
    CAST(sized.shared AS DOUBLE PRECISION) / sized.together
FROM sized
CROSS JOIN fact ON fact.id = sized.fact_id
CROSS JOIN relation ON relation.id = fact.relation_id
ORDER BY sized.shared DESC, sized.together, fact.id
"""
"""Among facts that share as many neurons, the smaller union is the larger Jaccard index. Unions are only counted for
facts that share enough to be listed: there may be thousands of others."""
_TOP = """
SELECT prompt.fact_id, score.layer, score.neuron, COUNT(*), AVG(score.score)
FROM prompt CROSS JOIN score ON score.run_id = :run AND score.prompt_id = prompt.id
WHERE prompt.fact_id = :fact
GROUP BY prompt.fact_id, score.layer, score.neuron
ORDER BY SUM(score.score) DESC, score.layer, score.neuron
LIMIT :top
"""
_SHARE = """
SELECT outcome.share FROM fact
JOIN refinement_relation AS outcome ON outcome.refinement_id = :refinement AND outcome.relation_id = fact.relation_id
WHERE fact.id = :fact
"""


def prompts_of_fact(
    connection: Connection, run_id: int, fact_id: int, limit: float, coarse_sizes: dict[int, int]
) -> tuple[PromptFindings, ...]:
    """All prompts of a fact by number, with what a run gave for them.

    Args:
        connection: a connection in a transaction.
        run_id: the run.
        fact_id: the fact.
        limit: the completeness error above which its prompts are marked.
        coarse_sizes: the sizes of the coarse sets of those that have one.
    """
    rows = connection.execute(text(_PROMPTS), {"run": run_id, "fact": fact_id, "limit": limit})
    return tuple(
        PromptFindings(
            prompt=row.id,
            text=row.text,
            held_out=bool(row.held_out),
            probability=row.probability,
            predicted=row.predicted,
            predicted_probability=row.predicted_probability,
            correct=None if row.correct is None else bool(row.correct),
            coarse_set=coarse_sizes.get(row.id),
            completeness_error=row.completeness_error,
            worst_layer=row.worst_layer,
            above_tolerance=None if row.above_tolerance is None else bool(row.above_tolerance),
            skipped=row.skipped,
        )
        for row in rows
    )


def top_scores(connection: Connection, run_id: int, fact_id: int, top: int) -> list[KnowledgeNeuron]:
    """The neurons whose stored scores for a fact's prompts have the largest sums, with prompts and mean score."""
    rows = connection.execute(text(_TOP), {"run": run_id, "fact": fact_id, "top": top})
    return [KnowledgeNeuron(*row) for row in rows]


def share_of_fact(connection: Connection, refinement_id: int, fact_id: int) -> float | None:
    """The share of its prompts that a refinement asked a fact's neurons for: that of the fact's relation.

    None if the refinement left the relation out, or is an import that does not say.
    """
    return connection.execute(text(_SHARE), {"refinement": refinement_id, "fact": fact_id}).scalar()


def nearest_facts(connection: Connection, refinement_id: int, fact_id: int, nearest: int) -> tuple[NearFact, ...]:
    """The other facts whose refined sets share most neurons with a fact's.

    Args:
        connection: a connection in a transaction.
        refinement_id: whose refined sets.
        fact_id: the fact.
        nearest: at most so many.

    Returns:
        Facts that share at least one, by shared neurons descending, then Jaccard index descending, then number.
    """
    values = {"refinement": refinement_id, "fact": fact_id, "nearest": nearest}
    return tuple(NearFact(*row) for row in connection.execute(text(_NEAREST), values))
