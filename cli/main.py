"""The `kndb` command: all groups of commands, and the one place that maps errors to exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kndb.errors import InputError, KndbError

from .output import note

COMMANDS = {
    "ingest": "ingest:ingest",
    "model": "model:app",
    "attribute": "attribute:attribute",
    "refine": "attribute:refine",
    "methods": "attribute:methods",
    "query": "query:app",
    "plot": "plot:app",
    "report": "report:report",
    "probe": "probe:app",
    "ask": "ask:ask",
    "edit": "edit:app",
    "snapshot": "snapshot:app",
    "checkout": "checkout:checkout",
    "import": "imports:app",
    "export": "exports:app",
    "db": "database:app",
    "lab": "lab:app",
    "bench": "bench:app",
    "demo": "demo:demo",
    "docs": "docs:docs",
}
"""All commands and groups of commands in the order of the help: the module of each and its name there.

Of a command line that names one, only that one is imported: to describe all of them takes longer than most take to run.
"""
INTERRUPTED = 130
BROKEN_PIPE = 141
LISTED = 20
"""Rejected lines that an error message lists."""


class _Commands(TyperGroup):
    """All commands; keeps typer from giving an interrupt or a broken pipe an exit code of its own."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command and flushes what it printed, so that a reader who left is noticed here."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            note("Interrupted. What was stored stays; the same command goes on from there.")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # Python would complain once more when it flushes stdout at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(BROKEN_PIPE) from None
        return result


def _version(wanted: bool) -> None:
    if wanted:
        from kndb import __version__

        typer.echo(f"kndb {__version__}")
        raise typer.Exit


def main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """A database of the knowledge neurons of language models, and version control for edits of them."""


def command_line(only: str | None = None) -> typer.Typer:
    """The command line with all commands.

    Args:
        only: leave out all but this one.
    """
    app = typer.Typer(
        name="kndb",
        cls=_Commands,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        help="A database of the knowledge neurons of language models, and version control for edits of them.",
        epilog="Start with: kndb demo. Exit codes and all options: kndb docs commands.",
    )
    app.callback()(main)
    for name, place in COMMANDS.items():
        if only in (None, name):
            module, _, attribute = place.partition(":")
            found = getattr(import_module(f"kndb.cli.{module}"), attribute)
            if isinstance(found, typer.Typer):
                app.add_typer(found, name=name)
            else:
                app.command(name)(found)
    return app


def run(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; ends the process with the command's exit code.

    Args:
        arguments: the words after `kndb`; None takes the process's own.
    """
    sys.exit(exit_code(arguments))


def exit_code(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and gives its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        command_line(words[0] if words and words[0] in COMMANDS else None)(args=words, prog_name="kndb")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KndbError as error:
        _report(error)
        return error.exit_code
    return 0


def _report(error: KndbError) -> None:
    note(f"Error: {error}")
    if isinstance(error, InputError) and len(error.rejected) > 1:
        for line in error.rejected[:LISTED]:
            note(f"  {line}")
        if len(error.rejected) > LISTED:
            note(f"  … and {len(error.rejected) - LISTED} more")


if __name__ == "__main__":
    run()
