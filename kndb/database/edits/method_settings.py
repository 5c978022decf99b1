"""A file with the settings of methods that are compared: a JSON object that has an object of settings for each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...content import at_most, content, require_seekable
from ...errors import InputError
from ...records.bench_methods import BENCH_METHODS

MOST_BYTES = 1 << 20
"""A larger file is no file of settings."""


def read_method_settings(path: Path) -> dict[str, dict[str, Any]]:
    """The settings by method's name, as `bench_method` takes them.

    Args:
        path: the file.

    Raises:
        InputError: if it can't be read, is larger than `MOST_BYTES`, or is no such object.
    """
    if path.exists():
        require_seekable(path, named=False)
    with at_most(MOST_BYTES):
        text, _ = content(path)
    example = '{"memit": {"preserve": 0.3}}'
    try:
        values = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} must be a JSON object with the settings of each method, as {example}: {error}"
        ) from None
    if not isinstance(values, Mapping) or not all(isinstance(one, Mapping) for one in values.values()):
        raise InputError(f"{path} must be a JSON object with the settings of each method, as {example}")
    for name in values:
        if name not in BENCH_METHODS:
            raise InputError(f"{path} has settings of {name!r}, and the methods are {', '.join(BENCH_METHODS)}")
    return {name: dict(one) for name, one in values.items()}
