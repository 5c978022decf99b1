"""Methods of editing beside each other: what they reach, and at what cost, by the number of facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from ..records.edits import Interval, TrialSummary
from ..records.figures import PLAIN, FigureOptions
from .intervals import spread
from .style import (
    BLUE,
    DOUBLE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    NotebookFigure,
    new_figure,
    styled,
)

_PANELS = (
    ("success", "success"),
    ("PS", "paraphrase score (PS)"),
    ("NS", "neighbourhood score (NS)"),
    ("S", "score S of ES, PS, NS"),
    ("perplexity_others", "others: perplexity ×"),
    ("flips_others", "others: answers that flip"),
)
_RATIO = "perplexity_others"
_LOOKS = (
    (GREY, "o"),
    (SKY, "s"),
    (BLUE, "D"),
    (ORANGE, "^"),
    (VERMILION, "v"),
    (GREEN, "P"),
    (PURPLE, "X"),
    (INK, "*"),
)
_LARGE = 4.0
"""A ratio above this is drawn in powers of ten."""


@styled
def methods_figure(rows: Sequence[TrialSummary], caption: str, options: FigureOptions = PLAIN) -> NotebookFigure:
    """Six panels, by the number of facts edited: success, PS, NS, S, perplexity and flips of untouched facts.

    A method has a colour and a shape of its own, and stands beside the others at each size; bars are 95 % intervals
    over facts.

    Args:
        rows: of a bench of several methods.
        caption: settings, written below.
        options: title, size, and whether there is a caption.
    """
    edits = [row for row in rows if row.weights == "edit"]
    methods = list(dict.fromkeys(str(row.settings["method"]) for row in edits))
    sizes = sorted({row.edits for row in edits})
    figure = new_figure(DOUBLE, 4.6, caption, options)
    panels = figure.plots.subplots(2, 3, sharex=True)
    for axes, (name, title) in zip(panels.flat, _PANELS, strict=True):
        _draw(axes, edits, name, methods, sizes)
        axes.set_title(title, fontsize=8)
        axes.set_xticks(range(len(sizes)), [f"{size:,}" for size in sizes])
        axes.set_xlim(-0.5, len(sizes) - 0.5)
        axes.grid(axis="y")
    for axes in panels[1]:
        axes.set_xlabel("facts edited")
    handles = [Line2D([], [], **_look(place), linewidth=1.0, label=method) for place, method in enumerate(methods)]
    bar: dict[str, Any] = {"color": INK, "marker": "|", "markersize": 8, "linestyle": "none", "markeredgewidth": 0.7}
    handles.append(Line2D([], [], **bar, label="95 % interval over facts"))
    figure.legend_outside(handles=handles, place="lower center", ncols=min(5, len(handles)), fontsize=7)
    return figure


def _look(place: int) -> dict[str, Any]:
    color, marker = _LOOKS[place % len(_LOOKS)]
    return {"color": color, "marker": marker, "markersize": 4}


def _draw(axes: Axes, rows: Sequence[TrialSummary], name: str, methods: Sequence[str], sizes: Sequence[int]) -> None:
    step = min(0.12, 0.7 / max(len(methods), 1))
    largest = 0.0
    for place, method in enumerate(methods):
        found: dict[int, Interval] = {row.edits: row.measures[name] for row in rows if _has(row, method, name)}
        shift = step * (place - (len(methods) - 1) / 2)
        there = [size for size in sizes if size in found]
        values: list[Any] = [found[size][0] for size in there]
        spreads = [spread(found[size]) for size in there]
        reach = [[below[0] for below, _ in spreads], [above[0] for _, above in spreads]]
        places = [sizes.index(size) + shift for size in there]
        largest = max([largest, *values])
        axes.plot(places, values, color=_look(place)["color"], linewidth=0.6, alpha=0.5)
        axes.errorbar(places, values, yerr=reach, **_look(place), linestyle="none", elinewidth=0.7)
    if name != _RATIO:
        axes.set_ylim(-0.05, 1.06)
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
        return
    axes.axhline(1.0, color=INK, linewidth=0.5)
    if largest > _LARGE:
        axes.set_yscale("log")
        # The usual labels of such an axis are formulas.
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _has(row: TrialSummary, method: str, name: str) -> bool:
    found = row.measures.get(name)
    return row.settings["method"] == method and found is not None and found[0] is not None
