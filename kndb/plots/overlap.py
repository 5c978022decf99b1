"""How many neurons facts share: the relation × relation matrix as a heat map."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.patches import Rectangle

from ..records.figures import PLAIN, FigureOptions
from ..records.queries import Overlap
from .heat import draw_cells, write_numbers
from .style import DOUBLE, INK, MANY, SINGLE, NotebookFigure, new_figure, shorten, styled

_NUMBERS = 8
"""The largest matrix whose cells hold their numbers."""
_USUAL = 5
"""Letters of a key such as P1303."""
_INCHES_PER_LETTER = 0.075


@styled
def overlap_figure(overlap: Overlap, caption: str, options: FigureOptions = PLAIN) -> NotebookFigure:
    """The mean number of neurons that two facts share, for each pair of relations; the diagonal has a frame.

    Colours go by the square root, as facts of one relation share many times more than others.

    Args:
        overlap: the matrix.
        caption: settings, written below.
        options: title, size, and whether there is a caption.
    """
    values = _matrix(overlap)
    count = len(overlap.relations)
    large = count > MANY
    width = DOUBLE if large else SINGLE
    labels = [shorten(relation) for relation in overlap.relations]
    room = _INCHES_PER_LETTER * max(0, max(map(len, labels)) - _USUAL)
    figure = new_figure(width, (6.0 if large else 2.8) + room, caption, options)
    axes = figure.plots.add_subplot()
    known = values[~np.isnan(values)]
    norm = PowerNorm(0.5, vmin=0.0, vmax=max(float(known.max()) if known.size else 0.0, 1e-9))
    colors = draw_cells(axes, values, norm)
    for index in range(count):
        axes.add_patch(
            Rectangle((index, index), 1, 1, fill=False, edgecolor=INK, linewidth=0.9, clip_on=False, label="diagonal")
        )
    if count <= _NUMBERS:
        write_numbers(axes, values, norm, ".2f")
    _label(axes, labels, large)
    bar = figure.plots.colorbar(colors, ax=axes, shrink=0.8, pad=0.02, aspect=30)
    bar.set_label("shared neurons per pair of facts")
    bar.outline.set_visible(False)
    return figure


def _matrix(overlap: Overlap) -> np.ndarray:
    """Means as (relation, relation); NaN where a cell has no pairs."""
    place = {relation: index for index, relation in enumerate(overlap.relations)}
    values = np.full((len(place), len(place)), np.nan)
    for cell in overlap.cells:
        if cell.mean is not None:
            row, column = place[cell.relation], place[cell.other]
            values[row, column] = values[column, row] = cell.mean
    return values


def _label(axes: Axes, labels: list[str], large: bool) -> None:
    centres = np.arange(len(labels)) + 0.5
    upright = large or max(map(len, labels), default=0) > 4
    axes.set_xticks(centres, labels, rotation=90 if upright else 0, fontsize=7)
    axes.set_yticks(centres, labels, fontsize=7)
    axes.set_aspect("equal")
    axes.set_xlabel("relation")
    axes.set_ylabel("relation")
