"""The `Database` that a user opens: the only layer that joins the store and the engines.

Each method fetches records from the store, calls an engine, and writes records back; nothing else.
"""

from __future__ import annotations

from .database import (
    Database,
    broken_references,
    check_database,
    copy_database,
    default_location,
    open_database,
    upgrade_database,
)

__all__ = [
    "Database",
    "broken_references",
    "check_database",
    "copy_database",
    "default_location",
    "open_database",
    "upgrade_database",
]
