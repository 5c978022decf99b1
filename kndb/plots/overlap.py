"""How many neurons facts share: the relation × relation matrix as a heat map."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..records.queries import Overlap
from .style import DOUBLE, INK, MANY, SINGLE, new_figure, shorten, styled

_NUMBERS = 8
"""The largest matrix whose cells hold their numbers."""
_USUAL = 5
"""Letters of a key such as P1303."""
_INCHES_PER_LETTER = 0.075


@styled
def overlap_figure(overlap: Overlap, caption: str) -> Figure:
    """The mean number of neurons that two facts share, for each pair of relations; the diagonal has a frame.

    Colours go by the square root, as facts of one relation share many times more than others.

    Args:
        overlap: the matrix.
        caption: settings, written below.
    """
    values = _matrix(overlap)
    count = len(overlap.relations)
    large = count > MANY
    width = DOUBLE if large else SINGLE
    labels = [shorten(relation) for relation in overlap.relations]
    room = _INCHES_PER_LETTER * max(0, max(map(len, labels)) - _USUAL)
    figure = new_figure(width, (6.0 if large else 2.8) + room, caption)
    axes = figure.add_subplot()
    known = values[~np.isnan(values)]
    norm = PowerNorm(0.5, vmin=0.0, vmax=max(float(known.max()) if known.size else 0.0, 1e-9))
    colors = axes.pcolormesh(np.ma.masked_invalid(values), cmap="cividis", norm=norm, edgecolors="white", linewidth=0.3)
    axes.set_facecolor("#F2F2F2")
    for index in range(count):
        axes.add_patch(
            Rectangle((index, index), 1, 1, fill=False, edgecolor=INK, linewidth=0.9, clip_on=False, label="diagonal")
        )
    if count <= _NUMBERS:
        _write_numbers(axes, values, norm)
    _label(axes, labels, large)
    bar = figure.colorbar(colors, ax=axes, shrink=0.8, pad=0.02, aspect=30)
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


def _write_numbers(axes: Axes, values: np.ndarray, norm: PowerNorm) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        color = INK if float(norm(value)) > 0.55 else "white"
        axes.text(column + 0.5, row + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=6.5, color=color)


def _label(axes: Axes, labels: list[str], large: bool) -> None:
    centres = np.arange(len(labels)) + 0.5
    upright = large or max(map(len, labels), default=0) > 4
    axes.set_xticks(centres, labels, rotation=90 if upright else 0, fontsize=7)
    axes.set_yticks(centres, labels, fontsize=7)
    axes.tick_params(length=0)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.set_xlabel("relation")
    axes.set_ylabel("relation")
    for spine in axes.spines.values():
        spine.set_visible(False)
