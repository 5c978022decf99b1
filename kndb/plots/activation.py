"""How active a fact's neurons are in texts that name the fact, its head alone, or neither."""

from __future__ import annotations

from collections.abc import Sequence

from ..records.figures import PLAIN, FigureOptions
from ..records.probes import TEXT_KINDS, ActivationSummary
from .style import BLUE, INK, LIGHT_GREY, ORANGE, NotebookFigure, label_relations, new_figure, styled, width_for

_LOOKS: dict[str, tuple[str, str | None, str]] = {
    "head-and-tail": (BLUE, None, "head and tail"),
    "head": (ORANGE, "//////", "head alone"),
    "neither": (LIGHT_GREY, None, "neither"),
}
"""Colour, hatch and name of each kind of text."""
_GAP = 0.6


@styled
def activation_figure(
    rows: Sequence[ActivationSummary], caption: str, options: FigureOptions = PLAIN
) -> NotebookFigure:
    """The mean activation of facts' knowledge neurons by kind of text; all facts together come first.

    Args:
        rows: one for each relation and kind; those of relation None are over all facts.
        caption: settings, written below.
        options: title, size, and whether there is a caption.
    """
    values = {(row.relation, row.kind): row.mean_activation for row in rows}
    relations = sorted({relation for relation, _ in values if relation is not None})
    groups: list[str | None] = [*([None] if any(key[0] is None for key in values) else []), *relations]
    gap = _GAP if groups[0] is None and relations else 0.0
    positions = [index + (gap if group is not None else 0.0) for index, group in enumerate(groups)]
    figure = new_figure(width_for(len(groups)), 2.6, caption, options)
    axes = figure.plots.add_subplot()
    kinds = [kind for kind in TEXT_KINDS if any(kind == found for _, found in values)]
    width = 0.84 / len(kinds)
    for index, kind in enumerate(kinds):
        color, hatch, name = _LOOKS[kind]
        shift = (index - (len(kinds) - 1) / 2) * width
        present = [
            (place + shift, values[group, kind])
            for place, group in zip(positions, groups, strict=True)
            if (group, kind) in values
        ]
        axes.bar(
            [place for place, _ in present],
            [value for _, value in present],
            width=width,
            color=color,
            edgecolor=INK if hatch else color,
            linewidth=0.3,
            hatch=hatch,
            label=name,
        )
    if gap:
        axes.axvline(0.5 + gap / 2, color="#BBBBBB", linewidth=0.6)
    axes.axhline(0, color=INK, linewidth=0.6)
    label_relations(axes, positions, [group or "all" for group in groups])
    axes.set_xlabel("relation")
    axes.set_ylabel("mean activation")
    axes.grid(axis="y")
    figure.legend_outside(ncols=3, title="texts that name")
    return figure
