"""What `check` asks of refinements: that the sums over relations are those of the sets."""

from __future__ import annotations

from sqlalchemy import Connection

_DIFFERING = """
SELECT refinement_id, COUNT(*) FROM (
    SELECT refinement_id, relation_id, layer, neuron, SUM(facts) AS facts FROM (
        SELECT knowledge_neuron.refinement_id, fact.relation_id, layer, neuron, 1 AS facts
        FROM knowledge_neuron JOIN fact ON fact.id = knowledge_neuron.fact_id
        UNION ALL
        SELECT refinement_id, relation_id, layer, neuron, -facts FROM relation_neuron
    ) AS counted
    GROUP BY refinement_id, relation_id, layer, neuron
    HAVING SUM(facts) <> 0
) AS differing
GROUP BY refinement_id
ORDER BY refinement_id
"""


def check_refinements(connection: Connection) -> list[str]:
    """Compares the number of facts that hold each neuron with the facts' sets; one line per refinement that differs."""
    return [
        f"refinement {refinement}: relation_neuron has another number of facts than knowledge_neuron for {neurons} "
        "pairs of relation and neuron"
        for refinement, neurons in connection.exec_driver_sql(_DIFFERING)
    ]
