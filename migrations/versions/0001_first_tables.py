"""The first tables.

Written out by hand: a revision says what the schema was, and must not follow `kndb/store/tables.py` when that
changes.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from kndb.store import revision_parts as parts

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Creates all tables."""
    _facts()
    _results()
    _edits()


def _column(name: str, kind: sa.types.TypeEngine[Any], *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null)


def _integer(name: str, *, null: bool = False) -> sa.Column[Any]:
    return _column(name, sa.Integer(), null=null)


def _number(name: str, *, null: bool = False) -> sa.Column[Any]:
    return _column(name, sa.Double(), null=null)


def _text(name: str, *, null: bool = False) -> sa.Column[Any]:
    return _column(name, parts.text(), null=null)


def _json(name: str) -> sa.Column[Any]:
    return _column(name, parts.json())


def _key(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*(columns or ("id",)), name=f"pk_{table}")


def _refers(table: str, column: str, parent: str, ondelete: str = "CASCADE") -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_{column}_{parent}"
    return sa.ForeignKeyConstraint([column], [f"{parent}.id"], name=name, ondelete=ondelete)


def _facts() -> None:
    op.create_table(
        "relation",
        _integer("id"),
        _text("key"),
        _text("label", null=True),
        _key("relation"),
        sa.UniqueConstraint("key", name="uq_relation_key"),
    )
    op.create_table(
        "template",
        _integer("id"),
        _integer("relation_id"),
        _text("text"),
        sa.Column("held_out", sa.Boolean(), server_default=sa.false(), nullable=False),
        _key("template"),
        _refers("template", "relation_id", "relation"),
        *parts.in_sqlite(sa.UniqueConstraint("relation_id", "text", name="uq_template_relation_id_text")),
    )
    if parts.on_server():
        parts.unique_texts("uq_template_relation_id_text", "template", ["relation_id", "text"], ["text"])
    op.create_table(
        "fact",
        _integer("id"),
        _integer("relation_id"),
        _text("subject", null=True),
        _text("object"),
        _text("external_id", null=True),
        _text("source"),
        _key("fact"),
        sa.CheckConstraint("subject IS NOT NULL OR external_id IS NOT NULL", name="ck_fact_identified"),
        _refers("fact", "relation_id", "relation"),
    )
    parts.unique_texts(
        "uq_fact_relation_id_subject_object",
        "fact",
        ["relation_id", "subject", "object"],
        ["subject", "object"],
        "subject IS NOT NULL",
    )
    parts.unique_texts(
        "uq_fact_relation_id_external_id_unnamed",
        "fact",
        ["relation_id", "external_id"],
        ["external_id"],
        "subject IS NULL",
    )
    op.create_index("ix_fact_relation_id", "fact", ["relation_id"])
    parts.index_of_text("ix_fact_external_id", "fact", "external_id")
    parts.index_of_text("ix_fact_subject", "fact", "subject")
    op.create_table(
        "prompt",
        _integer("id"),
        _integer("fact_id"),
        _integer("template_id", null=True),
        _text("text"),
        _key("prompt"),
        _refers("prompt", "fact_id", "fact"),
        _refers("prompt", "template_id", "template"),
        *parts.in_sqlite(sa.UniqueConstraint("fact_id", "text", name="uq_prompt_fact_id_text")),
    )
    if parts.on_server():
        parts.unique_texts("uq_prompt_fact_id_text", "prompt", ["fact_id", "text"], ["text"])
    op.create_index("ix_prompt_template_id", "prompt", ["template_id"])


def _results() -> None:
    op.create_table(
        "model",
        _integer("id"),
        _text("name"),
        _text("source"),
        _text("fingerprint"),
        _text("family"),
        _integer("layers"),
        _integer("neurons"),
        _text("version"),
        _text("created_at"),
        _key("model"),
        sa.UniqueConstraint("name", name="uq_model_name"),
    )
    op.create_table(
        "run",
        _integer("id"),
        _integer("model_id"),
        _text("version"),
        _text("method"),
        _json("settings"),
        _text("status"),
        _text("created_at"),
        _text("finished_at", null=True),
        _key("run"),
        sa.CheckConstraint("status IN ('running', 'complete')", name="ck_run_status"),
        _refers("run", "model_id", "model"),
    )
    op.create_index("ix_run_model_id", "run", ["model_id"])
    op.create_table(
        "prompt_result",
        _integer("run_id"),
        _integer("prompt_id"),
        _number("probability", null=True),
        _text("predicted", null=True),
        _number("predicted_probability", null=True),
        _column("correct", sa.Boolean(), null=True),
        _number("completeness_error", null=True),
        _number("completeness_error_mean", null=True),
        _number("max_score", null=True),
        _integer("evaluations", null=True),
        _integer("tokens", null=True),
        _text("skipped", null=True),
        _key("prompt_result", "run_id", "prompt_id"),
        _refers("prompt_result", "run_id", "run"),
        _refers("prompt_result", "prompt_id", "prompt"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "score",
        _integer("run_id"),
        _integer("prompt_id"),
        _integer("layer"),
        _integer("neuron"),
        _number("score"),
        _key("score", "run_id", "prompt_id", "layer", "neuron"),
        *parts.in_sqlite(_refers("score", "run_id", "run"), _refers("score", "prompt_id", "prompt")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "refinement",
        _integer("id"),
        _integer("run_id"),
        _json("settings"),
        _text("created_at"),
        _key("refinement"),
        _refers("refinement", "run_id", "run"),
    )
    op.create_index("ix_refinement_run_id", "refinement", ["run_id"])
    op.create_table(
        "refinement_relation",
        _integer("refinement_id"),
        _integer("relation_id"),
        _number("share"),
        _integer("passes"),
        _integer("facts"),
        _integer("facts_with_neurons"),
        _number("mean_size"),
        _key("refinement_relation", "refinement_id", "relation_id"),
        _refers("refinement_relation", "refinement_id", "refinement"),
        _refers("refinement_relation", "relation_id", "relation"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "knowledge_neuron",
        _integer("refinement_id"),
        _integer("fact_id"),
        _integer("layer"),
        _integer("neuron"),
        _integer("prompts"),
        _number("mean_score"),
        _key("knowledge_neuron", "refinement_id", "fact_id", "layer", "neuron"),
        *parts.in_sqlite(
            _refers("knowledge_neuron", "refinement_id", "refinement"), _refers("knowledge_neuron", "fact_id", "fact")
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_knowledge_neuron_refinement_id_layer_neuron",
        "knowledge_neuron",
        ["refinement_id", "layer", "neuron"],
    )


def _edits() -> None:
    op.create_table(
        "edit",
        _integer("id"),
        _integer("model_id"),
        _text("kind"),
        _json("recipe"),
        _text("object_hash"),
        _text("object_path"),
        _text("base_version"),
        _integer("fact_id", null=True),
        _integer("relation_id", null=True),
        _text("created_at"),
        _key("edit"),
        _refers("edit", "model_id", "model"),
        sa.UniqueConstraint("model_id", "object_hash", name="uq_edit_model_id_object_hash"),
        _refers("edit", "fact_id", "fact", "SET NULL"),
        _refers("edit", "relation_id", "relation", "SET NULL"),
    )
    op.create_table(
        "edit_neuron",
        _integer("edit_id"),
        _integer("layer"),
        _integer("neuron"),
        _text("parameter"),
        _text("old_sha256"),
        _text("new_sha256"),
        _text("base_sha256"),
        _key("edit_neuron", "edit_id", "layer", "neuron"),
        _refers("edit_neuron", "edit_id", "edit"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_edit_neuron_layer_neuron", "edit_neuron", ["layer", "neuron"])
    op.create_table(
        "applied_edit",
        _integer("model_id"),
        _integer("position"),
        _integer("edit_id"),
        _key("applied_edit", "model_id", "position"),
        sa.UniqueConstraint("model_id", "edit_id", name="uq_applied_edit_model_id_edit_id"),
        _refers("applied_edit", "model_id", "model"),
        _refers("applied_edit", "edit_id", "edit", "RESTRICT"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "version",
        _integer("model_id"),
        _text("version"),
        _json("edits"),
        _text("created_at"),
        _key("version", "model_id", "version"),
        _refers("version", "model_id", "model"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "history",
        _integer("id"),
        _integer("model_id"),
        _text("action"),
        _integer("edit_id", null=True),
        _text("version_before"),
        _text("version_after"),
        _text("created_at"),
        _key("history"),
        sa.CheckConstraint("action IN ('apply', 'revert', 'restore')", name="ck_history_action"),
        _refers("history", "model_id", "model"),
        _refers("history", "edit_id", "edit", "RESTRICT"),
    )
    op.create_index("ix_history_model_id", "history", ["model_id"])
    op.create_table(
        "snapshot",
        _integer("model_id"),
        _text("name"),
        _text("version"),
        _text("created_at"),
        _key("snapshot", "model_id", "name"),
        _refers("snapshot", "model_id", "model"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "evaluation",
        _integer("id"),
        _integer("edit_id"),
        _text("version_before"),
        _text("version_after"),
        _json("settings"),
        _json("measures"),
        _text("created_at"),
        _key("evaluation"),
        _refers("evaluation", "edit_id", "edit"),
    )
    op.create_index("ix_evaluation_edit_id", "evaluation", ["edit_id"])
