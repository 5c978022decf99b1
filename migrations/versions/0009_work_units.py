"""The parts into which work is cut for several workers, and who has leased which."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kndb.store import revision_parts as parts

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Adds a table."""
    op.create_table(
        "work_unit",
        sa.Column("work", parts.text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("items", parts.json(), nullable=False),
        sa.Column("state", parts.text(), nullable=False),
        sa.Column("holder", parts.text(), nullable=True),
        sa.Column("lease_until", parts.text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", parts.text(), nullable=True),
        sa.Column("result", parts.json(), nullable=True),
        sa.CheckConstraint("state IN ('open', 'leased', 'done', 'failed')", name=op.f("ck_work_unit_state")),
        sa.PrimaryKeyConstraint("work", "position", name=op.f("pk_work_unit")),
        sqlite_with_rowid=False,
    )
