"""Tables of ways to edit beside each other, in Markdown, from what `kndb edit trials ID --format csv` writes.

python benchmarks/methods.py lab-bert.csv more.csv

Of a method and a size that several files have, the last one counts.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

SHARES = {
    "success": "success",
    "held_out_success": "held out",
    "ES": "ES",
    "PS": "PS",
    "NS": "NS",
    "S": "S",
}
RATIOS = {"perplexity_relation": "perplexity, relation", "perplexity_others": "others"}
FLIPS = {"flips_relation": "flips, relation", "flips_others": "others"}


def main() -> None:
    """Prints the table."""
    rows: dict[tuple[str, int], dict[str, str]] = {}
    for path in map(Path, sys.argv[1:]):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["part"] == "compared" and row["weights"] == "edit":
                    rows[row["method"], int(row["edits"])] = row
    titles = ["method", "facts", *SHARES.values(), *RATIOS.values(), *FLIPS.values(), "seconds"]
    print(f"| {' | '.join(titles)} |")
    print(f"|{'---|' * len(titles)}")
    order = list(dict.fromkeys(method for method, _ in rows))
    for (method, size), row in sorted(rows.items(), key=lambda one: (order.index(one[0][0]), one[0][1])):
        cells = [*(_share(row[name]) for name in SHARES), *(_ratio(row[name]) for name in RATIOS)]
        cells += [*(_share(row[name]) for name in FLIPS), _seconds(row["seconds"])]
        print(f"| {' | '.join([method, str(size), *cells])} |")


def _share(text: str) -> str:
    return f"{100 * float(text):.1f}" if text else "–"


def _ratio(text: str) -> str:
    if not text:
        return "–"
    value = float(text)
    return f"× {value:.2f}" if value < 1000 else f"× {value:.0e}"


def _seconds(text: str) -> str:
    return f"{float(text):.0f}" if text else "–"


if __name__ == "__main__":
    main()
