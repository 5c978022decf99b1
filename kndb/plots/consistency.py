"""How alike the coarse sets of a fact's paraphrases are."""

from __future__ import annotations

from collections.abc import Sequence

from ..records.figures import PLAIN, FigureOptions
from ..records.queries import Consistency
from .boxes import Box, boxes_figure
from .style import NotebookFigure, styled


@styled
def consistency_figure(rows: Sequence[Consistency], caption: str, options: FigureOptions = PLAIN) -> NotebookFigure:
    """The facts' mean pairwise Jaccard indices, 0 to 1: quartiles, median and mean, by relation.

    Args:
        rows: one for each relation; that of relation None is all of them.
        caption: settings, written below.
        options: title, size, and whether there is a caption.
    """
    boxes = [Box(row.relation, row.first_quartile, row.median, row.third_quartile, row.mean) for row in rows]
    figure, axes = boxes_figure(boxes, caption, "Jaccard index of two prompts'\ncoarse sets, mean per fact", options)
    axes.set_ylim(0, 1)
    return figure
