"""Results that others published, identifiers of facts, holders of neurons by relation, and probes.

A refinement that was imported does not know the shares and votes behind it, so those may be NULL. `fact_alias` keeps
every identifier under which sources list a fact. `relation_neuron` counts, for each refinement and relation, the facts
that hold a neuron; it follows from `knowledge_neuron`. The tables of probes hold experiments on activations.

`knowledge_neuron` and `refinement_relation` are made anew by hand: alembic's batch mode forgets WITHOUT ROWID.
PostgreSQL lets a column be NULL in place.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kndb.store import revision_parts as parts

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Makes the new tables, and lets an imported refinement leave out what it does not know."""
    _fact_alias()
    _knowledge_neuron()
    _refinement_relation()
    _relation_neuron()
    _probes()


def _fact_alias() -> None:
    op.create_table(
        "fact_alias",
        sa.Column("external_id", parts.text(), nullable=False),
        sa.Column("fact_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["fact_id"], ["fact.id"], name=op.f("fk_fact_alias_fact_id_fact"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("external_id", "fact_id", name=op.f("pk_fact_alias")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_fact_alias_fact_id"), "fact_alias", ["fact_id"])


def _knowledge_neuron() -> None:
    if parts.on_server():
        op.alter_column("knowledge_neuron", "prompts", nullable=True)
        op.alter_column("knowledge_neuron", "mean_score", nullable=True)
        return
    op.drop_index("ix_knowledge_neuron_refinement_id_layer_neuron", "knowledge_neuron")
    op.rename_table("knowledge_neuron", "knowledge_neuron_0002")
    op.create_table(
        "knowledge_neuron",
        sa.Column("refinement_id", sa.Integer(), nullable=False),
        sa.Column("fact_id", sa.Integer(), nullable=False),
        sa.Column("layer", sa.Integer(), nullable=False),
        sa.Column("neuron", sa.Integer(), nullable=False),
        sa.Column("prompts", sa.Integer(), nullable=True),
        sa.Column("mean_score", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["fact_id"], ["fact.id"], name=op.f("fk_knowledge_neuron_fact_id_fact"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["refinement_id"],
            ["refinement.id"],
            name=op.f("fk_knowledge_neuron_refinement_id_refinement"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("refinement_id", "fact_id", "layer", "neuron", name=op.f("pk_knowledge_neuron")),
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO knowledge_neuron SELECT * FROM knowledge_neuron_0002")
    op.drop_table("knowledge_neuron_0002")
    op.create_index(
        "ix_knowledge_neuron_refinement_id_layer_neuron", "knowledge_neuron", ["refinement_id", "layer", "neuron"]
    )


def _refinement_relation() -> None:
    if parts.on_server():
        op.alter_column("refinement_relation", "share", nullable=True)
        op.alter_column("refinement_relation", "passes", nullable=True)
        return
    op.rename_table("refinement_relation", "refinement_relation_0002")
    op.create_table(
        "refinement_relation",
        sa.Column("refinement_id", sa.Integer(), nullable=False),
        sa.Column("relation_id", sa.Integer(), nullable=False),
        sa.Column("share", sa.Double(), nullable=True),
        sa.Column("passes", sa.Integer(), nullable=True),
        sa.Column("facts", sa.Integer(), nullable=False),
        sa.Column("facts_with_neurons", sa.Integer(), nullable=False),
        sa.Column("mean_size", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["refinement_id"],
            ["refinement.id"],
            name=op.f("fk_refinement_relation_refinement_id_refinement"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["relation_id"],
            ["relation.id"],
            name=op.f("fk_refinement_relation_relation_id_relation"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("refinement_id", "relation_id", name=op.f("pk_refinement_relation")),
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO refinement_relation SELECT * FROM refinement_relation_0002")
    op.drop_table("refinement_relation_0002")


def _relation_neuron() -> None:
    op.create_table(
        "relation_neuron",
        sa.Column("refinement_id", sa.Integer(), nullable=False),
        sa.Column("relation_id", sa.Integer(), nullable=False),
        sa.Column("layer", sa.Integer(), nullable=False),
        sa.Column("neuron", sa.Integer(), nullable=False),
        sa.Column("facts", sa.Integer(), nullable=False),
        *parts.in_sqlite(
            sa.ForeignKeyConstraint(
                ["refinement_id"],
                ["refinement.id"],
                name=op.f("fk_relation_neuron_refinement_id_refinement"),
                ondelete="CASCADE",
            ),
            sa.ForeignKeyConstraint(
                ["relation_id"],
                ["relation.id"],
                name=op.f("fk_relation_neuron_relation_id_relation"),
                ondelete="CASCADE",
            ),
        ),
        sa.PrimaryKeyConstraint("refinement_id", "relation_id", "layer", "neuron", name=op.f("pk_relation_neuron")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_relation_neuron_refinement_id_layer_neuron", "relation_neuron", ["refinement_id", "layer", "neuron"]
    )
    op.execute(
        "INSERT INTO relation_neuron SELECT knowledge_neuron.refinement_id, fact.relation_id, knowledge_neuron.layer, "
        "knowledge_neuron.neuron, COUNT(*) FROM knowledge_neuron JOIN fact ON fact.id = knowledge_neuron.fact_id "
        "GROUP BY 1, 2, 3, 4"
    )


def _probes() -> None:
    op.create_table(
        "probe",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("version", parts.text(), nullable=False),
        sa.Column("kind", parts.text(), nullable=False),
        sa.Column("refinement_id", sa.Integer(), nullable=False),
        sa.Column("settings", parts.json(), nullable=False),
        sa.Column("created_at", parts.text(), nullable=False),
        sa.CheckConstraint("kind IN ('suppress', 'amplify', 'activation')", name=op.f("ck_probe_kind")),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_probe_model_id_model"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["refinement_id"],
            ["refinement.id"],
            name=op.f("fk_probe_refinement_id_refinement"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_probe")),
    )
    op.create_index("ix_probe_model_id", "probe", ["model_id"])
    op.create_index("ix_probe_refinement_id", "probe", ["refinement_id"])
    _probe_table(
        "probe_fact",
        ("neurons_from", "prompts_of"),
        sa.Column("neurons_from", parts.text(), nullable=False),
        sa.Column("prompts_of", parts.text(), nullable=False),
        sa.Column("neurons", sa.Integer(), nullable=False),
        sa.Column("prompts", sa.Integer(), nullable=False),
        *(
            sa.Column(name, sa.Double(), nullable=False)
            for name in ("probability_before", "probability_after", "correct_before", "correct_after", "flips")
        ),
        sa.CheckConstraint(
            "neurons_from IN ('knowledge', 'random', 'activation')", name=op.f("ck_probe_fact_neurons_from")
        ),
        sa.CheckConstraint("prompts_of IN ('own', 'other')", name=op.f("ck_probe_fact_prompts_of")),
    )
    _probe_table(
        "probe_activation",
        ("kind",),
        sa.Column("kind", parts.text(), nullable=False),
        sa.Column("texts", sa.Integer(), nullable=False),
        sa.Column("mean_activation", sa.Double(), nullable=False),
        sa.CheckConstraint("kind IN ('head-and-tail', 'head', 'neither')", name=op.f("ck_probe_activation_kind")),
    )
    _probe_table(
        "probe_text",
        ("rank",),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("kind", parts.text(), nullable=False),
        sa.Column("text", parts.text(), nullable=False),
        sa.Column("activation", sa.Double(), nullable=False),
    )


def _probe_table(name: str, key: tuple[str, ...], *parts: sa.Column[object] | sa.Constraint) -> None:
    """A table of a probe's results, one group of rows per fact."""
    op.create_table(
        name,
        sa.Column("probe_id", sa.Integer(), nullable=False),
        sa.Column("fact_id", sa.Integer(), nullable=False),
        *parts,
        sa.ForeignKeyConstraint(["probe_id"], ["probe.id"], name=op.f(f"fk_{name}_probe_id_probe"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["fact_id"], ["fact.id"], name=op.f(f"fk_{name}_fact_id_fact"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("probe_id", "fact_id", *key, name=op.f(f"pk_{name}")),
        sqlite_with_rowid=False,
    )
