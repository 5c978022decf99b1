"""Edits of whole parameters, edits from other stores, measures with their intervals, and trials of edits.

`fact_numbers` says, for an edit that came from another store, which fact of this store each number in its recipe means.
The measures of evaluations that are there are copied from their JSON, without intervals.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kndb.store import revision_parts as parts

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds two columns, NULL in the rows that are there, and four tables."""
    op.add_column("edit", sa.Column("author", parts.text(), nullable=True))
    op.add_column("edit", sa.Column("fact_numbers", parts.json(), nullable=True))
    _edit_tensor()
    _evaluation_measure()
    _edit_trial()


def _edit_tensor() -> None:
    op.create_table(
        "edit_tensor",
        sa.Column("edit_id", sa.Integer(), nullable=False),
        sa.Column("parameter", parts.text(), nullable=False),
        sa.Column("old_sha256", parts.text(), nullable=False),
        sa.Column("new_sha256", parts.text(), nullable=False),
        sa.Column("base_sha256", parts.text(), nullable=False),
        sa.ForeignKeyConstraint(["edit_id"], ["edit.id"], name=op.f("fk_edit_tensor_edit_id_edit"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("edit_id", "parameter", name=op.f("pk_edit_tensor")),
        sqlite_with_rowid=False,
    )


def _evaluation_measure() -> None:
    op.create_table(
        "evaluation_measure",
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("weights", parts.text(), nullable=False),
        sa.Column("prompts_of", parts.text(), nullable=False),
        sa.Column("measure", parts.text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("facts", sa.Integer(), nullable=True),
        sa.CheckConstraint("weights IN ('edited', 'control')", name=op.f("ck_evaluation_measure_weights")),
        sa.ForeignKeyConstraint(
            ["evaluation_id"],
            ["evaluation.id"],
            name=op.f("fk_evaluation_measure_evaluation_id_evaluation"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "evaluation_id", "weights", "prompts_of", "measure", name=op.f("pk_evaluation_measure")
        ),
        sqlite_with_rowid=False,
    )
    parts.change_old_rows(
        """
        INSERT INTO evaluation_measure (evaluation_id, weights, prompts_of, measure, value)
        SELECT evaluation.id, side.key, grouped.key, found.key, found.value
        FROM evaluation,
            json_each(CASE WHEN json_valid(evaluation.measures) THEN evaluation.measures ELSE '{}' END) AS side,
            json_each(side.value) AS grouped, json_each(grouped.value) AS found
        WHERE side.key IN ('edited', 'control') AND side.type = 'object' AND grouped.type = 'object'
            AND found.type IN ('integer', 'real', 'null')
        """
    )


def _edit_trial() -> None:
    op.create_table(
        "edit_trial",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("version", parts.text(), nullable=False),
        sa.Column("kind", parts.text(), nullable=False),
        sa.Column("settings", parts.json(), nullable=False),
        sa.Column("status", parts.text(), nullable=False),
        sa.Column("created_at", parts.text(), nullable=False),
        sa.Column("finished_at", parts.text(), nullable=True),
        sa.CheckConstraint("kind IN ('bench', 'sweep')", name=op.f("ck_edit_trial_kind")),
        sa.CheckConstraint("status IN ('running', 'complete')", name=op.f("ck_edit_trial_status")),
        sa.ForeignKeyConstraint(
            ["model_id"], ["model.id"], name=op.f("fk_edit_trial_model_id_model"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_edit_trial")),
    )
    op.create_index("ix_edit_trial_model_id", "edit_trial", ["model_id"])
    op.create_table(
        "edit_trial_result",
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.Column("part", parts.text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("fact_id", sa.Integer(), nullable=True),
        sa.Column("measures", parts.json(), nullable=False),
        sa.ForeignKeyConstraint(
            ["fact_id"], ["fact.id"], name=op.f("fk_edit_trial_result_fact_id_fact"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["edit_trial.id"],
            name=op.f("fk_edit_trial_result_trial_id_edit_trial"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("trial_id", "part", "position", name=op.f("pk_edit_trial_result")),
        sqlite_with_rowid=False,
    )
