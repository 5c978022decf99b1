"""How a figure is to look, whatever it shows: given by the caller, passed on whole to what draws."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import UsageError

SMALLEST, LARGEST = 1.0, 50.0
"""Inches that a side of a figure may have."""


@dataclass(frozen=True)
class FigureOptions:
    """How a figure is to look.

    Attributes:
        title: a line above the figure; None leaves it without one, or with the figure's own.
        size: width and height in inches, caption and all; None takes what the figure needs.
        caption: whether a line below says what is drawn: model, version, run, refinement, settings. For a paper, which
            says so elsewhere, leave it out.

    Raises:
        UsageError: for a side that is not from 1 to 50 inches.
    """

    title: str | None = None
    size: tuple[float, float] | None = None
    caption: bool = True

    def __post_init__(self) -> None:
        if self.size is not None and not all(SMALLEST <= side <= LARGEST for side in self.size):
            width, height = self.size
            raise UsageError(
                f"size must be from {SMALLEST:g} to {LARGEST:g} inches each way (got {width:g} by {height:g})"
            )


PLAIN = FigureOptions()
"""A figure as it is drawn if nobody asks for more."""


def parse_size(text: str) -> tuple[float, float]:
    """Reads a width and a height in inches, for example `6x4` or `3.35x2.5`.

    Raises:
        UsageError: if the text has another form.
    """
    number = r"(\d+(?:\.\d*)?|\.\d+)"
    match = re.fullmatch(rf"\s*{number}\s*[x×]\s*{number}\s*", text)
    if match is None:
        raise UsageError(f"size must be width and height in inches, such as 6x4 (got {text!r})")
    return float(match[1]), float(match[2])
