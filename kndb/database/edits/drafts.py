"""Drafts of edits: a method for each way to plan one. The modules of their names have what they do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ...editing.many.covariance import Covariance
from ...records.attribution import RefinementChoice
from ...records.edit_settings import OptimizeSettings, UpdateSettings
from ...records.many_recipes import TriedSettings
from ...records.many_settings import LayerChoice, ManySettings
from ...records.progress import Progress
from ...records.together import KeptFacts, TogetherSettings
from ...store.engine import Store
from ..models import ModelCommands, ModelVersion
from .batch import Target
from .draft import Draft
from .erase import draft_erase
from .many import draft_many, try_layers
from .optimize import draft_optimize
from .together import draft_together
from .update import draft_update


class EditDrafts:
    """Computes edits, and stores and applies nothing.

    Args:
        store: the store.
        models: loads models.
        within: of facts that are not edited, only these are looked at by a plan, to keep their answers or to be
            weighed against; None for all. What measures plans gives those that it does not measure.
    """

    def __init__(self, store: Store, models: ModelCommands, within: Collection[int] | None = None) -> None:
        self._store = store
        self._models = models
        self._within = within

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
            within=self._within,
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
            within=self._within,
        )

    def together(
        self,
        model: str,
        targets: Sequence[Target],
        settings: TogetherSettings | None = None,
        keep: KeptFacts | None = None,
        *,
        layers: Sequence[int] = (),
        refinement: RefinementChoice = None,
        steps_file: str | Path | None = None,
        skip_unusable: bool = False,
        progress: Progress | None = None,
        on: ModelVersion | None = None,
        report: bool = True,
    ) -> Draft:
        """Changes the value slots of many facts by gradient steps together, so that each gets its new answer.

        Args:
            model: a registered model.
            targets: the facts and their new answers, of one token or several; see `EditCommands.targets`.
            settings: how; None takes the defaults.
            keep: how many other facts' answers should stay; None takes the defaults.
            layers: with scope `layers`, those whose value slots change; none takes those of the knowledge neurons.
            refinement: whose knowledge neurons; see `QueryCommands.choose`. None is needed where layers are named.
            steps_file: keeps the steps taken, so that a plan that was stopped resumes; storing the edit removes it.
            skip_unusable: pass over facts that can't be planned; the draft has them as `unusable`.
            progress: told how many steps were taken, and how many there are at most.
            on: the model in memory, to plan on its weights as they are; None loads the current version.
            report: whether to try the edit in memory and put what it does in the recipe; see `group_report`.

        Raises:
            UsageError: if there is no target, a question gets two answers, or layers are named with scope `neurons`.
            NotFoundError: if there is no such fact, model or refinement.
            EditError: if the model can't be asked for a new answer, facts have no knowledge neurons, or the file holds
                the steps of another plan.
        """
        return draft_together(
            self._store,
            self._models,
            model,
            targets,
            settings or TogetherSettings(),
            keep or KeptFacts(),
            layers=layers,
            refinement=refinement,
            steps_file=None if steps_file is None else Path(steps_file),
            skip_unusable=skip_unusable,
            progress=progress,
            on=on,
            report=report,
            within=self._within,
        )

    def many(
        self,
        model: str,
        targets: Sequence[Target],
        settings: ManySettings,
        *,
        choose: LayerChoice | TriedSettings | None = None,
        covariances: Mapping[int, Covariance] | None = None,
        seed: int = 0,
        targets_file: str | Path | None = None,
        skip_unusable: bool = False,
        progress: Progress | None = None,
        on: ModelVersion | None = None,
        before: Sequence[Draft] = (),
        report: bool = True,
    ) -> Draft:
        """Changes layers so that many facts get their new answers: ROME, MEMIT, AlphaEdit, EMMET or FT-M.

        Args:
            model: a registered model.
            targets: the facts and their new answers, of one token or several; see `EditCommands.targets`.
            settings: the method's: `RomeSettings`, `MemitSettings`, `AlphaEditSettings`, `EmmetSettings` or
                `FinetuneSettings`.
            choose: try layers and tokens on a share of the facts, and take the best; or what `try_layers` chose. None
                takes those of the settings, or what is usual for the model's kind.
            covariances: of the keys of each layer that changes; None takes those that `statistics` keeps, and
                counts those of other layers on the prompts of other facts.
            seed: of the draw of these prompts.
            targets_file: keeps the targets found, so that a plan that was stopped resumes; storing the edit removes it.
            skip_unusable: pass over facts that can't be planned; the draft has them as `unusable`.
            progress: told how far the plan is.
            on: the model in memory, to plan on its weights as they are; None loads the current version.
            before: drafts that these weights have beside the version's edits; AlphaEdit keeps their keys too.
            report: whether to try the edit in memory and put what it does in the recipe; see `group_report`.

        Raises:
            UsageError: if there is no target, or a question gets two answers.
            NotFoundError: if there is no such fact or model.
            EditError: if facts can't be planned, the model lacks a layer, or the method can't take so many facts.
        """
        return draft_many(
            self._store,
            self._models,
            model,
            targets,
            settings,
            choose=choose,
            covariances=covariances,
            seed=seed,
            targets_file=None if targets_file is None else Path(targets_file),
            skip_unusable=skip_unusable,
            progress=progress,
            on=on,
            before=before,
            report=report,
            within=self._within,
        )

    def try_layers(
        self,
        model: str,
        targets: Sequence[Target],
        settings: ManySettings,
        choice: LayerChoice | None = None,
        *,
        skip_unusable: bool = False,
        progress: Progress | None = None,
        on: ModelVersion | None = None,
    ) -> TriedSettings:
        """Tries layers and tokens on a share of some facts, and chooses the best; plans nothing.

        Args:
            model: a registered model.
            targets: the facts and their new answers.
            settings: the method's; a token that they have is the only one tried.
            choice: how many facts are tried; None takes the default share.
            skip_unusable: pass over facts that the model can't be asked for their new answers.
            progress: told how many candidates were tried.
            on: the model in memory, with the weights to try on; None loads the current version.

        Returns:
            The settings, and what each candidate did; `many` takes it as `choose`.

        Raises:
            UsageError: if there is no target, or a question gets two answers.
            NotFoundError: if there is no such fact or model.
            EditError: if facts can't be asked, or no candidate can be planned.
        """
        version = on or self._models.load(model)
        chosen = choice or LayerChoice()
        return try_layers(
            self._store, version, targets, settings, chosen, skip_unusable=skip_unusable, progress=progress
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
