"""Prompts that only measure edits of a fact; models whose prompts are wrapped in a chat template.

Stores that are there have none: CounterFact's paraphrases, which earlier kndbs took for prompts to attribute, stay so.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kndb.store import revision_parts as parts

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Adds a table and a column."""
    op.add_column("model", sa.Column("chat_template", parts.text(), nullable=True))
    op.create_table(
        "evaluation_prompt",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("fact_id", sa.Integer(), nullable=False),
        sa.Column("kind", parts.text(), nullable=False),
        sa.Column("axis", parts.text(), nullable=False),
        sa.Column("text", parts.text(), nullable=False),
        sa.Column("answers", parts.json(), nullable=False),
        sa.Column("new_object", parts.text(), nullable=True),
        sa.Column("needs", parts.json(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('paraphrase', 'neighbourhood', 'attribute', 'locality', 'portability', 'generation')",
            name=op.f("ck_evaluation_prompt_kind"),
        ),
        sa.ForeignKeyConstraint(
            ["fact_id"], ["fact.id"], name=op.f("fk_evaluation_prompt_fact_id_fact"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluation_prompt")),
    )
    key = ["fact_id", "kind", "axis", "text", "answers", "needs"]
    texts = ["text", "answers", "needs", "new_object"]
    parts.unique_texts("uq_evaluation_prompt_any_new_object", "evaluation_prompt", key, texts, "new_object IS NULL")
    parts.unique_texts(
        "uq_evaluation_prompt_new_object", "evaluation_prompt", [*key, "new_object"], texts, "new_object IS NOT NULL"
    )
    op.create_index("ix_evaluation_prompt_fact_id", "evaluation_prompt", ["fact_id"])
