"""The `kndb` command: all groups of commands, and the one place that maps errors to exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kndb.errors import InputError, KndbError

from . import (
    ask,
    attribute,
    bench,
    checkout,
    database,
    demo,
    edit,
    exports,
    imports,
    ingest,
    lab,
    model,
    plot,
    probe,
    query,
    report,
    snapshot,
)
from .output import note

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


app = typer.Typer(
    name="kndb",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A database of the knowledge neurons of language models, and version control for edits of them.",
    epilog="Start with: kndb demo. Exit codes: see docs/commands.md.",
)
app.command("ingest")(ingest.ingest)
app.add_typer(model.app, name="model")
app.command("attribute")(attribute.attribute)
app.command("refine")(attribute.refine)
app.command("methods")(attribute.methods)
app.add_typer(query.app, name="query")
app.add_typer(plot.app, name="plot")
app.command("report")(report.report)
app.add_typer(probe.app, name="probe")
app.command("ask")(ask.ask)
app.add_typer(edit.app, name="edit")
app.add_typer(snapshot.app, name="snapshot")
app.command("checkout")(checkout.checkout)
app.add_typer(imports.app, name="import")
app.add_typer(exports.app, name="export")
app.add_typer(database.app, name="db")
app.add_typer(lab.app, name="lab")
app.add_typer(bench.app, name="bench")
app.command("demo")(demo.demo)


def _version(wanted: bool) -> None:
    if wanted:
        from kndb import __version__

        typer.echo(f"kndb {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """A database of the knowledge neurons of language models, and version control for edits of them."""


def run(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; ends the process with the command's exit code.

    Args:
        arguments: the words after `kndb`; None takes the process's own.
    """
    sys.exit(exit_code(arguments))


def exit_code(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and gives its exit code."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="kndb")
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
