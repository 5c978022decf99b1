"""Answers of several tokens, and scores below zero.

A prompt's result says how many tokens its answer has, and what its lowest score is. Runs say what they were asked and
computed in; prompts that were passed over for an answer of several tokens are open again, so that the same command
attributes them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kndb.store import revision_parts as parts

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the two columns, and to the settings of runs what they silently were."""
    op.add_column("prompt_result", sa.Column("answer_tokens", sa.Integer(), nullable=True))
    op.add_column("prompt_result", sa.Column("min_score", sa.Double(), nullable=True))
    parts.change_old_rows(
        "UPDATE run SET settings = json_set(settings, '$.dtype', 'float32', '$.target', 'gold', "
        "'$.negative', json('false')) WHERE method = 'integrated-gradients'"
    )
    parts.change_old_rows("DELETE FROM prompt_result WHERE skipped = 'answer-of-several-tokens'")
