"""Conditions that edits must meet: those that a plan was made with, and those that a step was checked against.

Of edits and steps that are there, nobody required anything: NULL.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kndb.store import revision_parts as parts

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds a column to two tables, NULL in the rows that are there."""
    op.add_column("edit", sa.Column("conditions", parts.json(), nullable=True))
    op.add_column("history", sa.Column("conditions", parts.json(), nullable=True))
