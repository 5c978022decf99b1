"""The explorer's figures: bars of layers, the heat map of relations, the map of neurons. All SVG, made here.

Shades are classes `q0` (nothing) to `q9` of the style sheet: one hue, light to dark (in dark mode dark to light), so
that they are read without telling colours apart.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .svg import element, linked, picture

SHADES = 9
RANGE = 1_000
"""The largest value is at most so many times the upper end of the first shade's."""
LETTER = 7.2
"""Width of a letter of the figures' text, about, in units of a picture."""


class Shades:
    """Shades of values by their logarithms, so that small ones differ, too.

    Attributes:
        bounds: the largest value of each shade, from `q1` on; empty if there is no value above 0.
    """

    def __init__(self, values: Iterable[float | None]) -> None:
        above = [value for value in values if value is not None and value > 0]
        most = max(above, default=0.0)
        least = max(min(above, default=0.0), most / RANGE)
        steps = range(SHADES)
        self.bounds = [least * (most / least) ** (step / (SHADES - 1)) for step in steps] if above else []

    @property
    def most(self) -> float:
        """The largest value."""
        return self.bounds[-1] if self.bounds else 0.0

    def of(self, value: float | None) -> str:
        """The class of a value's shade; `q0` for nothing."""
        if value is None or value <= 0 or not self.bounds:
            return "q0"
        # The bounds are rounded: a value that is one lies within it.
        return f"q{min(SHADES, 1 + bisect_left(self.bounds, value * (1 - 1e-9)))}"


@dataclass(frozen=True)
class LayerBar:
    """A layer's bar: the number of (fact, neuron) pairs, its share of all, and of how many neurons."""

    layer: int
    pairs: int
    share: float
    neurons: int


def layer_bars(layers: Sequence[LayerBar], what: str, href: Callable[[int], str | None]) -> Markup:
    """A bar for each layer, the first on top: the share of (fact, neuron) pairs that lie in it, in per cent."""
    step, left, width = 22, 44, 560
    most = max((one.share for one in layers), default=0.0) or 1.0
    rows = []
    for place, one in enumerate(layers):
        y = place * step + 4
        length = (width - left - 110) * one.share / most
        said = f"layer {one.layer}: {one.share:.1%} of pairs ({one.pairs:,}), {one.neurons:,} different neurons"
        bar = Markup("").join(
            (
                element("rect", x=0, y=y - 4, width=width, height=step, class_="behind"),
                element("text", f"L{one.layer}", x=left - 8, y=y + 13, text_anchor="end"),
                element("rect", x=left, y=y, width=max(length, 0.5), height=step - 6, class_="bar"),
                element("text", f"{one.share:.1%}", x=left + length + 6, y=y + 13, class_="number"),
            )
        )
        rows.append(linked(bar, href(one.layer), said))
    described = "; ".join(f"layer {one.layer} {one.share:.1%}" for one in layers[:40])
    return picture(width, max(1, len(layers)) * step + 6, f"Layers of {what}", described, *rows, kind="bars")


def heat_map(
    keys: Sequence[str],
    labels: Mapping[str, str | None],
    means: Mapping[tuple[str, str], float | None],
    href: Callable[[str, str], str | None],
) -> Markup:
    """A cell for each pair of relations: the mean number of neurons that a fact of the one and one of the other share.

    Args:
        keys: relations in the order of rows and columns.
        labels: their names.
        means: by (row, column), both ways; None where no pair has a set.
        href: where a cell leads.
    """
    cell = max(9.0, min(24.0, 640 / max(1, len(keys))))
    margin = 14 + LETTER * min(12, max((len(key) for key in keys), default=1))
    shades = Shades(means.values())
    parts = []
    small = " small" if cell < 14 else ""
    for place, key in enumerate(keys):
        at = margin + (place + 0.5) * cell
        turned = f"rotate(-60 {at:.1f} {margin - 6:.1f})"
        parts.append(element("text", key[:12], x=margin - 6, y=at + 4, text_anchor="end", class_=f"name{small}"))
        parts.append(element("text", key[:12], x=at, y=margin - 6, transform=turned, class_=f"name{small}"))
    for y, one in enumerate(keys):
        for x, other in enumerate(keys):
            value = means.get((one, other))
            mean = "no pair of facts" if value is None else f"{value:.3g} neurons shared on average"
            said = f"{_named(one, labels)} × {_named(other, labels)}: {mean}"
            square = element(
                "rect",
                x=margin + x * cell,
                y=margin + y * cell,
                width=cell - 1,
                height=cell - 1,
                class_=shades.of(value),
            )
            parts.append(linked(square, href(one, other), said, data_row=y, data_column=x))
    side = margin + len(keys) * cell + 4
    height = side + 46
    parts.append(_legend(max(margin, 64), side + 14, shades, "neurons shared by two facts, mean"))
    title = "Neurons that two facts share, relation × relation"
    described = f"{len(keys)} relations; the largest mean is {shades.most:.3g}. The table below has every pair."
    return picture(max(side, 420), height, title, described, *parts, kind="heat")


def _named(key: str, labels: Mapping[str, str | None]) -> str:
    label = labels.get(key)
    return f"{key} {label}" if label else key


def _legend(x: float, y: float, shades: Shades, unit: str) -> Markup:
    edges = shades.bounds
    if not edges:
        return element("g")
    parts = [element("text", f"{edges[0]:.3g}", x=x - 4, y=y + 11, text_anchor="end", class_="number")]
    for number, edge in enumerate(edges):
        said = element("title", f"up to {edge:.3g}")
        at = x + number * 26
        parts.append(element("rect", said, x=at, y=y, width=25, height=14, class_=f"q{number + 1}"))
    parts.append(element("text", f"{edges[-1]:.3g}", x=x + len(edges) * 26 + 4, y=y + 11, class_="number"))
    parts.append(element("text", unit, x=x, y=y + 30))
    return element("g", *parts, class_="legend")


@dataclass(frozen=True)
class MapCell:
    """Neurons of a layer, `first` to `last`, and the facts that hold the most widely held of them.

    Attributes:
        held: how many of them some fact holds.
        most: the largest number of facts that hold one of them; `name`: that neuron.
    """

    layer: int
    first: int
    last: int
    held: int
    most: int
    name: str


def neuron_map(cells: Sequence[Sequence[MapCell]], href: Callable[[MapCell], str | None]) -> Markup:
    """A row for each layer, a cell for some neurons next to each other: how many facts hold the most held of them."""
    columns = max((len(row) for row in cells), default=1)
    width, left, height = 900.0, 46.0, max(12.0, min(30.0, 420 / max(1, len(cells))))
    cell = (width - left - 4) / columns
    shades = Shades(one.most for row in cells for one in row)
    parts = []
    for y, row in enumerate(cells):
        if not row:
            continue
        name = f"L{row[0].layer}"
        parts.append(element("text", name, x=left - 6, y=(y + 0.5) * height + 5, text_anchor="end", class_="name"))
        for x, one in enumerate(row):
            whole = one.first == one.last
            which = f"L{one.layer}.N{one.first}" if whole else f"L{one.layer}.N{one.first}–{one.last}"
            more = "" if whole else f", at most ({one.name}); {one.held} of these neurons held"
            said = f"{which}: held by {one.most:,} fact{'' if one.most == 1 else 's'}{more}"
            square = element(
                "rect",
                x=left + x * cell,
                y=y * height,
                width=max(0.5, cell - (0.6 if cell > 3 else 0)),
                height=height - 1,
                class_=shades.of(one.most),
            )
            parts.append(linked(square, href(one) if one.held else None, said, data_row=y, data_column=x))
    bottom = len(cells) * height
    first, last = (cells[0][0].first, cells[0][-1].last) if cells and cells[0] else (0, 0)
    parts.append(element("text", f"N{first}", x=left, y=bottom + 14, class_="number"))
    parts.append(element("text", f"N{last}", x=width - 4, y=bottom + 14, text_anchor="end", class_="number"))
    parts.append(_legend(left, bottom + 26, shades, "facts that hold a neuron"))
    described = f"{len(cells)} layers, neurons {first} to {last}; at most {shades.most:,.0f} facts hold one."
    return picture(width, bottom + 64, "Neurons × layers", described, *parts, kind="map")


def clustered(keys: Sequence[str], means: Mapping[tuple[str, str], float | None]) -> list[str]:
    """An order in which relations that share much lie next to each other: average linkage, leaves as they merge.

    Similarity is the mean of a pair ÷ the geometric mean of both relations' own; two clusters' that of their pairs.
    """
    own = {key: means.get((key, key)) or 0.0 for key in keys}

    def alike(one: str, other: str) -> float:
        below = math.sqrt(own[one] * own[other])
        return (means.get((one, other)) or 0.0) / below if below else 0.0

    groups: list[list[str]] = [[key] for key in keys]
    near = [[alike(one, other) for other in keys] for one in keys]
    while len(groups) > 1:
        pairs = ((near[i][j], -i, -j) for i in range(len(groups)) for j in range(i + 1, len(groups)))
        _, i, j = max(pairs)
        i, j = -i, -j
        a, b = len(groups[i]), len(groups[j])
        merged = [(near[i][k] * a + near[j][k] * b) / (a + b) for k in range(len(groups))]
        first, second = groups[i], groups[j]
        if alike(first[0], second[0]) > alike(first[-1], second[0]):
            first = first[::-1]
        groups[i] = first + second
        for k in range(len(groups)):
            near[i][k] = near[k][i] = merged[k]
        del groups[j], near[j]
        for row in near:
            del row[j]
    return groups[0] if groups else []
