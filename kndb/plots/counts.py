"""How many knowledge neurons facts have."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from ..records.figures import PLAIN, FigureOptions
from ..records.queries import NeuronCounts
from .boxes import Box, boxes_figure
from .style import NotebookFigure, styled


@styled
def counts_figure(rows: Sequence[NeuronCounts], caption: str, options: FigureOptions = PLAIN) -> NotebookFigure:
    """Neurons per fact, facts with none included: quartiles, median, mean and the largest number, by relation.

    Args:
        rows: one for each relation; that of relation None is all of them.
        caption: settings, written below.
        options: title, size, and whether there is a caption.
    """
    boxes = [
        Box(row.relation, row.first_quartile, row.median, row.third_quartile, row.mean, row.largest) for row in rows
    ]
    figure, axes = boxes_figure(boxes, caption, "knowledge neurons per fact", options)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
