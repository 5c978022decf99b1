"""Drafts of edits: a method for each way to plan one. `update`, `optimize` and `erase` have what they do."""

from __future__ import annotations

from ...records.attribution import RefinementChoice
from ...records.edit_settings import OptimizeSettings, UpdateSettings
from ...records.progress import Progress
from ...store.engine import Store
from ..models import ModelCommands, ModelVersion
from .draft import Draft
from .erase import draft_erase
from .optimize import draft_optimize
from .update import draft_update


class EditDrafts:
    """Computes edits, and stores and applies nothing."""

    def __init__(self, store: Store, models: ModelCommands) -> None:
        self._store = store
        self._models = models

    def update(
        self,
        model: str,
        fact: int,
        to: str,
        settings: UpdateSettings | None = None,
        *,
        refinement: RefinementChoice = None,
        on: ModelVersion | None = None,
        report: bool = True,
    ) -> Draft:
        """Moves a fact's value slots away from the present answer and towards `to`: the paper's rule, or one like it.

        Args:
            model: a registered model.
            fact: the fact's number.
            to: the new answer, one token in the model's tokenizer.
            settings: how; None takes the defaults. See `UpdateSettings`, `recipes.UpdateRule` and
                `update_rules.by_gradient`.
            refinement: whose knowledge neurons; see `QueryCommands.choose`.
            on: the model in memory, to plan on its weights as they are; None loads the current version.
            report: whether to try the edit in memory and put what it does in the recipe; see `reports`.

        Raises:
            NotFoundError: if there is no such fact, model or refinement.
            EditError: if the fact has no knowledge neurons, or the answers can't be used.
        """
        return draft_update(
            self._store,
            self._models,
            model,
            fact,
            to,
            settings or UpdateSettings(),
            refinement=refinement,
            on=on,
            report=report,
        )

    def optimize(
        self,
        model: str,
        fact: int,
        to: str,
        settings: OptimizeSettings | None = None,
        *,
        refinement: RefinementChoice = None,
        progress: Progress | None = None,
        on: ModelVersion | None = None,
        report: bool = True,
    ) -> Draft:
        """Changes a fact's value slots by gradient steps, so that `to` wins while other facts' answers stay.

        Args:
            model: a registered model.
            fact: the fact's number.
            to: the new answer, one token in the model's tokenizer.
            settings: how; None takes the defaults.
            refinement: whose knowledge neurons; see `QueryCommands.choose`.
            progress: told how many steps were taken, and how many there are at most.
            on: the model in memory, to plan on its weights as they are; None loads the current version.
            report: whether to try the edit in memory and put what it does in the recipe; see `reports`.

        Raises:
            NotFoundError: if there is no such fact, model or refinement.
            EditError: if the fact has no knowledge neurons, or the answer can't be used.
        """
        return draft_optimize(
            self._store,
            self._models,
            model,
            fact,
            to,
            settings or OptimizeSettings(),
            refinement=refinement,
            progress=progress,
            on=on,
            report=report,
        )

    def erase(self, model: str, relation: str, *, top: int = 20, refinement: RefinementChoice = None) -> Draft:
        """Sets the value slots of a relation's most common neurons to zero, so that the model forgets it.

        Args:
            model: a registered model.
            relation: the relation's key.
            top: how many of its neurons, at least 1.
            refinement: whose knowledge neurons; see `QueryCommands.choose`.

        Raises:
            NotFoundError: if there is no such relation, model or refinement.
            EditError: if no fact of the relation has a knowledge neuron.
        """
        return draft_erase(self._store, self._models, model, relation, top=top, refinement=refinement)
