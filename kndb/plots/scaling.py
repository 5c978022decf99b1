"""What suppressing or amplifying neurons does to answers, relation by relation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes

from ..records.figures import PLAIN, FigureOptions
from ..records.probes import ARMS, ProbeSummary
from .style import BLUE, INK, LIGHT_GREY, ORANGE, NotebookFigure, label_relations, new_figure, styled, width_for

_LOOKS: dict[str, tuple[str, str | None]] = {
    "knowledge": (BLUE, None),
    "random": (LIGHT_GREY, None),
    "activation": (ORANGE, "//////"),
}
"""Colour and hatch of each arm."""
_GAP = 0.6
"""Between the mean and the relations."""


@styled
def scaling_figure(rows: Sequence[ProbeSummary], caption: str, options: FigureOptions = PLAIN) -> NotebookFigure:
    """Two panels: the relative change of the answer's probability, and the share of prompts whose answer flips.

    Where no answer flips there is one panel, which says so. Only prompts of the facts themselves count. Relations go by
    what scaling their knowledge neurons does, the largest effect first; their mean comes before them.

    Args:
        rows: of one probe, with those of relation None (the mean over relations).
        caption: settings, written below.
        options: title, size, and whether there is a caption.
    """
    own = {(row.relation, row.neurons_from): row for row in rows if row.prompts_of == "own"}
    relations = sorted({relation for relation, _ in own if relation is not None}, key=lambda key: _order(own, key))
    arms = [arm for arm in ARMS if any(arm == found for _, found in own)]
    groups: list[str | None] = [None, *relations]
    positions = [0.0, *(index + 1 + _GAP for index in range(len(relations)))]
    flipped = any(row.flips for row in own.values())
    figure = new_figure(width_for(len(groups)), 3.6 if flipped else 2.6, caption, options)
    panels = figure.plots.subplots(2, 1, sharex=True, height_ratios=[3, 2]) if flipped else [figure.plots.add_subplot()]
    change, last = panels[0], panels[-1]
    _bars(change, own, groups, positions, arms, lambda row: 100 * row.change)
    change.axhline(0, color=INK, linewidth=0.6)
    change.set_ylabel("relative change of the\nanswer's probability (%)")
    if flipped:
        _bars(last, own, groups, positions, arms, lambda row: 100 * row.flips)
        last.set_ylabel("prompts whose\nanswer flips (%)")
        # A few flips of thousands of prompts are to look like a few.
        last.set_ylim(0, max(1.0, last.get_ylim()[1]))
    else:
        change.set_title("no prompt's answer flips", loc="right", fontsize=8)
    label_relations(last, positions, [group or "mean" for group in groups])
    last.set_xlabel("relation")
    for axes in panels:
        axes.axvline(0.5 + _GAP / 2, color="#BBBBBB", linewidth=0.6)
        axes.grid(axis="y")
        axes.tick_params(axis="x", length=0)
    change.spines["bottom"].set_visible(False)
    handles, labels = change.get_legend_handles_labels()
    figure.legend_outside(handles=handles, labels=labels, ncols=3, title="neurons scaled")
    return figure


def _bars(
    axes: Axes,
    own: dict[tuple[str | None, str], ProbeSummary],
    groups: Sequence[str | None],
    positions: Sequence[float],
    arms: Sequence[str],
    value: Callable[[ProbeSummary], float],
) -> None:
    width = 0.84 / len(arms)
    for index, arm in enumerate(arms):
        color, hatch = _LOOKS[arm]
        shift = (index - (len(arms) - 1) / 2) * width
        present = [
            (place + shift, own[group, arm])
            for place, group in zip(positions, groups, strict=True)
            if (group, arm) in own
        ]
        axes.bar(
            [place for place, _ in present],
            [value(row) for _, row in present],
            width=width,
            color=color,
            edgecolor=INK if hatch else color,
            linewidth=0.3,
            hatch=hatch,
            label=arm,
        )


def _order(own: dict[tuple[str | None, str], ProbeSummary], relation: str) -> tuple[float, str]:
    row = own.get((relation, "knowledge"))
    effect = abs(row.change) if row is not None and math.isfinite(row.change) else -1.0
    return -effect, relation
