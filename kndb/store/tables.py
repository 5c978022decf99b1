"""The tables of the store, as SQLAlchemy 2 typed models. `kndb docs schema` documents them for SQL users.

Facts: relation ─< template, relation ─< fact ─< prompt (which names its template unless a file wrote it out). fact ─<
evaluation_prompt are prompts that only measure edits.
Results: model ─< run ─< prompt_result ─< score; run ─< refinement ─< knowledge_neuron, which `relation_neuron` sums up;
run ─< run_fact says which facts it was asked for.
Experiments: refinement ─< probe ─< probe_fact, probe_activation, probe_text.
Edits: model ─< edit ─< edit_neuron, edit_tensor; `applied_edit` is the model's current stack of edits, `history` the
road to it, `version` how to build each version, `snapshot` names for versions. evaluation ─< evaluation_measure are
measures of edits, edit_trial ─< edit_trial_result those of edits that were tried without being stored.
Work in progress: work_unit, the parts into which work is cut for several workers, until all of it is done.

Times are ISO 8601 text in UTC. Settings, recipes and measures are JSON text. Scores are 8-byte floats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, CheckConstraint, Double, ForeignKey, Index, MetaData, UniqueConstraint
from sqlalchemy import text as sql

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


if TYPE_CHECKING:
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

    class Table(DeclarativeBase):
        """Base of all tables, as type checkers see them."""

        metadata = MetaData(naming_convention=NAMING)
        type_annotation_map = {  # noqa: RUF012
            dict[str, Any]: JSON(),
            list[int]: JSON(),
            list[str]: JSON(),
            float: Double(),
        }

else:
    from .declared import DeclaredTable, mapped_column

    class Table(metaclass=DeclaredTable):
        """Base of all tables: named constraints, JSON for mappings."""

        metadata = MetaData(naming_convention=NAMING)


class RelationRow(Table):
    """A relation, for example P176 manufacturer."""

    __tablename__ = "relation"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    label: Mapped[str | None]


class TemplateRow(Table):
    """A sentence with `[X]` and `[Y]`; a relation has several paraphrases. Held-out ones only test edits."""

    __tablename__ = "template"
    __table_args__ = (UniqueConstraint("relation_id", "text"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    relation_id: Mapped[int] = mapped_column(ForeignKey("relation.id", ondelete="CASCADE"))
    text: Mapped[str]
    held_out: Mapped[bool] = mapped_column(default=False, server_default=sql("0"))


class FactRow(Table):
    """A fact, named by relation, subject and object; by relation and external id if there is no subject."""

    __tablename__ = "fact"
    __table_args__ = (
        CheckConstraint("subject IS NOT NULL OR external_id IS NOT NULL", name="identified"),
        Index(
            "uq_fact_relation_id_subject_object",
            "relation_id",
            "subject",
            "object",
            unique=True,
            sqlite_where=sql("subject IS NOT NULL"),
        ),
        Index(
            "uq_fact_relation_id_external_id_unnamed",
            "relation_id",
            "external_id",
            unique=True,
            sqlite_where=sql("subject IS NULL"),
        ),
        Index("ix_fact_relation_id", "relation_id"),  # neither partial index finds all facts of a relation
        Index("ix_fact_external_id", "external_id"),
        Index("ix_fact_subject", "subject"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    relation_id: Mapped[int] = mapped_column(ForeignKey("relation.id", ondelete="CASCADE"))
    subject: Mapped[str | None]
    object: Mapped[str]
    external_id: Mapped[str | None]
    source: Mapped[str]


class FactAliasRow(Table):
    """A further identifier of a fact: sources list some facts more than once."""

    __tablename__ = "fact_alias"
    __table_args__ = (Index("ix_fact_alias_fact_id", "fact_id"), {"sqlite_with_rowid": False})
    external_id: Mapped[str] = mapped_column(primary_key=True)
    fact_id: Mapped[int] = mapped_column(ForeignKey("fact.id", ondelete="CASCADE"), primary_key=True)


class PromptRow(Table):
    """A template filled with a subject, the answer left as `[Y]`; or, without one, written out by a file."""

    __tablename__ = "prompt"
    __table_args__ = (UniqueConstraint("fact_id", "text"), Index("ix_prompt_template_id", "template_id"))
    id: Mapped[int] = mapped_column(primary_key=True)
    fact_id: Mapped[int] = mapped_column(ForeignKey("fact.id", ondelete="CASCADE"))
    template_id: Mapped[int | None] = mapped_column(ForeignKey("template.id", ondelete="CASCADE"))
    text: Mapped[str]


class EvaluationPromptRow(Table):
    """A prompt that measures edits of a fact and is never attributed.

    `answers` is a JSON list; `needs` a JSON object of what has to be so for them to hold: `edits`, a list of [relation,
    subject, new answer], and `answers`, a list of [prompt, [answer, …]].
    """

    __tablename__ = "evaluation_prompt"
    __table_args__ = (
        CheckConstraint(
            "kind IN ('paraphrase', 'neighbourhood', 'attribute', 'locality', 'portability', 'generation')", name="kind"
        ),
        Index(
            "uq_evaluation_prompt_any_new_object",
            "fact_id",
            "kind",
            "axis",
            "text",
            "answers",
            "needs",
            unique=True,
            sqlite_where=sql("new_object IS NULL"),
        ),
        Index(
            "uq_evaluation_prompt_new_object",
            "fact_id",
            "kind",
            "axis",
            "text",
            "answers",
            "needs",
            "new_object",
            unique=True,
            sqlite_where=sql("new_object IS NOT NULL"),
        ),
        Index("ix_evaluation_prompt_fact_id", "fact_id"),  # neither partial index finds all of a fact
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    fact_id: Mapped[int] = mapped_column(ForeignKey("fact.id", ondelete="CASCADE"))
    kind: Mapped[str]
    axis: Mapped[str]
    text: Mapped[str]
    answers: Mapped[list[str]]
    new_object: Mapped[str | None]
    needs: Mapped[dict[str, Any]]


class ModelRow(Table):
    """A registered checkpoint and its current version; or a model known by imported results alone.

    The latter has an empty source and fingerprint, and `unknown` as family and version. Where prompts are wrapped in a
    chat template, `chat_template` is its sha256.
    """

    __tablename__ = "model"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    source: Mapped[str]
    fingerprint: Mapped[str]
    family: Mapped[str]
    layers: Mapped[int]
    neurons: Mapped[int]
    version: Mapped[str]
    created_at: Mapped[str]
    chat_template: Mapped[str | None]


class RunRow(Table):
    """An attribution run on a version of a model; `status` is `running` until no selected prompt is left."""

    __tablename__ = "run"
    __table_args__ = (
        CheckConstraint("status IN ('running', 'complete')", name="status"),
        Index("ix_run_model_id", "model_id"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id", ondelete="CASCADE"))
    version: Mapped[str]
    method: Mapped[str]
    settings: Mapped[dict[str, Any]]
    status: Mapped[str]
    created_at: Mapped[str]
    finished_at: Mapped[str | None]


class RunFactRow(Table):
    """A fact that a command chose for a run: all its prompts are to have a result before the run is complete."""

    __tablename__ = "run_fact"
    __table_args__ = ({"sqlite_with_rowid": False},)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    fact_id: Mapped[int] = mapped_column(ForeignKey("fact.id", ondelete="CASCADE"), primary_key=True)


class PromptResultRow(Table):
    """What attribution gave for one prompt; `skipped` says why there is nothing.

    `layers_above` has the completeness error of each layer that exceeds the run's limit; NULL if none does.
    """

    __tablename__ = "prompt_result"
    __table_args__ = ({"sqlite_with_rowid": False},)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompt.id", ondelete="CASCADE"), primary_key=True)
    probability: Mapped[float | None]
    predicted: Mapped[str | None]
    predicted_probability: Mapped[float | None]
    correct: Mapped[bool | None]
    completeness_error: Mapped[float | None]
    completeness_error_mean: Mapped[float | None]
    max_score: Mapped[float | None]
    evaluations: Mapped[int | None]
    tokens: Mapped[int | None]
    skipped: Mapped[str | None]
    answer_tokens: Mapped[int | None]
    min_score: Mapped[float | None]
    worst_layer: Mapped[int | None]
    layers_above: Mapped[dict[str, Any] | None]


class ScoreRow(Table):
    """The score of one neuron for one prompt, where it reaches the run's floor."""

    __tablename__ = "score"
    __table_args__ = ({"sqlite_with_rowid": False},)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompt.id", ondelete="CASCADE"), primary_key=True)
    layer: Mapped[int] = mapped_column(primary_key=True)
    neuron: Mapped[int] = mapped_column(primary_key=True)
    score: Mapped[float]


class RefinementRow(Table):
    """A refinement of a run's scores to knowledge neurons, with its settings."""

    __tablename__ = "refinement"
    __table_args__ = (Index("ix_refinement_run_id", "run_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"))
    settings: Mapped[dict[str, Any]]
    created_at: Mapped[str]


class RefinementRelationRow(Table):
    """The outcome of a refinement for one relation: the share used and the sizes of the sets.

    Share and passes are NULL where the sets were imported and nobody said how they came about.
    """

    __tablename__ = "refinement_relation"
    __table_args__ = ({"sqlite_with_rowid": False},)
    refinement_id: Mapped[int] = mapped_column(ForeignKey("refinement.id", ondelete="CASCADE"), primary_key=True)
    relation_id: Mapped[int] = mapped_column(ForeignKey("relation.id", ondelete="CASCADE"), primary_key=True)
    share: Mapped[float | None]
    passes: Mapped[int | None]
    facts: Mapped[int]
    facts_with_neurons: Mapped[int]
    mean_size: Mapped[float]


class KnowledgeNeuronRow(Table):
    """A neuron of a fact's refined set, with the number of prompts whose coarse set holds it (NULL if not known)."""

    __tablename__ = "knowledge_neuron"
    __table_args__ = (
        Index("ix_knowledge_neuron_refinement_id_layer_neuron", "refinement_id", "layer", "neuron"),
        {"sqlite_with_rowid": False},
    )
    refinement_id: Mapped[int] = mapped_column(ForeignKey("refinement.id", ondelete="CASCADE"), primary_key=True)
    fact_id: Mapped[int] = mapped_column(ForeignKey("fact.id", ondelete="CASCADE"), primary_key=True)
    layer: Mapped[int] = mapped_column(primary_key=True)
    neuron: Mapped[int] = mapped_column(primary_key=True)
    prompts: Mapped[int | None]
    mean_score: Mapped[float | None]


class RelationNeuronRow(Table):
    """How many facts of a relation hold a neuron; follows from `knowledge_neuron`, and is written with it."""

    __tablename__ = "relation_neuron"
    __table_args__ = (
        # Has all columns, so that who holds a neuron is read from it alone.
        Index(
            "ix_relation_neuron_refinement_id_layer_neuron_relation_id_facts",
            "refinement_id",
            "layer",
            "neuron",
            "relation_id",
            "facts",
        ),
        {"sqlite_with_rowid": False},
    )
    refinement_id: Mapped[int] = mapped_column(ForeignKey("refinement.id", ondelete="CASCADE"), primary_key=True)
    relation_id: Mapped[int] = mapped_column(ForeignKey("relation.id", ondelete="CASCADE"), primary_key=True)
    layer: Mapped[int] = mapped_column(primary_key=True)
    neuron: Mapped[int] = mapped_column(primary_key=True)
    facts: Mapped[int]


class ProbeRow(Table):
    """An experiment on the activations of a refinement's neurons, on one version of the model."""

    __tablename__ = "probe"
    __table_args__ = (
        CheckConstraint("kind IN ('suppress', 'amplify', 'activation')", name="kind"),
        Index("ix_probe_model_id", "model_id"),
        Index("ix_probe_refinement_id", "refinement_id"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id", ondelete="CASCADE"))
    version: Mapped[str]
    kind: Mapped[str]
    refinement_id: Mapped[int] = mapped_column(ForeignKey("refinement.id", ondelete="CASCADE"))
    settings: Mapped[dict[str, Any]]
    created_at: Mapped[str]


class ProbeFactRow(Table):
    """What scaling a fact's neurons (or a control's) did to prompts: means over the fact's own, or over others'."""

    __tablename__ = "probe_fact"
    __table_args__ = (
        CheckConstraint("neurons_from IN ('knowledge', 'random', 'activation')", name="neurons_from"),
        CheckConstraint("prompts_of IN ('own', 'other')", name="prompts_of"),
        {"sqlite_with_rowid": False},
    )
    probe_id: Mapped[int] = mapped_column(ForeignKey("probe.id", ondelete="CASCADE"), primary_key=True)
    fact_id: Mapped[int] = mapped_column(ForeignKey("fact.id", ondelete="CASCADE"), primary_key=True)
    neurons_from: Mapped[str] = mapped_column(primary_key=True)
    prompts_of: Mapped[str] = mapped_column(primary_key=True)
    neurons: Mapped[int]
    prompts: Mapped[int]
    probability_before: Mapped[float]
    probability_after: Mapped[float]
    correct_before: Mapped[float]
    correct_after: Mapped[float]
    flips: Mapped[float]


class ProbeActivationRow(Table):
    """The mean activation of a fact's neurons over texts that name its head and tail, its head alone, or neither."""

    __tablename__ = "probe_activation"
    __table_args__ = (
        CheckConstraint("kind IN ('head-and-tail', 'head', 'neither')", name="kind"),
        {"sqlite_with_rowid": False},
    )
    probe_id: Mapped[int] = mapped_column(ForeignKey("probe.id", ondelete="CASCADE"), primary_key=True)
    fact_id: Mapped[int] = mapped_column(ForeignKey("fact.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    texts: Mapped[int]
    mean_activation: Mapped[float]


class ProbeTextRow(Table):
    """One of the texts that activate a fact's neurons most (rank 1, 2, …) or least (−1, −2, …)."""

    __tablename__ = "probe_text"
    __table_args__ = ({"sqlite_with_rowid": False},)
    probe_id: Mapped[int] = mapped_column(ForeignKey("probe.id", ondelete="CASCADE"), primary_key=True)
    fact_id: Mapped[int] = mapped_column(ForeignKey("fact.id", ondelete="CASCADE"), primary_key=True)
    rank: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    text: Mapped[str]
    activation: Mapped[float]


class EditRow(Table):
    """A planned edit; its bytes lie in the object file."""

    __tablename__ = "edit"
    __table_args__ = (UniqueConstraint("model_id", "object_hash"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id", ondelete="CASCADE"))
    kind: Mapped[str]
    recipe: Mapped[dict[str, Any]]
    object_hash: Mapped[str]
    object_path: Mapped[str]
    base_version: Mapped[str]
    fact_id: Mapped[int | None] = mapped_column(ForeignKey("fact.id", ondelete="SET NULL"))
    relation_id: Mapped[int | None] = mapped_column(ForeignKey("relation.id", ondelete="SET NULL"))
    created_at: Mapped[str]
    author: Mapped[str | None]
    fact_numbers: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    conditions: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class EditNeuronRow(Table):
    """A value slot that an edit changes: sha256 of its bytes before, after and in the base checkpoint."""

    __tablename__ = "edit_neuron"
    __table_args__ = (
        Index("ix_edit_neuron_layer_neuron", "layer", "neuron"),
        {"sqlite_with_rowid": False},
    )
    edit_id: Mapped[int] = mapped_column(ForeignKey("edit.id", ondelete="CASCADE"), primary_key=True)
    layer: Mapped[int] = mapped_column(primary_key=True)
    neuron: Mapped[int] = mapped_column(primary_key=True)
    parameter: Mapped[str]
    old_sha256: Mapped[str]
    new_sha256: Mapped[str]
    base_sha256: Mapped[str]


class EditTensorRow(Table):
    """A whole parameter that an edit changes, other than by value slots: sha256 of its bytes, as for a slot."""

    __tablename__ = "edit_tensor"
    __table_args__ = (Index("ix_edit_tensor_parameter", "parameter"), {"sqlite_with_rowid": False})
    edit_id: Mapped[int] = mapped_column(ForeignKey("edit.id", ondelete="CASCADE"), primary_key=True)
    parameter: Mapped[str] = mapped_column(primary_key=True)
    old_sha256: Mapped[str]
    new_sha256: Mapped[str]
    base_sha256: Mapped[str]


class AppliedEditRow(Table):
    """The edits that make up a model's current version, in the order in which they were applied."""

    __tablename__ = "applied_edit"
    __table_args__ = (UniqueConstraint("model_id", "edit_id"), {"sqlite_with_rowid": False})
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    edit_id: Mapped[int] = mapped_column(ForeignKey("edit.id", ondelete="RESTRICT"))


class VersionRow(Table):
    """How to build a version: the edits to apply to the base checkpoint, in order.

    Of a version with `since`, the edits of that one come first, and `edits` has those after them; see `version_lists`.
    """

    __tablename__ = "version"
    __table_args__ = ({"sqlite_with_rowid": False},)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    edits: Mapped[list[int]]
    created_at: Mapped[str]
    since: Mapped[str | None]


class HistoryRow(Table):
    """One step of a model's current version: an apply, a revert or a step of a snapshot's restore."""

    __tablename__ = "history"
    __table_args__ = (
        CheckConstraint("action IN ('apply', 'revert', 'restore')", name="action"),
        Index("ix_history_model_id", "model_id"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id", ondelete="CASCADE"))
    action: Mapped[str]
    edit_id: Mapped[int | None] = mapped_column(ForeignKey("edit.id", ondelete="RESTRICT"))
    version_before: Mapped[str]
    version_after: Mapped[str]
    created_at: Mapped[str]
    author: Mapped[str | None]
    direction: Mapped[str | None] = mapped_column(CheckConstraint("direction IN ('apply', 'revert')", name="direction"))
    conditions: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class SnapshotRow(Table):
    """A name for a version of a model."""

    __tablename__ = "snapshot"
    __table_args__ = ({"sqlite_with_rowid": False},)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str]
    created_at: Mapped[str]


class EvaluationRow(Table):
    """Measures of an edit against the weights before it, beside a random-neuron control."""

    __tablename__ = "evaluation"
    __table_args__ = (Index("ix_evaluation_edit_id", "edit_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    edit_id: Mapped[int] = mapped_column(ForeignKey("edit.id", ondelete="CASCADE"))
    version_before: Mapped[str]
    version_after: Mapped[str]
    settings: Mapped[dict[str, Any]]
    measures: Mapped[dict[str, Any]]
    created_at: Mapped[str]


class EvaluationMeasureRow(Table):
    """One measure of an evaluation, with its 95 % confidence interval over facts where there is one."""

    __tablename__ = "evaluation_measure"
    __table_args__ = (
        CheckConstraint("weights IN ('edited', 'control')", name="weights"),
        {"sqlite_with_rowid": False},
    )
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluation.id", ondelete="CASCADE"), primary_key=True)
    weights: Mapped[str] = mapped_column(primary_key=True)
    prompts_of: Mapped[str] = mapped_column(primary_key=True)
    measure: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    facts: Mapped[int | None]


class EditTrialRow(Table):
    """Edits of many facts that are tried in memory: a bench of one method, or a sweep over settings of it."""

    __tablename__ = "edit_trial"
    __table_args__ = (
        CheckConstraint("kind IN ('bench', 'sweep')", name="kind"),
        CheckConstraint("status IN ('running', 'complete')", name="status"),
        Index("ix_edit_trial_model_id", "model_id"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id", ondelete="CASCADE"))
    version: Mapped[str]
    kind: Mapped[str]
    settings: Mapped[dict[str, Any]]
    status: Mapped[str]
    created_at: Mapped[str]
    finished_at: Mapped[str | None]


class EditTrialResultRow(Table):
    """One result of a trial: of one fact, or of a number of edits together."""

    __tablename__ = "edit_trial_result"
    __table_args__ = ({"sqlite_with_rowid": False},)
    trial_id: Mapped[int] = mapped_column(ForeignKey("edit_trial.id", ondelete="CASCADE"), primary_key=True)
    part: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    fact_id: Mapped[int | None] = mapped_column(ForeignKey("fact.id", ondelete="SET NULL"))
    measures: Mapped[dict[str, Any]]


class WorkUnitRow(Table):
    """A part of some work that one worker does at a time; all of a work's are deleted when it is done."""

    __tablename__ = "work_unit"
    __table_args__ = (
        CheckConstraint("state IN ('open', 'leased', 'done', 'failed')", name="state"),
        {"sqlite_with_rowid": False},
    )
    work: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    items: Mapped[list[int]]
    state: Mapped[str]
    holder: Mapped[str | None]
    lease_until: Mapped[str | None]
    attempts: Mapped[int]
    error: Mapped[str | None]
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
