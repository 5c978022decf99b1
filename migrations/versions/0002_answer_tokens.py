"""Answers of several tokens, and scores below zero.

A prompt's result says how many tokens its answer has, and what its lowest score is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the two columns; results of earlier runs have neither."""
    op.add_column("prompt_result", sa.Column("answer_tokens", sa.Integer(), nullable=True))
    op.add_column("prompt_result", sa.Column("min_score", sa.Double(), nullable=True))
