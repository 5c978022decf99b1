"""Sets of knowledge neurons as CSV: a header, then a fact and one of its neurons in each line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import InputError, RejectedLine
from .lines import csv_records
from .sets import FactName, NeuronSet, SetNeuron, Sizes, merged

FACT_COLUMNS = ("fact", "fact_id", "uuid", "id")
"""The column that names the fact: the first of these that the header has."""

_KNDB_COLUMNS = {"relation", "subject", "object", "id", "fact"}
"""A file with all of these is kndb's own: there `fact` is a number of the store that wrote it."""

_MOST_REJECTED = 100_000
"""Where there are as many, the rest is not looked at: each keeps its reason in memory."""

SCORE_COLUMNS = ("score", "mean_score")


class _RowError(Exception):
    """A line that can't be used; its text is the reason."""


def read_files(paths: Sequence[Path], sizes: Sizes, *, by_number: bool = False) -> list[NeuronSet]:
    """Reads CSV files, gzipped or not.

    Args:
        paths: the files.
        sizes: of the model that they are about.
        by_number: whether facts are named by their numbers in the store, and not by the source's identifiers.

    Returns:
        One set for each fact, in the order in which the files first name them. A line without layer and neuron says
        that the fact's set is empty, if no other line of the fact has one.

    Raises:
        InputError: for lines that can't be used, listed with their numbers, or a fact that two files give different
            sets of.
    """
    rejected: list[RejectedLine] = []
    sets = [one for path in paths for one in _read_file(path, sizes, by_number=by_number, rejected=rejected)]
    if rejected:
        more = f" {len(rejected) - 1} further lines can't be used either" if len(rejected) > 1 else ""
        raise InputError(f"{rejected[0]}.{more}", rejected)
    return merged(sets)


def _read_file(path: Path, sizes: Sizes, *, by_number: bool, rejected: list[RejectedLine]) -> Iterator[NeuronSet]:
    found: dict[FactName, dict[tuple[int, int], SetNeuron]] = {}
    header: list[str] | None = None
    for line, cells in csv_records(path):
        if header is None:
            header = _header(path, line, cells)
            continue
        try:
            if len(cells) != len(header):
                raise _RowError(f"it has {len(cells)} fields, and the header has {len(header)}")
            row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
            _add(row, sizes, found.setdefault(_fact(row, by_number=by_number), {}))
        except _RowError as error:
            rejected.append(RejectedLine(str(path), line, str(error)))
            if len(rejected) == _MOST_REJECTED:
                raise InputError(
                    f"{rejected[0].text}. {_MOST_REJECTED - 1:,} further lines can't be used", rejected
                ) from error
    if header is None:
        raise InputError(f"{path}: it is empty; it must begin with a header of fact, layer and neuron")
    for fact, neurons in found.items():
        yield NeuronSet(fact, tuple(neurons[place] for place in sorted(neurons)), str(path))


def _header(path: Path, line: int, cells: Sequence[str]) -> list[str]:
    names = [cell.strip().lower() for cell in cells]
    needed = [FACT_COLUMNS, ("layer",), ("neuron",)]
    if len(set(names)) == len(names) and all(any(name in names for name in choice) for choice in needed):
        return names
    expected = ", ".join(" or ".join(choice) for choice in needed)
    reason = f"the header must have {expected}, each once (got {', '.join(names)})"
    rejected = RejectedLine(str(path), line, reason)
    raise InputError(str(rejected), [rejected])


def _fact(row: Mapping[str, str], *, by_number: bool) -> FactName:
    column = next(name for name in FACT_COLUMNS if name in row)
    if not by_number and row.keys() >= _KNDB_COLUMNS:
        column = "id"
    if by_number:
        return FactName(number=_whole(row, column))
    relation, subject, object_ = (row.get(name) or None for name in ("relation", "subject", "object"))
    if not row[column] and not (relation and subject and object_):
        raise _RowError(f"{column!r} is empty; give the fact's identifier, or its relation, subject and object")
    return FactName(row[column] or None, relation, subject, object_)


def _add(row: Mapping[str, str], sizes: Sizes, neurons: dict[tuple[int, int], SetNeuron]) -> None:
    if not row["layer"] and not row["neuron"]:
        return
    place = _whole(row, "layer"), _whole(row, "neuron")
    fault = sizes.fault(*place)
    if fault is not None:
        raise _RowError(fault)
    prompts = _whole(row, "prompts") if row.get("prompts") else None
    score = next((_number(row, name) for name in SCORE_COLUMNS if row.get(name)), None)
    found = SetNeuron(*place, prompts, score)
    if neurons.setdefault(place, found) != found:
        raise _RowError(f"this fact has L{place[0]}.N{place[1]} already, with another score or number of prompts")


def _whole(row: Mapping[str, str], name: str) -> int:
    if not (row[name].isascii() and row[name].isdigit()) or len(row[name]) > 18:
        raise _RowError(f"{name!r} must be a whole number from 0 (got {row[name]!r})")
    return int(row[name])


def _number(row: Mapping[str, str], name: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _RowError(f"{name!r} must be a number (got {row[name]!r})")
    return value
