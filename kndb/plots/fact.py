"""One fact: which neurons its prompts vote for, which of them are kept, and how near the others came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ..records.figures import PLAIN, FigureOptions
from ..records.models import Neuron
from ..records.queries import FactFindings, FactScores, Votes
from .style import (
    BLUE,
    DOUBLE,
    GREY,
    INK,
    LIGHT_GREY,
    ORANGE,
    SINGLE,
    VERMILION,
    NotebookFigure,
    new_figure,
    styled,
)

KEPT, LEFT_OUT = 20, 10
"""Neurons drawn at most: of those kept, with the most votes; of those left out, nearest to being kept."""
_COLUMN = 1.35
"""Inches that a column of the legend takes."""
_HATCH = "//////"
_HEADING = 1.0
"""Rows that a group's heading takes."""


@dataclass(frozen=True)
class _Group:
    """Neurons under one heading, with the place of each and of the heading, from the top down."""

    heading: str
    rows: Sequence[Votes]
    top: float

    @property
    def places(self) -> list[float]:
        return [self.top + _HEADING + index for index in range(len(self.rows))]


@styled
def fact_figure(
    findings: FactFindings, caption: str, options: FigureOptions = PLAIN, *, scores: FactScores | None = None
) -> NotebookFigure:
    """The prompts whose coarse sets hold each neuron, against the number needed; and each prompt's score of it.

    Neurons that the refinement left out stand below those that it kept, those nearest to being kept first: too few
    prompts' coarse sets hold them; or none, as no prompt's score reaches the threshold.

    Args:
        findings: of the fact; neurons whose number of votes nobody knows are left out.
        caption: settings, written below.
        options: title (else the fact), size, and whether there is a caption.
        scores: each prompt's scores, as far as they are stored; None draws the votes alone.
    """
    groups = _groups(findings, scores)
    places = [place for group in groups for place in group.places]
    width = SINGLE if scores is None else DOUBLE
    height = 1.3 + 0.155 * (max(places) + 1)
    figure = new_figure(width, height, caption, options, title=findings.fact.title)
    if scores is None:
        votes = figure.plots.add_subplot()
    else:
        votes, dots = figure.plots.subplots(1, 2, sharey=True)
        _draw_scores(dots, groups, scores)
    _draw_votes(votes, groups, findings)
    rows = [row for group in groups for row in group.rows]
    votes.set_yticks(places, [str(Neuron(row.layer, row.neuron)) for row in rows], fontsize=7)
    for name, row in zip(votes.get_yticklabels(), rows, strict=True):
        name.set_color(INK if row.kept else GREY)
    votes.set_ylim(max(places) + 0.7, -0.7)
    figure.legend_outside(handles=_legend(rows, findings, scores), ncols=max(1, int(figure.get_figwidth() / _COLUMN)))
    return figure


def _groups(findings: FactFindings, scores: FactScores | None) -> list[_Group]:
    known = [row for row in findings.votes if row.prompts is not None]
    kept = sorted((row for row in known if row.kept), key=_order)
    out = [row for row in known if not row.kept]
    if scores is not None:
        voted = {(row.layer, row.neuron) for row in findings.votes}
        out += [
            Votes(layer, neuron, 0, None, kept=False, mean_score=sum(shares) / len(shares))
            for (layer, neuron), shares in scores.shares.items()
            if (layer, neuron) not in voted
        ]

    def nearness(row: Votes) -> tuple[float, float, int, int]:
        shares = () if scores is None else scores.shares.get((row.layer, row.neuron), ())
        return -(row.prompts or 0), -sum(shares) or -(row.mean_score or 0.0), row.layer, row.neuron

    out.sort(key=nearness)
    groups, top = [], 0.0
    for name, rows, most, which in (("kept", kept, KEPT, "most votes"), ("left out", out, LEFT_OUT, "nearest")):
        if rows:
            cut = f"{name}: {most} of {len(rows):,}, {which} first" if len(rows) > most else f"{name}: {len(rows):,}"
            groups.append(_Group(cut, rows[:most], top))
            top = groups[-1].places[-1] + 1.3
    return groups


def _draw_votes(axes: Axes, groups: Sequence[_Group], findings: FactFindings) -> None:
    for group in groups:
        for place, row in zip(group.places, group.rows, strict=True):
            axes.barh(
                place,
                row.prompts or 0,
                height=0.72,
                color=BLUE if row.kept else LIGHT_GREY,
                edgecolor=BLUE if row.kept else INK,
                linewidth=0.3,
                hatch=None if row.kept else _HATCH,
            )
        axes.text(
            0.01,
            group.top,
            group.heading,
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=7.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
            in_layout=False,
        )
    needed = _needed(findings)
    if needed is not None:
        axes.axvline(needed, color=VERMILION, linewidth=1.2, linestyle="--")
    asked = sum(prompt.coarse_set is not None for prompt in findings.prompts)
    most = max([asked, needed or 0, *(row.prompts or 0 for group in groups for row in group.rows)])
    axes.set_xlim(0, most * 1.02 or 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="x", color=GREY, alpha=0.3)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("prompts whose coarse set\nholds the neuron")
    axes.set_ylabel("neuron")


def _draw_scores(axes: Axes, groups: Sequence[_Group], scores: FactScores) -> None:
    """A mark for each prompt."""
    for group in groups:
        for place, row in zip(group.places, group.rows, strict=True):
            found = scores.shares.get((row.layer, row.neuron), ())
            axes.plot(
                found,
                [place] * len(found),
                linestyle="none",
                marker="o",
                markersize=3.2,
                color=BLUE if row.kept else GREY,
                markerfacecolor=BLUE if row.kept else "white",
                markeredgewidth=0.7,
                alpha=0.75,
                clip_on=False,
            )
    axes.axvline(scores.threshold, color=ORANGE, linewidth=1.2, linestyle="--")
    axes.axvspan(0, scores.floor, color="#F2F2F2", linewidth=0)
    axes.set_xlim(0, 1.02)
    axes.grid(axis="x", color=GREY, alpha=0.3)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("score ÷ the prompt's\nlargest score")


def _legend(rows: Sequence[Votes], findings: FactFindings, scores: FactScores | None) -> list[Patch | Line2D]:
    handles: list[Patch | Line2D] = []
    if any(row.kept for row in rows):
        handles.append(Patch(facecolor=BLUE, label="kept"))
    if not all(row.kept for row in rows):
        handles.append(Patch(facecolor=LIGHT_GREY, edgecolor=INK, hatch=_HATCH, linewidth=0.3, label="left out"))
    needed = _needed(findings)
    if needed is not None:
        handles.append(_dashed(VERMILION, f"prompts needed: {needed:g}"))
    if scores is not None:
        handles.append(_dashed(ORANGE, f"coarse set from {scores.threshold:g} on"))
        handles.append(Patch(facecolor="#F2F2F2", edgecolor=LIGHT_GREY, label=f"not stored: below {scores.floor:g}"))
    return handles


def _dashed(color: str, label: str) -> Line2D:
    return Line2D([], [], color=color, linewidth=1.2, linestyle="--", label=label)


def _needed(findings: FactFindings) -> float | None:
    return next((row.needed for row in findings.votes if row.needed is not None), None)


def _order(row: Votes) -> tuple[int, float, int, int]:
    return -(row.prompts or 0), -(row.mean_score or 0.0), row.layer, row.neuron
