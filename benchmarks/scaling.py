"""How cost grows: attribution, and the store against scores, edits and facts; measured, kept as CSV, and drawn.

    python benchmarks/scaling.py attribution
    python benchmarks/scaling.py scores --folder build/scaling --sizes 1000000 10000000 100000000
    python benchmarks/scaling.py edits --sizes 1 10 100 1000 10000
    python benchmarks/scaling.py facts --sizes 1000 10000 100000 1000000
    python benchmarks/scaling.py draw

Each part prints its points as it finds them, writes them to docs/figures/cost.csv in place of the part's earlier ones,
and draws docs/figures/cost-PART.svg. `draw` draws all again from the CSV, as `make figures` does. Seconds are of
processor time, the median of `--repeats`; seconds passed are in the CSV beside them. `curves/` has a module for each
part, which says what is measured and on what. A store of 100 million scores takes some 3 GB, and some ten minutes of a
core to write; it
stays in `--folder` and is used again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from curves import attribution, drawing, edits, facts, scores
from curves.measuring import Point, read_points, slope, write_points

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
STORES = {"scores": scores, "edits": edits, "facts": facts}


def main() -> None:
    """Measures one part, or draws what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("attribution", *STORES, "draw"))
    parser.add_argument("--folder", type=Path, default=Path("build/scaling"), help="where stores are made")
    parser.add_argument("--sizes", type=int, nargs="+", help="of scores, edits and facts; default: as in the docs")
    parser.add_argument("--repeats", type=int, default=5, help="of what is asked; the median counts")
    parser.add_argument("--short", action="store_true", help="attribution: only the two smallest sizes of each kind")
    parser.add_argument("--csv", type=Path, default=FIGURES / "cost.csv", help="where points are kept")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="the folder of the figures")
    options = parser.parse_args()
    if options.part != "draw":
        points = measure(options)
        write_points(options.csv, points)
        growth(points)
    for path in drawing.draw(read_points(options.csv), options.figures):
        print(f"drew {path}", file=sys.stderr)


def measure(options: argparse.Namespace) -> list[Point]:
    """The points of one part."""
    if options.part == "attribution":
        return attribution.measure(attribution.FEW if options.short else attribution.ALONG, options.repeats)
    part = STORES[options.part]
    options.folder.mkdir(parents=True, exist_ok=True)
    return part.measure(options.folder, tuple(options.sizes or part.SIZES), options.repeats)


def growth(points: list[Point]) -> None:
    """Prints the power with which each curve grows, over its last decade of sizes."""
    for what, along in dict.fromkeys((point.what, point.along) for point in points):
        curve = [one for one in points if (one.what, one.along) == (what, along) and one.cpu_seconds > 0]
        last = [(one.size, one.cpu_seconds) for one in curve if one.size * 10 >= curve[-1].size]
        if len(last) > 1:
            print(f"{what}, by {along}: as the {slope(last):.2f}th power", file=sys.stderr)


if __name__ == "__main__":
    main()
