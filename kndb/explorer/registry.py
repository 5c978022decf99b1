"""All pages: where each is, and what makes it.

A pattern is the address's segments; one in braces is a variable part. A new page is a function in `pages/` and a line
here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .addresses import Segments, parts_of
from .blocks import Page
from .pages import (
    ask,
    compare,
    edits,
    facts,
    front,
    models,
    moves,
    neurons,
    overlap,
    plan,
    relations,
    runs,
    search,
    snapshots,
    sql,
)
from .visit import Visit


@dataclass(frozen=True)
class Place:
    """A kind of page.

    Attributes:
        pattern: its address.
        make: makes it.
        heading: what links at the top of all pages call it; empty for none.
        exported: whether it is among static files: pages that search or compute are not.
        edits: whether it is there only where edits are allowed.
        computes: whether it may take long, so that it must not keep other pages waiting.
    """

    pattern: str
    make: Callable[[Visit], Page]
    heading: str = ""
    exported: bool = True
    edits: bool = False
    computes: bool = False

    @property
    def segments(self) -> Segments:
        """The pattern's segments."""
        return tuple(one for one in self.pattern.split("/") if one)

    def parts_of(self, segments: Segments) -> dict[str, str] | None:
        """The variable parts of an address, by name; None if it is another page's."""
        return parts_of(self.pattern, segments)


PLACES: tuple[Place, ...] = (
    Place("/", front.front, "Store"),
    Place("/search", search.search, "", exported=False),
    Place("/relations", relations.relations, "Relations"),
    Place("/relations/{relation}", relations.relation),
    Place("/facts", facts.facts, "Facts"),
    Place("/facts/{fact}", facts.fact),
    Place("/neurons", models.shared, "Neurons"),
    Place("/models/{model}", models.model),
    Place("/models/{model}/layers", models.layers),
    Place("/models/{model}/neurons/{neuron}", neurons.neuron),
    Place("/overlap", overlap.overlap, "Overlap", computes=True),
    Place("/overlap/{one}/{other}", overlap.pair),
    Place("/runs", runs.runs, "Runs"),
    Place("/runs/{run}", runs.run),
    Place("/refinements/{refinement}", runs.refinement),
    Place("/edits", edits.edits, "Edits"),
    Place("/edits/{edit}", edits.edit),
    Place("/edits/{edit}/apply", moves.apply, exported=False, edits=True),
    Place("/edits/{edit}/revert", moves.revert, exported=False, edits=True),
    Place("/snapshots", snapshots.name, exported=False, edits=True),
    Place("/snapshots/restore", snapshots.restore, exported=False, edits=True),
    Place("/plan", plan.plan, "Plan", exported=False, edits=True),
    Place("/compare", compare.compare, "Compare", exported=False),
    Place("/ask", ask.ask, "Ask", exported=False, computes=True),
    Place("/sql", sql.sql, "SQL", exported=False, computes=True),
)
"""All pages; those with a heading stand at the top of every page, in this order."""


def find(segments: Segments, *, editing: bool) -> tuple[Place, dict[str, str]] | None:
    """The kind of page that an address is of, with its variable parts; None if it is of none."""
    for place in PLACES:
        parts = place.parts_of(segments)
        if parts is not None and (editing or not place.edits):
            return place, parts
    return None


def headings(*, editing: bool, live: bool) -> Iterator[Place]:
    """The pages that stand at the top of every page."""
    return (place for place in PLACES if place.heading and (editing or not place.edits) and (live or place.exported))
