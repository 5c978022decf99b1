"""The history says who took a step, and which way a restore's step went.

Written as SQL: alembic can't add a named CHECK to a column of SQLite's without making the table anew.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds two columns, NULL in the rows that are there."""
    op.execute("ALTER TABLE history ADD COLUMN author VARCHAR")
    op.execute(
        "ALTER TABLE history ADD COLUMN direction VARCHAR "
        "CONSTRAINT ck_history_direction CHECK (direction IN ('apply', 'revert'))"
    )
