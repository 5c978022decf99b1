"""Large stores: a version's list may go on from another version's, and two indexes.

Versions that are there keep their whole lists: `since` is NULL.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kndb.store import revision_parts as parts

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Adds the column, NULL in the rows that are there; the index of a tensor's edits; and one with all of a count."""
    op.add_column("version", sa.Column("since", parts.text(), nullable=True))
    op.create_index("ix_edit_tensor_parameter", "edit_tensor", ["parameter"])
    op.drop_index("ix_relation_neuron_refinement_id_layer_neuron", "relation_neuron")
    op.create_index(
        "ix_relation_neuron_refinement_id_layer_neuron_relation_id_facts",
        "relation_neuron",
        ["refinement_id", "layer", "neuron", "relation_id", "facts"],
    )
