"""Quartiles, median and mean of something, relation by relation: what the figures of counts and consistency share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from ..records.figures import FigureOptions
from .style import BLUE, INK, SKY, VERMILION, NotebookFigure, label_relations, new_figure, width_for

_GAP = 0.6
"""Between all relations together and each of them."""


@dataclass(frozen=True)
class Box:
    """One box: quartiles, median and mean; `largest` where it is known."""

    relation: str | None
    first_quartile: float
    median: float
    third_quartile: float
    mean: float
    largest: float | None = None


def boxes_figure(boxes: Sequence[Box], caption: str, label: str, options: FigureOptions) -> tuple[NotebookFigure, Axes]:
    """A figure with a box for each relation, in the order given; that of all relations comes first.

    Args:
        boxes: at least one.
        caption: settings, written below.
        label: what is measured, with its unit.
        options: title, size, and whether there is a caption.
    """
    together = [box for box in boxes if box.relation is None]
    ordered = [*together, *(box for box in boxes if box.relation is not None)]
    gap = _GAP if together and len(ordered) > len(together) else 0.0
    positions = [index + (gap if box.relation is not None else 0.0) for index, box in enumerate(ordered)]
    figure = new_figure(width_for(len(ordered)), 2.6, caption, options)
    axes = figure.plots.add_subplot()
    axes.bar(
        positions,
        [box.third_quartile - box.first_quartile for box in ordered],
        bottom=[box.first_quartile for box in ordered],
        width=0.62,
        color=SKY,
        edgecolor=BLUE,
        linewidth=0.7,
        label="middle half",
    )
    axes.hlines(
        [box.median for box in ordered],
        [place - 0.31 for place in positions],
        [place + 0.31 for place in positions],
        color=INK,
        linewidth=1.4,
        label="median",
    )
    axes.plot(
        positions,
        [box.mean for box in ordered],
        linestyle="none",
        marker="D",
        markersize=3.2,
        color=VERMILION,
        markeredgecolor="white",
        markeredgewidth=0.4,
        label="mean",
    )
    if any(box.largest is not None for box in ordered):
        known = [(place, box.largest) for place, box in zip(positions, ordered, strict=True) if box.largest is not None]
        axes.plot(*zip(*known, strict=True), linestyle="none", marker="_", markersize=5, color=INK, label="largest")
    if gap:
        axes.axvline(0.5 + gap / 2, color="#BBBBBB", linewidth=0.6)
    label_relations(axes, positions, [box.relation or "all" for box in ordered])
    axes.set_xlabel("relation")
    axes.set_ylabel(label)
    axes.grid(axis="y")
    figure.legend_outside(ncols=4 if len(ordered) > 10 else 2)
    return figure, axes
