"""Whose neurons each method's refined sets hold, in a model whose storage was planted."""

from __future__ import annotations

from collections.abc import Sequence

from ..records.attribution import LocalisationScore
from ..records.figures import PLAIN, FigureOptions
from .style import BLUE, DOUBLE, INK, LIGHT_GREY, ORANGE, SKY, YELLOW, NotebookFigure, new_figure, styled

_PARTS: tuple[tuple[str, str, str, str | None], ...] = (
    ("own", "the fact's own", BLUE, None),
    ("relation", "its relation's", SKY, "////"),
    ("block", "of other facts of the relation", YELLOW, "...."),
    ("foreign", "of other relations", ORANGE, "xxxx"),
    ("free", "nothing planted", LIGHT_GREY, None),
)
"""Field, label, colour and hatch of each share."""


@styled
def localisation_figure(
    rows: Sequence[LocalisationScore], caption: str, options: FigureOptions = PLAIN
) -> NotebookFigure:
    """Two panels: whose neurons the refined pairs hold, and the share of planted neurons that were found.

    Args:
        rows: one for each method, drawn from the top down.
        caption: settings, written below.
        options: title, size, and whether there is a caption.
    """
    figure = new_figure(DOUBLE, 0.9 + 0.32 * len(rows), caption, options)
    shares, recall = figure.plots.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    places = [float(-index) for index in range(len(rows))]
    left = [0.0] * len(rows)
    for field, label, color, hatch in _PARTS:
        widths = [100 * (getattr(row, field) or 0.0) for row in rows]
        shares.barh(
            places, widths, left=left, height=0.62, color=color, edgecolor=INK, linewidth=0.3, hatch=hatch, label=label
        )
        left = [start + width for start, width in zip(left, widths, strict=True)]
    shares.set_yticks(places, [row.method for row in rows])
    shares.set_xlim(0, 100)
    shares.set_xlabel("refined neurons (%)")
    recall.barh(
        places,
        [100 * (row.recall or 0.0) for row in rows],
        height=0.62,
        color=BLUE,
        edgecolor=INK,
        linewidth=0.3,
    )
    recall.plot(
        [100 * (row.recall_by_chance or 0.0) for row in rows],
        places,
        linestyle="none",
        marker="|",
        markersize=11,
        color=INK,
        label="by chance",
    )
    recall.set_xlim(0, 100)
    recall.set_xlabel("planted neurons found (%)")
    recall.legend(loc="lower right")
    for axes in (shares, recall):
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    handles, labels = shares.get_legend_handles_labels()
    figure.legend_outside(handles=handles, labels=labels, ncols=3)
    return figure
