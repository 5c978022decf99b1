"""Stored evaluations of edits, and the table over edits."""

from __future__ import annotations

from collections.abc import Sequence

from ...exchange.mlflow_log import require_mlflow as require_mlflow
from ...records.display import Rows
from ...records.edits import Evaluation
from ...store import models as store_models
from ...store.edits import edit as store_edits
from ...store.edits import evaluation_table
from ...store.edits import evaluations as store_evaluations
from ...store.edits.evaluation_table import COLUMNS as COLUMNS
from ...store.edits.evaluation_table import EvaluatedEdit as EvaluatedEdit
from ...store.engine import Store


def evaluations(store: Store, edit: int | None) -> Rows[Evaluation]:
    """All stored evaluations, or those of one edit."""
    with store.reading() as connection:
        return Rows(store_evaluations.evaluations(connection, edit), Evaluation)


def evaluated(store: Store, edits: Sequence[int], model: str | None, *, every: bool) -> Rows[EvaluatedEdit]:
    """A table over edits; see `EditCommands.evaluated`."""
    with store.reading() as connection:
        for edit in edits:
            store_edits.edit_model(connection, edit)
        number = None if model is None else store_models.model(connection, model).id
        return Rows(evaluation_table.evaluated_edits(connection, number, edits, every=every), EvaluatedEdit)
