"""The figures of `benchmarks/scaling.py`: cost against size, both on logarithmic axes, in the style of kndb's plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from kndb.plots.style import BLUE, DOUBLE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, new_figure, save, styled

from .measuring import Point

_LOOKS = tuple(zip((BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY), "os^DvP", strict=True))
_CURVES = {
    "scores": (
        ("writing", "refine", "refine --relation"),
        ("query overlap", "query shared", "query neuron", "query counts", "query layers", "query fact"),
    ),
    "edits": (
        ("edit verify", "checkout, of all edits", "edit list", "edit log"),
        ("edit apply", "edit revert", "checkout, of one edit", "checkout status", "edit verify 1", "edit show 1"),
    ),
    "facts": (
        ("ingest", "ingest again"),
        ("query overlap", "query shared", "query facts --subject", "query relations", "query fact"),
    ),
}
"""By part, the curves of its two panels: those whose work is all that there is, and those that ask for little."""


def draw(points: Sequence[Point], folder: Path) -> list[Path]:
    """Draws a figure for each part that has points; the files."""
    made = []
    for part in dict.fromkeys(point.part for point in points):
        of_part = [point for point in points if point.part == part]
        figure = _attribution(of_part) if part == "attribution" else _two_panels(part, of_part)
        made.append(save(figure, folder / f"cost-{part}.svg"))
    return made


@styled
def _attribution(points: Sequence[Point]) -> object:
    figure = new_figure(DOUBLE, 2.1, "")
    names = ("prompts", "layers", "width", "tokens")
    kinds = ("masked model", "causal model", "lab-bert")
    panels = figure.plots.subplots(1, len(names), sharey=True)
    for axes, along in zip(panels, names, strict=True):
        for kind, look in zip(kinds, _LOOKS, strict=False):
            _curve(axes, [one for one in points if (one.along, one.what) == (along, kind)], kind, look)
        _axes(axes, along, [one for one in points if one.along == along])
        _slopes(axes, points=[one for one in points if one.along == along and one.what == kinds[0]])
    panels[0].set_ylabel("processor seconds")
    handles = [line for line in panels[0].get_lines() if line.get_label() in kinds]
    figure.legend_outside(handles=handles, place="upper left", ncols=len(kinds))
    return figure


@styled
def _two_panels(part: str, points: Sequence[Point]) -> object:
    figure = new_figure(DOUBLE, 2.9, "")
    panels = figure.plots.subplots(1, 2)
    for axes, curves in zip(panels, _CURVES[part], strict=True):
        drawn = [one for one in points if one.what in curves]
        for what, look in zip(curves, _LOOKS, strict=False):
            _curve(axes, [one for one in drawn if one.what == what], what, look)
        _axes(axes, part, drawn)
        _slopes(axes, points=[one for one in drawn if one.what == curves[0]])
        axes.legend(loc="upper left", fontsize=7)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * (high / low) ** 0.6)  # room for the legend
    panels[0].set_ylabel("processor seconds")
    return figure


def _curve(axes: Axes, points: Sequence[Point], label: str, look: tuple[str, str]) -> None:
    if points:
        color, marker = look
        sizes = [point.size for point in points]
        axes.plot(sizes, [point.cpu_seconds for point in points], color=color, marker=marker, ms=3.5, lw=1, label=label)


def _axes(axes: Axes, along: str, points: Sequence[Point]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(along)
    axes.xaxis.set_minor_formatter(NullFormatter())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_number))
    axes.grid()
    sizes = sorted({point.size for point in points})
    if sizes and sizes[-1] / sizes[0] < 100:  # few decades: name the sizes themselves
        axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
        axes.minorticks_off()


def _number(value: float, _: object) -> str:
    for least, letter in ((1e6, " M"), (1e3, " k")):
        if value >= least:
            return f"{value / least:g}{letter}"
    return f"{value:g}"


def _slopes(axes: Axes, points: Sequence[Point]) -> None:
    """A grey line that grows as the size does, and a dotted one that grows as its square, from the first point on."""
    if len(points) < 2:
        return
    first, last = points[0], points[-1]
    for power, style in ((1, "-"), (2, ":")):
        end = first.cpu_seconds * (last.size / first.size) ** power
        if math.isfinite(end) and end < 30 * max(point.cpu_seconds for point in points):
            axes.plot([first.size, last.size], [first.cpu_seconds, end], color=GREY, ls=style, lw=0.8, zorder=0)
