"""The `kndb` command: all groups of commands, and the one place that maps errors to exit codes."""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from kndb.advice import call
from kndb.errors import InputError, KndbError, OutputError, StoreDamagedError, UsageError
from kndb.records.locations import without_password

from .advice import remember_database, remember_objects
from .commands import OBJECTS_HELP, Group, Place, fill
from .damage import damage_behind
from .logs import log_to_stderr
from .options import DATABASE_HELP
from .output import complain, manner, note
from .streams import ReaderLeftError, drop_unwritten, occupy_closed, own_streams

_log = logging.getLogger("kndb.cli")
KNOWLEDGE, ATTRIBUTION, EDITS = "Knowledge", "Attribution", "Edits"
FILES, STORE, TRIALS = "Figures and files", "Store", "Lab models and measurements"
COMMANDS = {
    "ingest": Place("ingest:ingest", "Read fact lists into the store.", KNOWLEDGE),
    "model": Place("model:app", "Register checkpoints, and list them.", KNOWLEDGE),
    "query": Place("query:PLACES", "Ask which neurons facts and relations share, and more.", KNOWLEDGE),
    "probe": Place("probe:app", "Suppress, amplify or read knowledge neurons.", KNOWLEDGE),
    "ask": Place("ask:ask", "Ask a model, at any version, to fill in a blank.", KNOWLEDGE),
    "attribute": Place("attribute:attribute", "Score the neurons behind each answer.", ATTRIBUTION),
    "refine": Place("attribute:refine", "Turn scores into knowledge neurons.", ATTRIBUTION, table=True),
    "methods": Place("attribute:methods", "List the methods of attribution.", ATTRIBUTION, opens=False, table=True),
    "edit": Place("edit:PLACES", "Plan, apply, measure, revert and share edits.", EDITS),
    "test": Place("knowledge_tests:run_tests", "Run tests of what a model knows.", EDITS, table=True),
    "blame": Place("blame:blame", "Show which edits wrote a value slot.", EDITS, table=True),
    "snapshot": Place("snapshot:app", "Name versions, go back to them, export them.", EDITS),
    "checkout": Place("checkout:checkout", "Make or switch a working copy of a checkpoint.", EDITS),
    "plot": Place("plot:app", "Draw what queries and probes find.", FILES),
    "serve": Place("serve:serve", "Explore the database in a browser, offline.", FILES),
    "report": Place("report:report", "Write a model's report as one HTML file.", FILES),
    "import": Place("imports:app", "Import others' results, and other stores'.", FILES),
    "export": Place("exports:app", "Write neurons, scores and facts to files.", FILES),
    "db": Place("database:app", "Make, upgrade, check and back up the database.", STORE),
    "demo": Place("demo:demo", "Show everything on a small trained model.", TRIALS, opens=False),
    "lab": Place("lab:app", "Train small models that know a fact list.", TRIALS, opens=False),
    "bench": Place("bench:app", "Measure speed and precision on this machine.", TRIALS, opens=False),
    "docs": Place("docs:docs", "Read the pages of the documentation, offline.", TRIALS, opens=False),
}
"""All commands and groups of commands, in the order of the help."""
COMPLETING = "_KNDB_COMPLETE"
"""The environment variable by which a shell asks for completion; others have the words."""
INTERRUPTED = 130
BROKEN_PIPE = 141
LISTED = 20
"""Rejected lines that an error message lists."""


class _Commands(Group):
    """All commands; keeps typer from giving an interrupt an exit code of its own."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command."""
        started = time.perf_counter()
        try:
            result = super().invoke(ctx)
        except KeyboardInterrupt:
            note("Interrupted. What was stored stays; run the same command again to resume.")
            raise typer.Exit(INTERRUPTED) from None
        _log.debug("kndb %s took %.2f s", ctx.invoked_subcommand, time.perf_counter() - started)
        return result


def _version(wanted: bool) -> None:
    if wanted:
        from kndb import __version__

        typer.echo(f"kndb {__version__}")
        raise typer.Exit


def main(
    ctx: typer.Context,
    db: Annotated[
        str | None, typer.Option("--db", metavar="PATH-or-URL", help=DATABASE_HELP, show_default=False)
    ] = None,
    objects: Annotated[
        str | None, typer.Option("--objects", metavar="FOLDER", help=OBJECTS_HELP, show_default=False)
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log on stderr what kndb does, with times.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print no notes and no progress; warnings and errors stay.")
    ] = False,
    version: Annotated[  # noqa: ARG001 - its callback prints it
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Sets what holds for all commands."""
    name = ctx.invoked_subcommand
    if verbose and quiet:
        raise UsageError("--verbose and --quiet contradict each other; give one of them, or neither")
    if db is not None and name in COMMANDS and not COMMANDS[name].opens:
        raise UsageError(f"--db {without_password(db)}: kndb {name} uses no database of yours; leave --db out")
    remember_database(db)
    remember_objects(objects)
    manner.reset()
    manner.quiet = quiet
    if verbose:
        log_to_stderr()


def command_line(words: Sequence[str] | None = None) -> typer.Typer:
    """The command line.

    Args:
        words: the commands that it names (see `named_commands`): only these are imported. None imports all.
    """
    app = typer.Typer(
        name="kndb",
        cls=_Commands,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="A database of the knowledge neurons of language models, and version control for edits of them.",
        epilog="Start with: kndb demo. Help on a command: kndb COMMAND --help. Exit codes and all options: "
        "kndb docs commands.",
    )
    app.callback()(main)
    fill(app, "kndb.cli", COMMANDS, words)
    return app


def named_commands(words: Sequence[str]) -> list[str]:
    """The words of a command line that are no options: first of all the group and the command."""
    found, rest = [], iter(words)
    for word in rest:
        if word in ("--db", "--objects"):
            next(rest, None)
        elif not word.startswith("-"):
            found.append(word)
    return found


def run(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; ends the process with the command's exit code.

    Args:
        arguments: the words after `kndb`; None takes the process's own.
    """
    # A start makes many objects and no garbage: looking for it as often as Python does costs a fifth of a listing.
    gc.set_threshold(50_000, 20, 20)
    occupy_closed()
    code = exit_code(arguments)
    if code in (OutputError.exit_code, BROKEN_PIPE):
        drop_unwritten()
    sys.exit(code)


def exit_code(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and gives its exit code."""
    with own_streams():
        try:
            code = _code_of(sys.argv[1:] if arguments is None else list(arguments))
            sys.stdout.flush()
        except ReaderLeftError:
            return BROKEN_PIPE
        except OutputError as error:
            _report(error, ())
            return error.exit_code
    return code


def _code_of(words: list[str]) -> int:
    try:
        typed = words
        if COMPLETING in os.environ:
            typed = (os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or "").split()[1:]
        command_line(named_commands(typed))(args=words, prog_name="kndb")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except (ReaderLeftError, OutputError):
        raise
    except Exception as error:
        damage = damage_behind(error) if opens_database(named_commands(words)) else None
        if damage is not None:
            _log.debug("the error that it caused", exc_info=error)
        found = damage or error
        if not isinstance(found, KndbError):
            raise
        _report(found, named_commands(words))
        return found.exit_code
    return 0


def opens_database(words: Sequence[str]) -> bool:
    """Whether a command line's words, options left out, name a command on a database of the user's."""
    return bool(words) and words[0] in COMMANDS and COMMANDS[words[0]].opens


def _report(error: KndbError, words: Sequence[str]) -> None:
    complain(f"Error: {error.text}")
    check = call("maintenance.check")
    if isinstance(error, StoreDamagedError) and check not in error.text and list(words[:2]) != ["db", "check"]:
        complain(f"See what else is damaged with: {check}")
    if isinstance(error, InputError) and len(error.rejected) > 1:
        for line in error.rejected[:LISTED]:
            complain(f"  {line.text}")
        if len(error.rejected) > LISTED:
            complain(f"  … and {len(error.rejected) - LISTED} more")


if __name__ == "__main__":
    run()
