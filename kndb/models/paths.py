"""Paths from a model to its parts, as adapters state them."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch


def resolve(root: Any, path: str) -> Any:
    """The module or attribute at a dotted path."""
    return reduce(getattr, path.split("."), root)


def optional(module: Any, path: str | None) -> Any:
    """The same, None for no path."""
    return None if path is None else resolve(module, path)


def identity(hidden: torch.Tensor) -> torch.Tensor:
    """What stands for a norm that a family lacks."""
    return hidden
