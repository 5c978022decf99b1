"""Figures of what queries and probes find; matplotlib is imported here alone.

One file per figure. Each has one function that takes records, a caption and `FigureOptions` and gives a
`NotebookFigure`, which is matplotlib's `Figure`; `style` has what they share, and saves them. Nothing here touches
pyplot or leaves a setting of matplotlib's changed.
"""

from __future__ import annotations

from ..errors import UsageError


def require_matplotlib() -> None:
    """Makes sure that figures can be drawn.

    Raises:
        UsageError: if matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError(
            "figures are drawn by matplotlib, which is not installed; install it with: pip install 'kndb[plot]'"
        ) from None
