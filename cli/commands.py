"""What kndb's commands and groups of commands have in common: their help, and options that all tables take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from kndb.errors import UsageError

from .advice import remember_objects
from .output import OutputFormat, manner

OBJECTS_HELP = "With a database on a server: keep the bytes of edits in this folder. Default: $KNDB_OBJECTS."
PANEL = "Commands"
"""The heading of commands in help that have no other."""
Function = TypeVar("Function", bound=Callable[..., None])


class Place(NamedTuple):
    """Where a command or a group of commands is, and what the help of the group around it says of it.

    Attributes:
        module: its module in that group's package, and its name there.
        short: what it does, in at most 60 characters.
        panel: the heading that it stands under.
        opens: whether it works on a database of the user's.
        table: whether it is a command that prints tables, and so takes --wide, --sort and --reverse.
    """

    module: str
    short: str
    panel: str = PANEL
    opens: bool = True
    table: bool = False


class Places(NamedTuple):
    """A group whose commands have a module each, which is imported when its command is named.

    Attributes:
        what: the group's help.
        package: the package of the modules.
        commands: by their names, in the order of the help.
    """

    what: str
    package: str
    commands: Mapping[str, Place]


class Command(TyperCommand):
    """A command; its help names arguments as people write them: `EDIT...`, `[FILE]`.

    One that has --format has --safe-csv as well, and one that has --db --objects.
    """

    def __init__(self, *arguments: Any, params: list[Any], **settings: Any) -> None:
        database = next((place for place, one in enumerate(params, 1) if one.name == "db"), None)
        if database is not None:
            params = [*params[:database], _own_options()["objects"], *params[database:]]
        place = next((place for place, one in enumerate(params, 1) if one.name == "output"), None)
        if place is not None:
            params = [*params[:place], _own_options()["safe_csv"], *params[place:]]
        super().__init__(*arguments, params=params, **settings)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        # In edits, --to is a new answer.
        to_file = isinstance(ctx.params.get("to"), Path)
        if manner.safe_csv and not to_file and ctx.params.get("output") is not OutputFormat.CSV:
            raise UsageError("--safe-csv is of CSV: add --format csv, or leave --safe-csv out")
        return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line after the command's name."""
        names = [_argument(one) for one in self.get_params(ctx) if one.param_type_name == "argument"]
        return [*([self.options_metavar] if self.options_metavar else []), *names]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes what the arguments and options mean."""
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            records = []
            for one in self.get_params(ctx):
                record = one.get_help_record(ctx) if one.param_type_name == kind else None
                if record is not None:
                    records.append((_argument(one), record[1]) if kind == "argument" else record)
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class TableCommand(Command):
    """A command that prints tables: --wide, --sort and --reverse, which `cli.output` heeds."""

    def __init__(self, *arguments: Any, params: list[Any], **settings: Any) -> None:
        place = next((place for place, one in enumerate(params) if one.name == "db"), len(params))
        own = [_own_options()[name] for name in ("wide", "sort", "reverse")]
        super().__init__(*arguments, params=[*params[:place], *own, *params[place:]], **settings)


class Group(TyperGroup):
    """A group of commands; its help lists them under headings, by purpose."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the name that typer calls it by
        """The words of the usage line after the group's name."""
        return ["[OPTIONS]", "COMMAND"]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes each command's name and what it does, in a line each."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panels.setdefault(command.rich_help_panel or PANEL, []).append((name, command.short_help or ""))
        longest = max((len(name) for rows in panels.values() for name, _ in rows), default=0)
        for title, rows in panels.items():
            with formatter.section(title):
                # Padded, so that what the commands do begins in the same column under all headings.
                formatter.write_dl([(name.ljust(longest), what) for name, what in rows])


def group(what: str) -> typer.Typer:
    """A group of commands.

    Args:
        what: its help.
    """
    return typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None, help=what)


def fill(app: typer.Typer, package: str, places: Mapping[str, Place], words: Sequence[str] | None) -> None:
    """Adds commands and groups to a group.

    To import all of kndb's takes longer than most of them take to run.

    Args:
        app: the group.
        package: where their modules are.
        places: by their names.
        words: what the command line names, in this group and those below: only that is imported, and the others can be
            listed, not run. None imports all of them.
    """
    for name, place in places.items():
        found: Any = _unloaded
        if words is None or [*words[:1]] == [name]:
            module, _, attribute = place.module.partition(":")
            found = getattr(import_module(f"{package}.{module}"), attribute)
        if isinstance(found, Places):
            inner = group(found.what)
            fill(inner, found.package, found.commands, None if words is None else words[1:])
            found = inner
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name, short_help=place.short, rich_help_panel=place.panel)
        else:
            command(app, name, place.short, place.panel, table=place.table)(found)


def _unloaded() -> None:
    """Stands for a command that is only listed."""


def command(
    app: typer.Typer, name: str, short: str, panel: str | None = None, *, table: bool = False
) -> Callable[[Function], Function]:
    """Adds a function to a group as a command.

    Args:
        app: the group.
        name: what the command is called.
        short: what it does, in the group's help: at most 60 characters.
        panel: the heading that it stands under there.
        table: whether it prints tables, and so takes --wide and --sort.
    """
    kind = TableCommand if table else Command
    return app.command(name, cls=kind, short_help=short, rich_help_panel=panel)


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name.upper()).strip("[].…")
    name += "..." if parameter.nargs == -1 else ""
    return name if parameter.required else f"[{name}]"


def _set_wide(value: bool) -> None:
    manner.wide = value


def _set_sort(value: str | None) -> None:
    manner.sort = None if value is None else value.replace("-", "_").replace(" ", "_")


def _set_safe_csv(value: bool) -> None:
    manner.safe_csv = value


def _set_objects(value: str | None) -> None:
    if value is not None:
        remember_objects(value)


def _set_reverse(value: bool) -> None:
    manner.reverse = value


@lru_cache
def _own_options() -> Mapping[str, Any]:
    """The options that commands have without naming them, as typer makes them of a function that has no others."""
    app = typer.Typer(add_completion=False)

    @app.command()
    def options(
        wide: Annotated[
            bool,
            typer.Option(
                "--wide",
                help="Show all columns of tables. JSON and CSV have all.",
                callback=_set_wide,
                expose_value=False,
            ),
        ] = False,
        sort: Annotated[
            str | None,
            typer.Option(
                "--sort",
                metavar="COLUMN",
                help="Sort rows by this column: numbers from the largest, texts from A to Z.",
                callback=_set_sort,
                expose_value=False,
                show_default=False,
            ),
        ] = None,
        objects: Annotated[
            str | None,
            typer.Option(
                "--objects",
                metavar="FOLDER",
                help=OBJECTS_HELP,
                callback=_set_objects,
                expose_value=False,
                show_default=False,
            ),
        ] = None,
        reverse: Annotated[
            bool,
            typer.Option("--reverse", help="Sort the other way round.", callback=_set_reverse, expose_value=False),
        ] = False,
        safe_csv: Annotated[
            bool,
            typer.Option(
                "--safe-csv",
                help="Write CSV for spreadsheets: texts that could be formulas begin with an apostrophe.",
                callback=_set_safe_csv,
                expose_value=False,
            ),
        ] = False,
    ) -> None:
        """Never called."""

    return {str(one.name): one for one in get_command(app).params}
