"""The explorer's figures: bars of layers, the heat map of relations, the map of neurons. All SVG, made here.

Shades are classes `q0` (nothing) to `q9` of the style sheet: one hue, light to dark (in dark mode dark to light), so
that they are read without telling colours apart.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..records.run_findings import ErrorCount
from .svg import element, linked, picture

SHADES = 9
RANGE = 1_000
"""The largest value is at most so many times the upper end of the first shade's."""
LETTER = 7.2
"""Width of a letter of the figures' text, about, in units of a picture."""
LONGEST_KEY, LONGEST_LABEL, LONGEST_NAME = 12, 26, 80
"""Letters of a relation's key and label that a figure's edge has, and of both together that a cell says."""
_SLOPE = (math.cos(math.radians(60)), math.sin(math.radians(60)))
"""Of the heads of columns: how far they reach to the right and upwards, by their length."""


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


@dataclass(frozen=True)
class _Row:
    """A bar of a figure: its name, length relative to others', what stands behind it, what it says, where it leads."""

    name: str
    length: float
    shown: str
    said: str
    href: str | None = None
    kind: str = "bar"


def _bars(rows: Sequence[_Row], title: str, described: str, left: float) -> Markup:
    step, width = 22, 440
    most = max((one.length for one in rows), default=0.0) or 1.0
    parts = []
    for place, one in enumerate(rows):
        y = place * step + 4
        length = (width - left - 130) * one.length / most
        bar = Markup("").join(
            (
                element("rect", x=0, y=y - 4, width=width, height=step, class_="behind"),
                element("text", one.name, x=left - 8, y=y + 13, text_anchor="end"),
                element("rect", x=left, y=y, width=max(length, 0.5), height=step - 6, class_=one.kind),
                element("text", one.shown, x=left + length + 6, y=y + 13, class_="number"),
            )
        )
        parts.append(linked(bar, one.href, one.said))
    return picture(width, max(1, len(rows)) * step + 6, title, described, *parts, kind="bars")


def layer_bars(layers: Sequence[LayerBar], what: str, href: Callable[[int], str | None]) -> Markup:
    """A bar for each layer, the first on top: the share of (fact, neuron) pairs that lie in it, in per cent."""
    rows = []
    for one in layers:
        share = f"{100 * one.share:.1f} %"
        said = f"layer {one.layer}: {share} of pairs ({one.pairs:,}), {one.neurons:,} different neurons"
        rows.append(_Row(f"L{one.layer}", one.share, share, said, href(one.layer)))
    described = "; ".join(f"layer {one.layer} {row.shown}" for one, row in zip(layers[:40], rows, strict=False))
    return _bars(rows, f"Layers of {what}", described, 44)


def error_bars(counts: Sequence[ErrorCount], limit: float) -> Markup:
    """A bar for each power of ten of the completeness error: the number of prompts; those above a limit are marked."""
    total = sum(one.prompts for one in counts) or 1
    rows = []
    for one in counts:
        name = f"over {one.above:g}" if one.up_to is None else f"to {one.up_to:g}"
        shown = f"{one.prompts:,} ({100 * one.prompts / total:.1f} %)"
        between = name if one.up_to is None else f"from {one.above:g} to {one.up_to:g}"
        over = one.above >= limit * (1 - 1e-9)
        said = f"completeness error {between}: {shown} of prompts{', above the limit' if over else ''}"
        rows.append(_Row(name, one.prompts, shown, said, kind="bar over" if over else "bar"))
    described = "; ".join(row.said for row in rows)
    return _bars(rows, "Completeness errors", described, 76)


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
    cell = max(9.0, min(24.0, 700 / max(1, len(keys))))
    small = " small" if cell < 14 else ""
    letter = LETTER * (0.75 if small else 1)
    left = 14 + letter * max((len(key[:LONGEST_KEY]) for key in keys), default=1)
    names = [_named(key[:LONGEST_KEY], {key[:LONGEST_KEY]: (labels.get(key) or "")[:LONGEST_LABEL]}) for key in keys]
    longest = max((len(name) for name in names), default=1) * letter
    top = 24 + longest * _SLOPE[1]
    grid = _Grid(left, top, cell, cell, 1)
    shades = Shades(means.values())
    rows = []
    for y, (key, name) in enumerate(zip(keys, names, strict=True)):
        at = (y + 0.5) * cell
        turned = f"rotate(-60 {left + at:.1f} {top - 6:.1f})"
        label, middle = name[len(key[:LONGEST_KEY]) + 1 :], cell / 2 + 4
        heads = (
            element("text", key[:LONGEST_KEY], x=left - 6, y=middle, text_anchor="end", class_=f"name{small}"),
            element("text", label, x=left + len(keys) * cell + 6, y=middle, class_=f"name{small}"),
        )
        rows.append(element("text", name, x=left + at, y=top - 6, transform=turned, class_=f"name{small}"))
        cells = []
        for x, other in enumerate(keys):
            value = means.get((key, other))
            if value:
                said = f"{_named(key, labels)} × {_named(other, labels)}: {value:.3g} neurons shared on average"
                cells.append((x, shades.of(value), said, href(key, other)))
        rows.append(grid.row(y, _named(key, labels), heads, cells, len(keys)))
    side = len(keys) * cell
    # The last column's head leans over the right edge.
    labelled = max((len(name) - len(key[:LONGEST_KEY]) for key, name in zip(keys, names, strict=True)), default=0)
    width = left + side + max(longest * _SLOPE[0], letter * labelled) + 20
    rows.append(_legend(max(left, 64), top + side + 14, shades, "neurons shared by two facts, mean"))
    title = "Neurons that two facts share, relation × relation"
    described = f"{len(keys)} relations; the largest mean is {shades.most:.3g}. The table below has every pair."
    empty = ("{row} × {column}: nothing shared", [_named(key, labels) for key in keys])
    return grid.picture(max(width, 420), top + side + 60, title, described, rows, "heat", empty)


class _Grid:
    """Cells in rows and columns. Those that lead somewhere are links, all others of a row are one shape.

    Scripts read what no cell says from attributes: the picture's template of words and columns' names, rows' names.
    """

    def __init__(self, left: float, top: float, width: float, height: float, gap: float) -> None:
        self._left, self._top, self._width, self._height, self._gap = left, top, width, height, gap

    def _shape(self, x: int) -> str:
        wide, high = self._width - self._gap, self._height - 1
        return _short(f"M{self._left + x * self._width:.1f} 0h{wide:.1f}v{high:.1f}h-{wide:.1f}z")

    def row(
        self, y: int, name: str, heads: Iterable[Markup], cells: Iterable[tuple[int, str, str, str | None]], count: int
    ) -> Markup:
        """A row: its heads, and its cells as (column, shade, words, goal); all other columns are empty."""
        filled, parts = set(), []
        for x, shade, said, href in cells:
            filled.add(x)
            parts.append(linked(element("path", class_=shade, d=self._shape(x)), href, said, data_column=x))
        empty = "".join(self._shape(x) for x in range(count) if x not in filled)
        below = element("path", class_="q0", d=empty) if empty else None
        at = _short(f"translate(0 {self._top + y * self._height:.1f})")
        return element("g", *heads, below, *parts, data_row=y, data_name=name, transform=at)

    def picture(
        self,
        width: float,
        height: float,
        title: str,
        described: str,
        parts: Sequence[Markup],
        kind: str,
        empty: tuple[str, Sequence[str]],
    ) -> Markup:
        """The whole picture; `empty` is what an empty cell says, and the names of columns."""
        more = {"data_empty": empty[0], "data_columns": json.dumps(empty[1], ensure_ascii=False)}
        place = {"data_left": _short(f"{self._left:.1f}"), "data_width": _short(f"{self._width:.3f}")}
        return picture(width, height, title, described, *parts, kind=kind, **more, **place)


def _short(numbers: str) -> str:
    """Numbers of a path without zeros behind the point."""
    return re.sub(r"\.0+(?=\D|$)", "", numbers)


def _named(key: str, labels: Mapping[str, str | None]) -> str:
    label = labels.get(key)
    name = f"{key} {label}" if label else key
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


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
    grid = _Grid(left, 0.0, cell, height, 0.6 if cell > 3 else 0.0)
    shades = Shades(one.most for row in cells for one in row)
    parts = []
    for y, row in enumerate(cells):
        if not row:
            continue
        name = f"L{row[0].layer}"
        head = element("text", name, x=left - 6, y=0.5 * height + 5, text_anchor="end", class_="name")
        held = [(x, shades.of(one.most), _said(one), href(one)) for x, one in enumerate(row) if one.held]
        parts.append(grid.row(y, name, [head], held, len(row)))
    bottom = len(cells) * height
    first, last = (cells[0][0].first, cells[0][-1].last) if cells and cells[0] else (0, 0)
    parts.append(element("text", f"N{first}", x=left, y=bottom + 14, class_="number"))
    parts.append(element("text", f"N{last}", x=width - 4, y=bottom + 14, text_anchor="end", class_="number"))
    parts.append(_legend(left, bottom + 26, shades, "facts that hold a neuron"))
    described = f"{len(cells)} layers, neurons {first} to {last}; at most {shades.most:,.0f} facts hold one."
    empty = ("{row}.{column}: held by no fact", [_neurons(one) for one in cells[0]] if cells else [])
    return grid.picture(width, bottom + 64, "Neurons × layers", described, parts, "map", empty)


def _neurons(cell: MapCell) -> str:
    return f"N{cell.first}" if cell.first == cell.last else f"N{cell.first}–{cell.last}"


def _said(cell: MapCell) -> str:
    facts = f"{cell.most:,} fact{'' if cell.most == 1 else 's'}"
    if cell.first == cell.last:
        return f"{cell.name}: held by {facts}"
    return f"L{cell.layer}.{_neurons(cell)}: {cell.held} held, {cell.name} by most: {facts}"


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
