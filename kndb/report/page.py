"""From a report's content to the text of its HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..records.harmless import harmless
from .content import Report

_FOLDER = Path(__file__).parent


def _shown(value: Any) -> Any:
    """What a page shows of a value; the pictures, which are markup, stay as they are."""
    return harmless(value) if type(value) is str else value


def render(report: Report) -> str:
    """The page's text. All that comes from facts, prompts and names is escaped; the same report gives the same text.

    Args:
        report: what it holds; its pictures' `svg` goes into the page as it is.
    """
    environment = Environment(
        loader=FileSystemLoader(_FOLDER, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (_FOLDER / "style.css").read_text(encoding="utf-8")
    return environment.get_template("report.html").render(report=report, style=style) + "\n"
