"""Where the sections of a report take their numbers from."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...records.attribution import Refinement, Run
from ...records.models import Model
from ...records.probes import Probe
from ...report.content import Command, Picture
from ..drawings import Drawings

if TYPE_CHECKING:
    from ..database import Database

_EVERY = "all relations"


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

    def picture(self, name: str, draw: Callable[[], Any], description: str, words: str) -> Picture:
        """A figure with its command; `words` are its options."""
        from ...plots.style import inline_svg

        svg = inline_svg(draw(), f"figure-{name}")
        return Picture(svg, description, Command(f"plot-{name}", f"kndb plot {name}{words} --out {name}.svg"))

    def picture_of_refinement(self, name: str, draw: Callable[[Refinement], Any], description: str) -> Picture:
        """A figure of the refinement, with its command."""
        return self.picture(name, lambda: draw(self.refinement), description, f" --refinement {self.refinement.id}")


def together_first(rows: Iterable[Any]) -> list[Any]:
    """Rows by relation, that of all relations first."""
    return sorted(rows, key=lambda row: row.relation is not None)
