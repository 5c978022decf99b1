"""Heat maps: what the figures of overlap and of layers share."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from .style import INK


def draw_cells(axes: Axes, values: np.ndarray, norm: Normalize) -> ScalarMappable:
    """Draws a matrix, its first row on top; places without a value (NaN) stay grey.

    Args:
        axes: where.
        values: (rows, columns); cell (i, j) has its middle at (j + 0.5, i + 0.5).
        norm: from values to colours.
    """
    colors = axes.pcolormesh(np.ma.masked_invalid(values), cmap="cividis", norm=norm, edgecolors="white", linewidth=0.3)
    axes.set_facecolor("#F2F2F2")
    axes.invert_yaxis()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return colors


def write_numbers(axes: Axes, values: np.ndarray, norm: Normalize, form: str) -> None:
    """Writes the values into their cells, in the ink that shows on the cell's colour."""
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        color = INK if float(norm(value)) > 0.55 else "white"
        axes.text(column + 0.5, row + 0.5, format(value, form), ha="center", va="center", fontsize=6.5, color=color)
