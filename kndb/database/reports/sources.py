"""Where the sections of a report take their numbers from."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...records.attribution import Refinement, Run
from ...records.figures import FigureOptions
from ...records.models import Model
from ...records.probes import Probe
from ...report.content import Command, Picture
from ..drawings import Drawings

if TYPE_CHECKING:
    from ...plots.style import NotebookFigure
    from ..database import Database

_EVERY = "all relations"
IN_PAGE = FigureOptions(caption=False)
"""Figures of a page, which says beside them what they are of."""


@dataclass(frozen=True)
class Sources:
    """Where a report's numbers come from.

    Attributes:
        database: the open database.
        model, run, refinement: what is reported.
        baseline: the newest refinement of activations on the same version, or None.
        probes: the probe of each kind, where there is one.
        labels: relation key to label.
    """

    database: Database
    model: Model
    run: Run
    refinement: Refinement
    baseline: Refinement | None
    probes: Mapping[str, Probe]
    labels: Mapping[str, str | None]

    @property
    def name(self) -> str:
        """The model's name as a shell takes it."""
        return shlex.quote(self.model.name)

    @property
    def drawings(self) -> Drawings:
        """Gives figures."""
        return Drawings(self.database)

    @property
    def source(self) -> str:
        """What the report's numbers are of, as a line below their title."""
        return self.of(self.refinement, self.run)

    def of(self, refinement: Refinement, run: Run) -> str:
        """What numbers of a refinement are of."""
        return f"refinement {refinement.id} of run {run.id} ({run.method}), {self.model.name} {run.version}"

    def query(self, name: str, words: str = "", refinement: Refinement | None = None) -> Command:
        """The command of a query of this refinement, or another; `words` are its other options."""
        chosen = refinement or self.refinement
        suffix = "" if refinement is None else f"-{refinement.id}"
        return Command(f"query-{name}{suffix}", f"kndb query {name}{words} --refinement {chosen.id}")

    def probed(self, kind: str) -> Command:
        """The command that shows the probe of a kind."""
        return Command(f"probe-{kind}", f"kndb probe show {self.probes[kind].id} --part summary")

    def named(self, relation: str | None) -> str:
        """A relation with its label, for a row's head."""
        if relation is None:
            return _EVERY
        label = self.labels.get(relation)
        return f"{relation} {label}" if label else relation

    def picture(self, name: str, draw: Callable[[], NotebookFigure], description: str, words: str) -> Picture:
        """A figure with its command; `words` are its options."""
        from ...plots.style import inline_svg

        svg = inline_svg(draw(), f"figure-{name}")
        line = f"kndb plot {name}{words} --no-caption --out {name}.svg"
        return Picture(svg, description, Command(f"plot-{name}", line))

    def picture_of_refinement(self, name: str, draw: Callable[..., NotebookFigure], description: str) -> Picture:
        """A figure of the refinement, with its command."""
        words = f" --refinement {self.refinement.id}"
        return self.picture(name, lambda: draw(self.refinement, options=IN_PAGE), description, words)


def together_first(rows: Iterable[Any]) -> list[Any]:
    """Rows by relation, that of all relations first."""
    return sorted(rows, key=lambda row: row.relation is not None)
