"""How edits wear off as more are piled up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D

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
    SKY,
    VERMILION,
    NotebookFigure,
    new_figure,
    styled,
)

_DECAY = (
    ("edited facts", {"success": ("success", BLUE, "o"), "paraphrase": ("on held-out templates", SKY, "s")}),
    (
        "all other facts",
        {
            "neighbourhood": ("neighbours keep their answer", GREEN, "^"),
            "intra_locality": ("same relations: as unedited", ORANGE, "D"),
            "inter_locality": ("other relations: as unedited", VERMILION, "v"),
        },
    ),
)


@styled
def decay_figure(rows: Sequence[TrialSummary], caption: str, options: FigureOptions = PLAIN) -> NotebookFigure:
    """Two panels of shares, with 95 % intervals over facts: what edits reach, and what else stays, by their number.

    The first place is the mean of facts that were edited alone; the others are piles of edits. Open grey marks are as
    many random neurons, those of a shape with the measure of the same shape.

    Args:
        rows: of a bench.
        caption: settings, written below.
        options: title, size, and whether there is a caption.
    """
    counts = sorted({row.edits for row in rows if row.part == "cumulative"})
    labels = ["alone", *(f"{count:,}" for count in counts)]
    figure = new_figure(DOUBLE, 3.2, caption, options)
    panels = figure.plots.subplots(1, 2, sharey=True)
    for axes, (title, lines) in zip(panels, _DECAY, strict=True):
        for number, (name, (_, color, marker)) in enumerate(lines.items()):
            shift = 0.12 * (number - (len(lines) - 1) / 2)
            for weights in ("random neurons", "edit"):
                found = [_measure(rows, weights, count, name) for count in (None, *counts)]
                _line(axes, found, shift, color if weights == "edit" else GREY, marker, own=weights == "edit")
        axes.set_title(title)
        axes.set_xticks(range(len(labels)), labels)
        axes.set_xlabel("edits at once")
        axes.set_ylim(-0.05, 1.06)
        axes.grid(axis="y")
        _explain(axes, lines, control=any(row.weights != "edit" for row in rows))
    panels[0].set_ylabel("share of prompts")
    return figure


def _explain(axes: Axes, lines: Mapping[str, tuple[str, str, str]], *, control: bool) -> None:
    """The panel's legend: what each colour, shape and bar is."""
    handles: list[Any] = []
    labels = []
    for label, color, marker in lines.values():
        handles.append(Line2D([], [], color=color, marker=marker, markersize=4, linewidth=1.0))
        labels.append(label)
    if control:
        words: dict[str, Any] = {"color": GREY, "markerfacecolor": "white", "linewidth": 0.7, "linestyle": ":"}
        handles.append(tuple(Line2D([], [], marker=marker, markersize=4, **words) for _, _, marker in lines.values()))
        labels.append("the same, random neurons")
    handles.append(Line2D([], [], color=INK, marker="|", markersize=8, linestyle="none", markeredgewidth=0.7))
    labels.append("95 % interval over facts")
    side_by_side: dict[Any, Any] = {tuple: HandlerTuple(ndivide=None)}
    axes.legend(
        handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.24), handler_map=side_by_side, handlelength=2.6
    )


def _measure(rows: Sequence[TrialSummary], weights: str, count: int | None, name: str) -> Interval | None:
    """A measure after a number of edits; None stands for facts that were edited alone."""
    for row in rows:
        if row.weights == weights and (row.part == "single" if count is None else row.edits == count):
            if count is not None and row.part == "single":
                continue
            return row.measures.get(name)
    return None


def _line(
    axes: Axes,
    found: Sequence[Interval | None],
    shift: float,
    color: str,
    marker: str,
    *,
    own: bool,
) -> None:
    places = [place for place, interval in enumerate(found) if interval is not None and interval[0] is not None]
    intervals: list[Any] = [found[place] for place in places]
    values = [interval[0] for interval in intervals]
    spreads = [spread(interval) for interval in intervals]
    reach = [[below[0] for below, _ in spreads], [above[0] for _, above in spreads]]
    # What stands alone is not part of the pile: the line begins after it.
    axes.plot(
        [place + shift for place in places if place],
        [value for place, value in zip(places, values, strict=True) if place],
        color=color,
        linewidth=1.0 if own else 0.7,
        linestyle="-" if own else ":",
    )
    axes.errorbar(
        [place + shift for place in places],
        values,
        yerr=reach,
        color=color,
        marker=marker,
        markersize=4,
        markerfacecolor=color if own else "white",
        linestyle="none",
        elinewidth=0.7,
    )
