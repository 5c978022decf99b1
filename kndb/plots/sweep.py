"""What settings of edits gain and cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from matplotlib.transforms import ScaledTranslation

from ..records.edits import Interval, TrialSummary
from ..records.figures import PLAIN, FigureOptions
from .intervals import spread
from .style import (
    BLUE,
    DOUBLE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    NotebookFigure,
    new_figure,
    styled,
)

_COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, YELLOW)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_MARK = 5.0
"""Size of a sweep's marks, in points."""


@styled
def sweep_figure(rows: Sequence[TrialSummary], caption: str, options: FigureOptions = PLAIN) -> NotebookFigure:
    """Success against collateral, for each setting: changed answers of the relation's other facts, and of others.

    Colours are the numbers of neurons changed, markers all other settings; bars are 95 % intervals over facts. Marks
    that would cover each other stand side by side, about their place.

    Args:
        rows: of a sweep.
        caption: settings, written below.
        options: title, size, and whether there is a caption.
    """
    cells = [row for row in rows if row.weights == "edit"]
    sizes = sorted({row.settings["neurons"] for row in cells}, key=lambda size: (size is None, size or 0))
    others = list(dict.fromkeys(_others(row.settings, cells) for row in cells))
    figure = new_figure(DOUBLE, 3.0, caption, options)
    panels = figure.plots.subplots(1, 2, sharey=True)
    titles = {"intra_locality": "the relation's other facts", "inter_locality": "facts of other relations"}
    looks = [
        (
            _COLORS[sizes.index(row.settings["neurons"]) % len(_COLORS)],
            _MARKERS[others.index(_others(row.settings, cells)) % len(_MARKERS)],
        )
        for row in cells
    ]
    points: dict[str, list[_Point]] = {}
    for axes, (name, title) in zip(panels, titles.items(), strict=True):
        found = (_point(row, name, *look) for row, look in zip(cells, looks, strict=True))
        points[name] = [point for point in found if point is not None]
        axes.set_title(title)
        axes.set_xlabel("collateral: answers changed")
        axes.set_xlim(*_limits(points[name]))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
        axes.set_ylim(-0.04, 1.06)
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
        axes.grid()
    panels[0].set_ylabel("success: prompts with the new answer")
    figure.legend_outside(handles=_keys(sizes, others), place="right upper", fontsize=7)
    # Which marks cover each other can be told once the panels have their place.
    figure.draw_without_rendering()
    moved = [_draw(axes, points[name]) for axes, name in zip(panels, titles, strict=True)]
    if any(moved):
        for axes in panels:
            axes.set_xlabel(f"{axes.get_xlabel()}\n(marks that coincide stand side by side)")
    return figure


@dataclass(frozen=True)
class _Point:
    """A setting's mark: collateral and success with their intervals, and how it looks."""

    across: Interval
    up: Interval
    color: str
    marker: str

    @property
    def place(self) -> tuple[float, float]:
        return self.across[0] or 0.0, self.up[0] or 0.0


def _point(row: TrialSummary, name: str, color: str, marker: str) -> _Point | None:
    success, kept = row.measures.get("success"), row.measures.get(name)
    if success is None or kept is None or success[0] is None:
        return None
    value, low, high = kept
    if value is None:
        return None
    changed = (1 - value, None if high is None else 1 - high, None if low is None else 1 - low)
    return _Point(changed, success, color, marker)


def _limits(points: Sequence[_Point]) -> tuple[float, float]:
    """From a little below no collateral to a little above the highest end of an interval."""
    right = max([*(point.across[2] or point.across[0] or 0.0 for point in points), 1e-4])
    return -0.06 * right, 1.06 * right


def _draw(axes: Axes, points: Sequence[_Point]) -> bool:
    """Draws marks, those that would cover each other side by side; tells whether there are such."""
    shifts = _side_by_side([tuple(axes.transData.transform(point.place)) for point in points], axes.figure.dpi / 72)
    for point, shift in zip(points, shifts, strict=True):
        moved = axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
        axes.errorbar(
            [point.place[0]],
            [point.place[1]],
            xerr=spread(point.across),
            yerr=spread(point.up),
            color=point.color,
            ecolor=(point.color, 0.55),
            marker=point.marker,
            markersize=_MARK,
            markeredgecolor="white",
            markeredgewidth=0.4,
            elinewidth=0.6,
            linestyle="none",
            transform=moved,
        )
    return any(shifts)


def _side_by_side(places: Sequence[tuple[float, ...]], dots: float) -> list[float]:
    """How far each mark moves to the right, in points, so that none covers another.

    Args:
        places: where marks belong, in dots.
        dots: in a point.
    """
    shifts = [0.0] * len(places)
    groups: list[list[int]] = []
    for number in sorted(range(len(places)), key=lambda index: places[index]):
        x, y = places[number]
        near = [
            group
            for group in groups
            if any(abs(x - places[one][0]) < _MARK * dots and abs(y - places[one][1]) < _MARK * dots for one in group)
        ]
        joined = [one for group in near for one in group] + [number]
        groups = [group for group in groups if group not in near] + [joined]
    for group in groups:
        middle = sum(places[one][0] for one in group) / len(group)
        for index, one in enumerate(group):
            if len(group) > 1:
                shifts[one] = (middle - places[one][0]) / dots + (index - (len(group) - 1) / 2) * (_MARK + 1)
    return shifts


def _keys(sizes: Sequence[int | None], others: Sequence[str]) -> list[Line2D]:
    handles = [
        Line2D([], [], color=_COLORS[number % len(_COLORS)], marker="o", linestyle="none", label=_size(size))
        for number, size in enumerate(sizes)
    ]
    handles += [
        Line2D([], [], color=GREY, marker=_MARKERS[number % len(_MARKERS)], linestyle="none", label=other)
        for number, other in enumerate(others)
        if other
    ]
    handles.append(
        Line2D(
            [], [], color=GREY, marker="+", markersize=8, markeredgewidth=0.7, linestyle="none", label="95 % intervals"
        )
    )
    return handles


def _size(size: int | None) -> str:
    return "all neurons" if size is None else f"{size} neuron{'s' if size > 1 else ''}"


def _others(settings: Mapping[str, Any], cells: Sequence[TrialSummary]) -> str:
    """The settings in which cells differ, but for the number of neurons."""
    words = []
    for name, value in settings.items():
        if name == "neurons" or len({json.dumps(cell.settings.get(name)) for cell in cells}) < 2:
            continue
        words.append(f"{_NAMES.get(name, name)} {f'{value:g}' if isinstance(value, float) else value}")
    return ", ".join(words)


_NAMES = {"lambda_old": "λ₁", "lambda_new": "λ₂", "keep": "β", "max_share": "max share"}
