"""What all parts of `benchmarks/scaling.py` measure with: seconds, medians, memory, and the rows that are kept."""

from __future__ import annotations

import csv
import json
import math
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Point:
    """One measured place on a curve.

    Attributes:
        part: which part of the benchmark.
        what: which curve.
        along: what grows, for example `scores`.
        size: how much of it there is.
        cpu_seconds: processor time, the median of the repeats; NaN for what is no time.
        wall_seconds: time passed, likewise.
        value: another measure, such as bytes; NaN for none.
    """

    part: str
    what: str
    along: str
    size: float
    cpu_seconds: float = math.nan
    wall_seconds: float = math.nan
    value: float = math.nan


def timed(ask: Callable[[], object], repeats: int = 1) -> tuple[float, float]:
    """Median processor seconds (of this process, all threads) and median seconds passed of a call."""
    used, passed = [], []
    for _ in range(repeats):
        processor, wall = time.process_time(), time.perf_counter()
        ask()
        used.append(time.process_time() - processor)
        passed.append(time.perf_counter() - wall)
    return statistics.median(used), statistics.median(passed)


def peak_bytes() -> int:
    """The largest resident memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_a_process(function: Callable[..., Any], *arguments: object) -> Any:
    """Calls a function of a module in a fresh process, so that its memory and caches are its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The power with which the second number grows with the first: the slope of the line through their logarithms."""
    logs = [(math.log(size), math.log(cost)) for size, cost in points if size > 0 and cost > 0]
    if len(logs) < 2:
        return math.nan
    mean_x, mean_y = (statistics.fmean(axis) for axis in zip(*logs, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


def write_points(path: Path, points: Iterable[Point]) -> None:
    """Writes points as CSV, and takes the place of what the file had of the same part."""
    points = list(points)
    parts = {point.part for point in points}
    kept = [point for point in read_points(path) if point.part not in parts] if path.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Point)], lineterminator="\n")
        writer.writeheader()
        for point in kept + points:
            cells = {
                name: f"{value:.6g}" if isinstance(value, float) else value for name, value in asdict(point).items()
            }
            writer.writerow({name: "" if cell == "nan" else cell for name, cell in cells.items()})


def read_points(path: Path) -> list[Point]:
    """The points that `write_points` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Point(
                row["part"],
                row["what"],
                row["along"],
                *(float(row[name] or math.nan) for name in ("size", "cpu_seconds", "wall_seconds", "value")),
            )
            for row in csv.DictReader(file)
        ]


def show(points: Iterable[Point]) -> None:
    """Prints points, one a line of JSON, as they are found."""
    for point in points:
        found = {name: value for name, value in asdict(point).items() if value == value}
        print(json.dumps(found), flush=True)
