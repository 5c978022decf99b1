"""How many knowledge neurons facts have."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..records.queries import NeuronCounts
from .boxes import Box, boxes_figure
from .style import styled


@styled
def counts_figure(rows: Sequence[NeuronCounts], caption: str) -> Figure:
    """Neurons per fact, facts with none included: quartiles, median, mean and the largest number, by relation.

    Args:
        rows: one for each relation; that of relation None is all of them.
        caption: settings, written below.
    """
    boxes = [
        Box(row.relation, row.first_quartile, row.median, row.third_quartile, row.mean, row.largest) for row in rows
    ]
    figure, axes = boxes_figure(boxes, caption, "knowledge neurons per fact")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
