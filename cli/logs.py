"""What kndb's loggers say, on stderr: for --verbose."""

from __future__ import annotations

import logging

from .visible import harmless


class _Format(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return harmless(super().format(record))


def log_to_stderr() -> None:
    """Sends what kndb's loggers say to stderr, in detail, each line with the milliseconds since the start."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Format("%(relativeCreated)6d ms  %(name)s: %(message)s"))
    logger = logging.getLogger("kndb")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
