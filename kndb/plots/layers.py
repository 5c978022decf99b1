"""Where knowledge neurons lie: their share in each layer."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..advice import Placeholder, option
from ..errors import UsageError
from ..records.queries import LayerCount
from .style import BLUE, GREEN, INK, ORANGE, PURPLE, SINGLE, SKY, VERMILION, new_figure, shorten, styled

LINES = (
    (BLUE, "o", "-"),
    (ORANGE, "s", "--"),
    (GREEN, "^", "-."),
    (VERMILION, "D", ":"),
    (PURPLE, "v", "-"),
    (SKY, "P", "--"),
    (INK, "X", "-."),
)
"""Colour, marker and dashes of each relation's line."""


@styled
def layers_figure(rows: Sequence[LayerCount], caption: str) -> Figure:
    """The percentage of (fact, neuron) pairs in each layer.

    Args:
        rows: one for each layer: all relations together give bars. With several relations, each gives a line.
        caption: settings, written below.

    Raises:
        UsageError: for more relations than lines can be told apart.
    """
    relations = list(dict.fromkeys(row.relation for row in rows))
    if len(relations) > len(LINES):
        raise UsageError(
            f"{option('by_relation')} draws at most {len(LINES)} relations, as more lines can't be told apart (got "
            f"{len(relations)}); choose some with {option('relations', [Placeholder('KEY')])}"
        )
    figure = new_figure(SINGLE, 2.3, caption)
    axes = figure.add_subplot()
    if relations == [None]:
        axes.bar([row.layer for row in rows], [100 * row.share for row in rows], width=0.8, color=BLUE)
    else:
        for relation, (color, marker, dashes) in zip(relations, LINES, strict=False):
            chosen = [row for row in rows if row.relation == relation]
            axes.plot(
                [row.layer for row in chosen],
                [100 * row.share for row in chosen],
                color=color,
                marker=marker,
                linestyle=dashes,
                markersize=3.5,
                clip_on=False,
                markevery=max(1, len(chosen) // 12),
                linewidth=1.0,
                label=shorten(relation or "all"),
            )
        figure.legend(loc="outside upper left", ncols=4)
    axes.set_xlabel("layer (from 0)")
    axes.set_ylabel("knowledge neurons (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=14, steps=[1, 2, 4, 5, 10]))
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    return figure
