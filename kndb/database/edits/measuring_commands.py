"""What `db.edits` has to measure edits: cases to try them on, statistics of keys, evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...records.cases import CaseSet, CaseSettings
from ...records.display import Rows
from ...records.edit_settings import EvaluationSettings
from ...records.edits import Evaluation
from ...records.progress import Progress
from ...records.statistics import LayerStatistics, StatisticsSettings
from . import evaluations, listing
from .command_group import CommandGroup
from .evaluations import EvaluatedEdit

if TYPE_CHECKING:
    from .easyedit import ExportedCases


class MeasuringCommands(CommandGroup):
    """Measure edits, and count what they need; part of `EditCommands`."""

    # --- cases to try edits on -------------------------------------------------------------------------------

    def cases(
        self,
        model: str,
        *,
        relations: Sequence[str] = (),
        settings: CaseSettings | None = None,
        progress: Progress | None = None,
    ) -> CaseSet:
        """Draws a set of cases like CounterFact's: known facts with another object of the relation as new answer.

        Each has its held-out paraphrases, and prompts of other subjects with the same object that the model answers,
        none of which is a case itself.

        Args:
            model: a registered model; its current version is asked.
            relations: keys; none means all.
            settings: how many, and which facts count as known; None takes the defaults.
            progress: told how many cases were found, and how many are wanted.

        Raises:
            NotFoundError: if there is no such model or relation.
            EditError: if no fact can be a case.
        """
        from .cases import draw_cases

        return draw_cases(self._store, self._models, model, relations, settings or CaseSettings(), progress)

    def write_cases(self, cases: CaseSet, path: str | Path, *, form: str = "lines", force: bool = False) -> CaseSet:
        """Writes cases to a file that `targets` reads.

        Args:
            cases: the cases.
            path: the file.
            form: `lines`, JSON lines with the prompts beside; or `counterfact`, CounterFact's own JSON, whose prompts
                end where the answer begins: cases without such a prompt are left out.
            force: replace a file that is there.

        Returns:
            The cases that were written.

        Raises:
            UsageError: for another form, or a file that is there.
            EditError: if no case can be written in that form.
            OutputError: if the file can't be written.
        """
        from .cases import write_cases

        return write_cases(cases, Path(path), form, force=force)

    # --- statistics ------------------------------------------------------------------------------------------

    def statistics(
        self,
        model: str,
        settings: StatisticsSettings | None = None,
        *,
        version: str = "current",
        replace: bool = False,
        progress: Progress | None = None,
    ) -> Rows[LayerStatistics]:
        """Counts the covariances of keys that edits of many facts need, and keeps them beside the database.

        A layer's keys are the inputs of its down projection, over the tokens of some texts. Each layer's covariance is
        a file of its own, bound to the checkpoint, the version and the texts. Safe to interrupt: the same call resumes.

        Args:
            model: a registered model.
            settings: of which layers and texts; None takes the prompts of the store's facts.
            version: as for `ModelCommands.load`.
            replace: replace what is kept of other texts; it stays until the new count is whole.
            progress: told how many texts were counted.

        Returns:
            What is kept of these layers.

        Raises:
            UsageError: if the model has no such layer, the sums would take too much memory, or those of other texts are
                kept.
            NotFoundError: if there is no such model or version.
            InputError: if the file of texts can't be used.
            EditError: if the model or the source can't be counted, or what is kept is damaged.
        """
        from .statistics import count_statistics

        chosen = settings or StatisticsSettings()
        return count_statistics(
            self._store, self._models, model, chosen, version=version, replaced=replace, progress=progress
        )

    def kept_statistics(self, model: str | None = None) -> Rows[LayerStatistics]:
        """What is kept of the keys of all models, or of one; damaged files with their problem.

        Raises:
            NotFoundError: if there is no such model.
        """
        from .kept_statistics import kept_statistics

        return kept_statistics(self._store, model)

    def delete_statistics(self, model: str, layers: Sequence[int] = ()) -> Rows[LayerStatistics]:
        """Deletes what is kept of a model's keys, of every version: of some layers, or of all.

        Raises:
            NotFoundError: if there is no such model.
            UsageError: if nothing is kept of one of the layers.
            StoreError: if a file can't be deleted.
        """
        from .kept_statistics import delete_statistics

        return delete_statistics(self._store, model, layers)

    # --- measuring -------------------------------------------------------------------------------------------

    def evaluate(
        self,
        edit: int,
        settings: EvaluationSettings | None = None,
        *,
        fact: int | None = None,
        to: str | None = None,
        device: str = "auto",
    ) -> Evaluation:
        """Measures an edit against the version that it was planned on, beside a random-neuron control; stored.

        Args:
            edit: the edit's number; it need not be applied.
            settings: what it is measured on; None takes the defaults.
            fact: of a capture, which does not say so itself, the number of the fact that it is for.
            to: and the answer that it is to give.
            device: where to compute.

        Raises:
            UsageError: if a capture has no fact and answer, or another edit has; if prompts are to be continued, and
                the model is not causal, or the edit is of a relation.
            EditError: if the fact can't be asked, the answer is not one token, or a fact of the recipe is not here.
        """
        from .evaluate import evaluate

        chosen = settings or EvaluationSettings()
        return evaluate(self._store, self._models, edit, chosen, fact=fact, to=to, device=device)

    def log_to_mlflow(self, evaluation: Evaluation, experiment: str = "kndb") -> str:
        """Logs an evaluation as a run of MLflow: parameters, each measure with the ends of its interval, and tags.

        Args:
            evaluation: from `evaluate` or `evaluations`.
            experiment: the experiment's name; it is made if there is none.

        Returns:
            The run's id, at the tracking URI of the environment (`MLFLOW_TRACKING_URI`).

        Raises:
            UsageError: if MLflow's client is not installed.
            OutputError: if the tracking server does not take it.
        """
        from ...exchange.mlflow_log import log_evaluation

        return log_evaluation(listing.get(self._store, evaluation.edit), evaluation, experiment)

    def export_easyedit(
        self,
        edit: int,
        path: str | Path,
        settings: EvaluationSettings | None = None,
        *,
        fact: int | None = None,
        to: str | None = None,
        device: str = "auto",
    ) -> ExportedCases:
        """Measures each fact of an edit as EasyEdit does, and writes its result fields; nothing is stored.

        Args:
            edit: the edit's number; it need not be applied.
            path: the JSON file to make.
            settings: as for `evaluate`; `generate` adds the fluency.
            fact: of a capture, the number of the fact that it is for.
            to: and the answer that it is to give.
            device: where to compute.

        Raises:
            UsageError: as `evaluate`; or if the file is there.
            EditError: if the edit gives no fact a new answer, or the model can't be asked for one.
            OutputError: if the file can't be written.
        """
        from .easyedit import export_easyedit

        chosen = settings or EvaluationSettings()
        return export_easyedit(self._store, self._models, edit, Path(path), chosen, fact=fact, to=to, device=device)

    def evaluations(self, edit: int | None = None) -> list[Evaluation]:
        """All stored evaluations, or those of one edit."""
        return evaluations.evaluations(self._store, edit)

    def evaluated(
        self, edits: Sequence[int] = (), *, model: str | None = None, every: bool = False
    ) -> list[EvaluatedEdit]:
        """A table over edits, with what each and its control did.

        Args:
            edits: only these; none means all.
            model: only this model's.
            every: every evaluation of an edit, not only the newest.

        Raises:
            NotFoundError: if there is no such edit or model.
        """
        return evaluations.evaluated(self._store, edits, model, every=every)

    @property
    def evaluated_measures(self) -> tuple[str, ...]:
        """The measures in the table over edits."""
        return evaluations.COLUMNS
