"""Trials of edits: how they wear off as more are piled up, and what settings gain and cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..records.edits import Interval, TrialSummary
from .style import BLUE, DOUBLE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, YELLOW, new_figure, styled

_COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, YELLOW)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
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
def decay_figure(rows: Sequence[TrialSummary], caption: str) -> Figure:
    """Two panels of shares, with 95 % intervals over facts: what edits reach, and what else stays, by their number.

    The first place is the mean of facts that were edited alone; the others are piles of edits. Open grey marks are
    random neurons.

    Args:
        rows: of a bench.
        caption: settings, written below.
    """
    counts = sorted({row.edits for row in rows if row.part == "cumulative"})
    labels = ["alone", *(f"{count:,}" for count in counts)]
    figure = new_figure(DOUBLE, 2.9, caption)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (title, lines) in zip(panels, _DECAY, strict=True):
        for number, (name, (label, color, marker)) in enumerate(lines.items()):
            shift = 0.12 * (number - (len(lines) - 1) / 2)
            for weights in ("random neurons", "edit"):
                found = [_measure(rows, weights, count, name) for count in (None, *counts)]
                _line(axes, found, shift, color if weights == "edit" else GREY, marker, label, weights == "edit")
        axes.set_title(title)
        axes.set_xticks(range(len(labels)), labels)
        axes.set_xlabel("edits at once")
        axes.set_ylim(-0.04, 1.04)
        axes.grid(axis="y")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=1)
    panels[0].set_ylabel("share of prompts")
    return figure


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
    label: str,
    own: bool,
) -> None:
    places = [place for place, interval in enumerate(found) if interval is not None and interval[0] is not None]
    intervals: list[Any] = [found[place] for place in places]
    values = [interval[0] for interval in intervals]
    spreads = [_spread(interval) for interval in intervals]
    spread = [[below[0] for below, _ in spreads], [above[0] for _, above in spreads]]
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
        yerr=spread,
        color=color,
        marker=marker,
        markersize=4,
        markerfacecolor=color if own else "white",
        linestyle="none",
        elinewidth=0.7,
        label=label if own else None,
    )


@styled
def sweep_figure(rows: Sequence[TrialSummary], caption: str) -> Figure:
    """Success against collateral, for each setting: changed answers of the relation's other facts, and of others.

    Colours are the numbers of neurons changed, markers all other settings; bars are 95 % intervals over facts.

    Args:
        rows: of a sweep.
        caption: settings, written below.
    """
    cells = [row for row in rows if row.weights == "edit"]
    sizes = sorted({row.settings["neurons"] for row in cells}, key=lambda size: (size is None, size or 0))
    others = list(dict.fromkeys(_others(row.settings, cells) for row in cells))
    figure = new_figure(DOUBLE, 3.0, caption)
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"intra_locality": "the relation's other facts", "inter_locality": "facts of other relations"}
    for axes, (name, title) in zip(panels, titles.items(), strict=True):
        for row in cells:
            success, kept = row.measures.get("success"), row.measures.get(name)
            if success is None or kept is None or success[0] is None or kept[0] is None:
                continue
            axes.errorbar(
                [1 - kept[0]],
                [success[0]],
                xerr=_spread(kept)[::-1],
                yerr=_spread(success),
                color=_COLORS[sizes.index(row.settings["neurons"]) % len(_COLORS)],
                marker=_MARKERS[others.index(_others(row.settings, cells)) % len(_MARKERS)],
                markersize=5,
                elinewidth=0.5,
                linestyle="none",
            )
        axes.set_title(title)
        axes.set_xlabel("collateral: share of answers changed")
        right = axes.get_xlim()[1]
        axes.set_xlim(-0.03 * right, right)
        axes.set_ylim(-0.04, 1.04)
        axes.grid()
    panels[0].set_ylabel("success: share of prompts\nwith the new answer")
    handles = [
        Line2D([], [], color=_COLORS[number % len(_COLORS)], marker="o", linestyle="none", label=_size(size))
        for number, size in enumerate(sizes)
    ]
    handles += [
        Line2D([], [], color=GREY, marker=_MARKERS[number % len(_MARKERS)], linestyle="none", label=other)
        for number, other in enumerate(others)
        if other
    ]
    figure.legend(handles=handles, loc="outside right upper", fontsize=7)
    return figure


def _spread(interval: Interval) -> list[list[float]]:
    """How far an interval reaches below its value, and above."""
    value, low, high = interval
    if value is None or low is None or high is None:
        return [[0.0], [0.0]]
    return [[value - low], [high - value]]


def _size(size: int | None) -> str:
    return "all neurons" if size is None else f"{size} neuron{'s' if size > 1 else ''}"


def _others(settings: Mapping[str, Any], cells: Sequence[TrialSummary]) -> str:
    """The settings in which cells differ, but for the number of neurons."""
    words = []
    for name, value in settings.items():
        if name == "neurons" or len({json.dumps(cell.settings.get(name)) for cell in cells}) < 2:
            continue
        words.append(f"{_NAMES.get(name, name)} {value:g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(words)


_NAMES = {"lambda_old": "λ₁", "lambda_new": "λ₂", "keep": "β", "max_share": "max share"}
