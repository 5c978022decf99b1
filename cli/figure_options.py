"""The options of every command that draws: how the figure is to look."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from kndb.errors import UsageError
from kndb.records.figures import PLAIN, FigureOptions, parse_size

TitleOption = Annotated[
    str | None, typer.Option("--title", metavar="TEXT", help="A line above the figure.", show_default=False)
]
SizeOption = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="WIDTHxHEIGHT",
        help="The figure's size in inches, such as 6x4. Default: what it needs.",
        show_default=False,
    ),
]
CaptionOption = Annotated[
    bool,
    typer.Option(
        "--caption/--no-caption", help="Say below the figure what it shows: model, run, refinement, settings."
    ),
]
_OPTIONS = {"title": (TitleOption, None), "size": (SizeOption, None), "caption": (CaptionOption, True)}
"""The options by name, with their defaults."""


def takes_figure_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options `--title`, `--size` and `--caption/--no-caption` in place of its parameter `figure`.

    Args:
        command: with a parameter `figure` that takes `FigureOptions`.
    """
    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.name != "figure":
            parameters.append(parameter)
            continue
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters += [
            inspect.Parameter(name, kind, annotation=annotation, default=default)
            for name, (annotation, default) in _OPTIONS.items()
        ]

    @wraps(command)
    def drawn(*args: Any, title: str | None, size: str | None, caption: bool, **kwargs: Any) -> None:
        command(*args, figure=_options(title, size, caption=caption), **kwargs)

    drawn.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    drawn.__annotations__ = {one.name: one.annotation for one in parameters}
    return drawn


def require_plot(plot: object, figure: FigureOptions) -> None:
    """Refuses options of a figure where none is drawn.

    Raises:
        UsageError: if there are any.
    """
    if plot is None and figure != PLAIN:
        raise UsageError("--title, --size and --no-caption are of the figure that --plot FILE draws; add --plot FILE")


def _options(title: str | None, size: str | None, *, caption: bool) -> FigureOptions:
    try:
        return FigureOptions(title, None if size is None else parse_size(size), caption)
    except UsageError as error:
        # Only a size can be wrong, and its error begins with the word.
        raise UsageError(f"--{error}") from None
