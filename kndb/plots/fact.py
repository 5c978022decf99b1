"""One fact: which neurons its prompts vote for."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ..records.models import Neuron
from ..records.queries import FactFindings, Votes
from .style import BLUE, GREY, INK, LIGHT_GREY, SINGLE, VERMILION, fold, new_figure, styled

TOP = 20
"""Neurons drawn, those with the most votes."""
_LEFT_TO_RIGHT = "\u200e"
"""Names in other directions keep theirs, the line as a whole does not take it over."""


@styled
def fact_figure(findings: FactFindings, caption: str) -> Figure:
    """The prompts whose coarse sets hold each neuron, against the number that the refinement needed.

    Args:
        findings: of the fact; neurons without a number of votes are left out.
        caption: settings, written below.
    """
    votes = sorted((row for row in findings.votes if row.prompts is not None), key=_order)[:TOP]
    title = fold(findings.fact.title, SINGLE - 0.4, 9, most=3)
    figure = new_figure(SINGLE, 1.25 + 0.155 * len(votes) + 0.15 * len(title), caption)
    axes = figure.add_subplot()
    for place, row in enumerate(votes):
        axes.barh(
            place,
            row.prompts or 0,
            height=0.72,
            color=BLUE if row.kept else LIGHT_GREY,
            edgecolor=INK if not row.kept else BLUE,
            linewidth=0.3,
            hatch=None if row.kept else "//////",
        )
    handles = [Patch(facecolor=BLUE, label="kept")]
    if not all(row.kept for row in votes):
        handles.append(Patch(facecolor=LIGHT_GREY, edgecolor=INK, hatch="//////", linewidth=0.3, label="left out"))
    needed = next((row.needed for row in votes if row.needed is not None), None)
    if needed is not None:
        line = axes.axvline(needed, color=VERMILION, linewidth=1.2, linestyle="--", label=f"needed: {needed:g}")
        handles.append(line)  # type: ignore[arg-type]
    axes.set_yticks(range(len(votes)), [str(Neuron(row.layer, row.neuron)) for row in votes], fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, max([len(findings.prompts), needed or 0, *(row.prompts or 0 for row in votes)]) * 1.02 or 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="x", color=GREY, alpha=0.3)
    axes.set_xlabel("prompts whose coarse set holds the neuron")
    axes.set_ylabel("neuron")
    figure.suptitle("\n".join(_LEFT_TO_RIGHT + line for line in title), x=0.05 / SINGLE, ha="left", fontsize=9)
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def _order(row: Votes) -> tuple[int, float, int, int]:
    return -(row.prompts or 0), -(row.mean_score or 0.0), row.layer, row.neuron
