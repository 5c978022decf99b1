"""The history says who took a step, and which way a restore's step went.

The second is written as SQL: alembic can't add a named CHECK to a column of SQLite's without making the table anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kndb.store import revision_parts as parts

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds two columns, NULL in the rows that are there."""
    op.add_column("history", sa.Column("author", parts.text(), nullable=True))
    order = ' COLLATE "C"' if parts.on_server() else ""
    op.execute(
        f"ALTER TABLE history ADD COLUMN direction VARCHAR{order} "
        "CONSTRAINT ck_history_direction CHECK (direction IN ('apply', 'revert'))"
    )
