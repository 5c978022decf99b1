"""Statements compiled once in a process: SQLAlchemy keeps them with each engine, and tests make thousands of engines.

What a statement compiles to depends on the kind of its database alone, as all engines of one kind are made alike.
"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

MOST = 3_000
"""Statements that are kept; the store has a few hundred, on each of two kinds of database."""


def share_compiled(patch: pytest.MonkeyPatch) -> None:
    """Has all engines that are made from now on share what they compile.

    Args:
        patch: ends it.
    """
    shared: LRUCache[Any, Any] = LRUCache(MOST)
    # A dialect is a part of the key.
    patch.setattr(DefaultDialect, "__eq__", lambda self, other: type(self) is type(other))
    patch.setattr(DefaultDialect, "__hash__", lambda self: hash(type(self)))
    patch.setattr(Engine, "_compiled_cache", property(lambda engine: shared, lambda engine, own: None), raising=False)
