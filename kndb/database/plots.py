"""Use cases of figures: draw one, write it if that is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..plots import require_matplotlib
from ..records.attribution import RefinementChoice
from ..records.figures import PLAIN, FigureOptions
from .drawings import Drawings

if TYPE_CHECKING:
    from ..plots.style import NotebookFigure
    from .database import Database


class PlotCommands:
    """Draw figures, and write them into files if that is wanted: `.png`, `.svg` or `.pdf`.

    Every method gives the figure, a `matplotlib.figure.Figure` that a notebook shows by itself. `path` is the file to
    write, which appears when it is complete; None writes none. `options` say how the figure is to look. All raise:
        UsageError: for another suffix, a folder that is not there, or where matplotlib is not installed.
        NotFoundError: if there is nothing to draw; the message names the command that makes it.
    """

    def __init__(self, database: Database) -> None:
        self._drawings = Drawings(database)

    def layers(
        self,
        path: str | Path | None = None,
        *,
        relations: Sequence[str] = (),
        by_relation: bool = False,
        refinement: RefinementChoice = None,
        model: str | None = None,
        options: FigureOptions = PLAIN,
    ) -> NotebookFigure:
        """The percentage of knowledge neurons in each layer.

        Args:
            path: the file.
            relations: only these relations' facts; none named means all.
            by_relation: a heat map with a row for each relation in place of bars of all together.
            refinement: which one; see `QueryCommands.choose`.
            model: only refinements of this model.
            options: title, size, and whether there is a caption.
        """
        _require(path)
        chosen = self._drawings.refinement(refinement, model, relations)
        return _saved(self._drawings.layers(chosen, relations, by_relation=by_relation, options=options), path)

    def overlap(
        self,
        path: str | Path | None = None,
        *,
        relations: Sequence[str] = (),
        refinement: RefinementChoice = None,
        model: str | None = None,
        options: FigureOptions = PLAIN,
    ) -> NotebookFigure:
        """The relation × relation matrix of the neurons that two facts share on average. For arguments see `layers`."""
        _require(path)
        chosen = self._drawings.refinement(refinement, model, relations)
        return _saved(self._drawings.overlap(chosen, relations, options), path)

    def counts(
        self,
        path: str | Path | None = None,
        *,
        relations: Sequence[str] = (),
        refinement: RefinementChoice = None,
        model: str | None = None,
        options: FigureOptions = PLAIN,
    ) -> NotebookFigure:
        """How many knowledge neurons facts have, by relation. For arguments see `layers`."""
        _require(path)
        chosen = self._drawings.refinement(refinement, model, relations)
        return _saved(self._drawings.counts(chosen, relations, options), path)

    def consistency(
        self,
        path: str | Path | None = None,
        *,
        relations: Sequence[str] = (),
        refinement: RefinementChoice = None,
        model: str | None = None,
        options: FigureOptions = PLAIN,
    ) -> NotebookFigure:
        """How alike the coarse sets of facts' paraphrases are, by relation. For arguments see `layers`."""
        _require(path)
        chosen = self._drawings.refinement(refinement, model, relations)
        return _saved(self._drawings.consistency(chosen, relations, options), path)

    def fact(
        self,
        fact_id: int,
        path: str | Path | None = None,
        *,
        refinement: RefinementChoice = None,
        model: str | None = None,
        options: FigureOptions = PLAIN,
    ) -> NotebookFigure:
        """The votes of one fact's prompts for its neurons, and each prompt's scores: of those kept, and of others.

        For other arguments see `layers`.
        """
        _require(path)
        chosen = self._drawings.refinement(refinement, model, facts=[fact_id])
        return _saved(self._drawings.fact(chosen, fact_id, options), path)

    def suppress(
        self,
        path: str | Path | None = None,
        *,
        probe: int | None = None,
        model: str | None = None,
        relations: Sequence[str] = (),
        options: FigureOptions = PLAIN,
    ) -> NotebookFigure:
        """What suppressing neurons does to answers.

        Args:
            path: the file.
            probe: the probe's number; None takes the newest of that kind.
            model: only refinements of this model.
            relations: only these relations' facts; none named means all.
            options: title, size, and whether there is a caption.
        """
        _require(path)
        return _saved(self._drawings.scaling(self._drawings.probe("suppress", probe, model), relations, options), path)

    def amplify(
        self,
        path: str | Path | None = None,
        *,
        probe: int | None = None,
        model: str | None = None,
        relations: Sequence[str] = (),
        options: FigureOptions = PLAIN,
    ) -> NotebookFigure:
        """What amplifying neurons does to answers. For arguments see `suppress`."""
        _require(path)
        return _saved(self._drawings.scaling(self._drawings.probe("amplify", probe, model), relations, options), path)

    def activation(
        self,
        path: str | Path | None = None,
        *,
        probe: int | None = None,
        model: str | None = None,
        relations: Sequence[str] = (),
        options: FigureOptions = PLAIN,
    ) -> NotebookFigure:
        """The mean activation of knowledge neurons by kind of text. For arguments see `suppress`."""
        _require(path)
        chosen = self._drawings.probe("activation", probe, model)
        return _saved(self._drawings.activation(chosen, relations, options), path)

    def check(self, path: str | Path) -> None:
        """Checks that a figure can be drawn into a file of this name, ahead of work that takes long."""
        _require(path)

    def trial(self, trial: int, path: str | Path | None = None, *, options: FigureOptions = PLAIN) -> NotebookFigure:
        """How edits of a bench wear off as more are piled up; or, of a sweep, success against collateral.

        Args:
            trial: the trial's number.
            path: the file.
            options: title, size, and whether there is a caption.
        """
        _require(path)
        return _saved(self._drawings.trial(trial, options), path)


def _require(path: str | Path | None) -> None:
    """Refuses what can't be drawn or written before anything is computed."""
    require_matplotlib()
    from ..plots.style import check_target

    if path is not None:
        check_target(path)


def _saved(figure: NotebookFigure, path: str | Path | None) -> NotebookFigure:
    """The figure, once it is written where that is wanted."""
    from ..plots.style import save

    if path is not None:
        save(figure, path)
    return figure
