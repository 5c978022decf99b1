"""The report of a model: one HTML file that opens offline, with no scripts and nothing loaded from elsewhere.

`content` says what a report holds, `page` makes the file's text of it, from `report.html` and `style.css`.
"""

from __future__ import annotations

from ..errors import UsageError


def require_jinja() -> None:
    """Makes sure that reports can be written.

    Raises:
        UsageError: if jinja2 is not installed.
    """
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise UsageError(
            "reports are written with jinja2, which is not installed; install it with: pip install 'kndb[plot]'"
        ) from None
