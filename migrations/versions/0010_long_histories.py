"""Long histories: a version's list may go on from another version's, and a tensor's edits are found by its name.

Versions that are there keep their whole lists: `since` is NULL.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kndb.store import revision_parts as parts

revision = "0010"
down_revision = "0008"


def upgrade() -> None:
    """Adds the column, NULL in the rows that are there, and the index."""
    op.add_column("version", sa.Column("since", parts.text(), nullable=True))
    op.create_index("ix_edit_tensor_parameter", "edit_tensor", ["parameter"])
