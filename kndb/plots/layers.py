"""Where knowledge neurons lie: their share in each layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from ..records.figures import PLAIN, FigureOptions
from ..records.queries import LayerCount
from .heat import draw_cells, write_numbers
from .style import BLUE, DOUBLE, SINGLE, NotebookFigure, new_figure, shorten, styled

_NUMBERS = {SINGLE: 8, DOUBLE: 16}
"""The most layers whose cells hold their numbers, by the figure's width."""
_TICKS = 14


@styled
def layers_figure(rows: Sequence[LayerCount], caption: str, options: FigureOptions = PLAIN) -> NotebookFigure:
    """The percentage of (fact, neuron) pairs in each layer.

    Args:
        rows: one for each layer, of all relations together: bars. With rows of relations, a heat map of relations and
            layers, each row of which adds up to 100 %; all together come first.
        caption: settings, written below.
        options: title, size, and whether there is a caption.
    """
    relations = sorted({row.relation for row in rows}, key=lambda key: (key is not None, key))
    if relations == [None]:
        return _bars(rows, caption, options)
    layers = sorted({row.layer for row in rows})
    values = np.full((len(relations), len(layers)), np.nan)
    for row in rows:
        values[relations.index(row.relation), layers.index(row.layer)] = 100 * row.share
    width = SINGLE if len(layers) <= _NUMBERS[SINGLE] else DOUBLE
    figure = new_figure(width, 0.95 + 0.2 * len(relations), caption, options)
    axes = figure.plots.add_subplot()
    norm = Normalize(0.0, max(float(np.nanmax(values)), 1e-9))
    colors = draw_cells(axes, values, norm)
    if len(layers) <= _NUMBERS[width]:
        write_numbers(axes, values, norm, ".0f")
    names = [shorten(relation or "all") for relation in relations]
    axes.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=7)
    if relations[0] is None:
        axes.get_yticklabels()[0].set_fontweight("bold")
        axes.axhline(1, color="white", linewidth=3)
    step = max(1, -(-len(layers) // _TICKS))
    axes.set_xticks(np.arange(0, len(layers), step) + 0.5, [str(layer) for layer in layers[::step]])
    axes.set_xlabel("layer (from 0)")
    axes.set_ylabel("relation")
    bar = figure.plots.colorbar(colors, ax=axes, pad=0.02, aspect=20, fraction=0.08)
    bar.set_label("share of the neurons (%)", fontsize=7)
    bar.outline.set_visible(False)
    return figure


def _bars(rows: Sequence[LayerCount], caption: str, options: FigureOptions) -> NotebookFigure:
    figure = new_figure(SINGLE, 2.3, caption, options)
    axes = figure.plots.add_subplot()
    axes.bar([row.layer for row in rows], [100 * row.share for row in rows], width=0.8, color=BLUE)
    axes.set_xlabel("layer (from 0)")
    axes.set_ylabel("knowledge neurons (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=_TICKS, steps=[1, 2, 4, 5, 10]))
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    return figure
