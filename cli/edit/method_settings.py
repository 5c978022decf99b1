"""The settings of the methods that `kndb edit bench` compares: from a file, and from `--set`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kndb.errors import UsageError
from kndb.records.bench_methods import bench_method

if TYPE_CHECKING:
    from kndb.records.bench_methods import BenchMethod


def bench_methods(names: Sequence[str], settings: Path | None, assignments: Sequence[str]) -> list[BenchMethod]:
    """The methods, with the settings that were given.

    Args:
        names: their names.
        settings: a file of settings: a JSON object that has an object of settings for each method.
        assignments: settings as typed, such as `memit.preserve=0.3`; they go before those of the file.

    Raises:
        UsageError: if there is no such method or setting, or a value is not what it should be.
        InputError: if the file can't be read, or is no such object.
    """
    from kndb.database.edits.method_settings import read_method_settings

    given: dict[str, dict[str, Any]] = {} if settings is None else read_method_settings(settings)
    for text in assignments:
        _assign(given, text)
    for name in given:
        if name not in names:
            raise UsageError(f"settings are given for {name}, which is not among the methods ({', '.join(names)})")
    return [bench_method(name, given.get(name)) for name in names]


def _assign(given: dict[str, dict[str, Any]], text: str) -> None:
    """Adds a setting as typed: a method's name, the setting's, and its value."""
    names, equals, value = text.partition("=")
    first, *inner = names.strip().split(".")
    if not equals or not inner or not all(inner):
        raise UsageError(f"--set must be METHOD.SETTING=VALUE, such as memit.preserve=0.3 (got {text!r})")
    place: dict[str, Any] = given.setdefault(first, {})
    for name in inner[:-1]:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            raise UsageError(f"--set {text!r} names a setting within {name}, which has a value already")
    try:
        place[inner[-1]] = json.loads(value)
    except ValueError:
        place[inner[-1]] = value.strip()
