"""Options that belong together and reach a command as one value: which refinement answers, how a figure is to look.

A command has one parameter for the group, of the value's type; its decorator puts the options in that parameter's
place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.errors import UsageError
from kndb.records.attribution import ChosenRefinement, Refinement
from kndb.records.figures import PLAIN, FigureOptions, parse_size

from .answering import choose
from .options import OptionalModelOption, RefinementMethodOption, RefinementOption

if TYPE_CHECKING:
    from kndb.database import Database

Command = Callable[..., None]


@dataclass(frozen=True)
class Which:
    """Which refinement is to answer: its number, its method, its model, as far as they were named."""

    model: str | None = None
    refinement: int | None = None
    method: str | None = None

    def chosen(
        self,
        database: Database,
        *,
        relations: Sequence[str] = (),
        facts: Sequence[int] = (),
        edit: int | None = None,
    ) -> ChosenRefinement:
        """What answers a question about relations or facts; the command says so beside its answer."""
        return database.query.choose(
            self.refinement, self.model, method=self.method, relations=relations, facts=facts, edit=edit
        )

    def choose(self, database: Database, *, relations: Sequence[str] = (), facts: Sequence[int] = ()) -> Refinement:
        """The refinement that answers; said at once, ahead of what takes long."""
        return choose(database, self.refinement, self.method, self.model, relations=relations, facts=facts)


ANY = Which()

_WHICH = {"model": OptionalModelOption, "refinement": RefinementOption, "method": RefinementMethodOption}
_FIGURE = {
    "title": Annotated[
        str | None,
        typer.Option("--title", metavar="TEXT", help="Write this line above the figure.", show_default=False),
    ],
    "size": Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="WIDTHxHEIGHT",
            help="Make the figure this large, in inches, such as 6x4. Default: what it needs.",
            show_default=False,
        ),
    ],
    "caption": Annotated[
        bool,
        typer.Option(
            "--caption/--no-caption", help="Say below the figure what it shows: model, run, refinement, settings."
        ),
    ],
}


def takes(name: str, options: Mapping[str, tuple[Any, Any]], make: Callable[..., Any]) -> Callable[[Command], Command]:
    """A decorator that gives a command several options in place of one parameter.

    Args:
        name: the parameter.
        options: the options' types as typer reads them, and their defaults, by their names.
        make: makes the parameter's value of them, by name.
    """

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            if parameter.name != name:
                parameters.append(parameter)
                continue
            parameters += [
                inspect.Parameter(option, kind, annotation=annotation, default=default)
                for option, (annotation, default) in options.items()
            ]

        @wraps(command)
        def called(*args: Any, **kwargs: Any) -> None:
            given = {option: kwargs.pop(option) for option in options}
            command(*args, **{name: make(**given)}, **kwargs)

        called.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {one.name: one.annotation for one in parameters}
        return called

    return decorate


def _figure(title: str | None, size: str | None, caption: bool) -> FigureOptions:
    try:
        return FigureOptions(title, None if size is None else parse_size(size), caption)
    except UsageError as error:
        # Only a size can be wrong, and its error begins with the word.
        raise UsageError(f"--{error}") from None


takes_which = takes("which", {name: (option, None) for name, option in _WHICH.items()}, Which)
"""Gives a command --model, --refinement and --method in place of its parameter `which`, a `Which`."""
takes_figure_options = takes(
    "figure", {name: (option, True if name == "caption" else None) for name, option in _FIGURE.items()}, _figure
)
"""Gives a command --title, --size and --caption/--no-caption in place of its parameter `figure`, `FigureOptions`."""


def require_plot(plot: object, figure: FigureOptions) -> None:
    """Refuses options of a figure where none is drawn.

    Raises:
        UsageError: if there are any.
    """
    if plot is None and figure != PLAIN:
        raise UsageError("--title, --size and --no-caption are of the figure that --plot FILE draws; add --plot FILE")
