"""The time as the store writes it."""

from __future__ import annotations

from datetime import datetime, timezone


def now() -> str:
    """The present moment as ISO 8601 text in UTC, to the second."""
    return datetime.now(timezone.utc).replace(microsecond=0).isoformat()
