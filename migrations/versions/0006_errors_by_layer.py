"""Which layers' completeness errors are above the tolerance, and which facts a run was asked for.

Of results that are there, the layers are not known: NULL. The facts of runs that are there are those that a kndb of
revision 0005 went by: of a complete run those with results, of an open one all of the relations that it began.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kndb.store import revision_parts as parts

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Adds two columns, NULL in the rows that are there, and a table."""
    op.add_column("prompt_result", sa.Column("worst_layer", sa.Integer(), nullable=True))
    op.add_column("prompt_result", sa.Column("layers_above", parts.json(), nullable=True))
    op.create_table(
        "run_fact",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("fact_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_fact_run_id_run"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["fact_id"], ["fact.id"], name=op.f("fk_run_fact_fact_id_fact"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "fact_id", name=op.f("pk_run_fact")),
        sqlite_with_rowid=False,
    )
    parts.change_old_rows(
        """
        INSERT INTO run_fact (run_id, fact_id)
        SELECT DISTINCT result.run_id, prompt.fact_id
        FROM prompt_result AS result
        JOIN run ON run.id = result.run_id AND run.status = 'complete'
        JOIN prompt ON prompt.id = result.prompt_id
        ORDER BY 1, 2
        """
    )
    parts.change_old_rows(
        """
        INSERT INTO run_fact (run_id, fact_id)
        SELECT begun.run_id, fact.id
        FROM (
            SELECT DISTINCT result.run_id, fact.relation_id
            FROM prompt_result AS result
            JOIN run ON run.id = result.run_id AND run.status = 'running'
            JOIN prompt ON prompt.id = result.prompt_id
            JOIN fact ON fact.id = prompt.fact_id
        ) AS begun
        JOIN fact ON fact.relation_id = begun.relation_id
        ORDER BY 1, 2
        """
    )
