"""`kndb serve`: the database as pages in a browser."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kndb.errors import UsageError

from .advice import for_shell, nameless
from .options import DatabaseOption, OptionalModelOption, RefinementOption, open_existing
from .output import OutputFormat, note, print_record, print_text, progress_bar

if TYPE_CHECKING:
    from kndb.explorer.server import ServeSettings


def serve(
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="ADDRESS", help="Listen on this address. Another than this machine's own needs a token."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", help="Listen on this port; 0 takes any that is free.")
    ] = 8017,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="Answer under this name too, such as that of a proxy; repeatable. It needs a token.",
            show_default=False,
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TEXT",
            help="Ask readers for this token, of 16 letters or more. Default: one is made where it is needed.",
            show_default=False,
        ),
    ] = None,
    allow_edits: Annotated[
        bool,
        typer.Option(
            "--allow-edits", help="Let readers with the token plan, apply and revert edits, and name versions."
        ),
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="DIR",
            help="Write all pages as files that open from disk into this folder, and serve nothing.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="With --export, replace files that are there.")] = False,
    model: OptionalModelOption = None,
    refinement: RefinementOption = None,
    db: DatabaseOption = None,
) -> None:
    """Explore the database in a browser: facts, neurons, relations, edits. It needs the extra `web`.

    Example: kndb serve --export site --model lab-bert
    """
    from kndb.explorer.server import Server, ServeSettings, require_packages

    settings = ServeSettings(host, port, tuple(allow_host or ()), token, allow_edits)
    require_packages()
    if export is None and (force or model is not None or refinement is not None):
        raise UsageError("--force, --model and --refinement are of --export; a server shows all of them")
    with open_existing(db) as database:
        if export is not None:
            from kndb.explorer.export import export_site

            # Whoever reads the files has no such database: their commands name none.
            with nameless(), progress_bar("pages") as tick:
                written = export_site(
                    database, export, model=model, refinement=refinement, force=force, words=for_shell, progress=tick
                )
            print_record({"out": str(export), "pages": written.pages}, OutputFormat.TABLE)
            for reason, pages in written.missing.items():
                note(f"{pages:,} pages lack what a model gives: {reason}.")
            return
        with Server(database, settings, for_shell) as server:
            print_text(f"Open {server.address}")
            sys.stdout.flush()
            note(f"{_what_is_let_in(settings)} Stop it with Ctrl-C.")
            with contextlib.suppress(KeyboardInterrupt):
                server.run()


def _what_is_let_in(settings: ServeSettings) -> str:
    who = "Only this machine reaches it" if settings.local else "Other machines reach it, with the address's token"
    return f"{who}; {'whoever has the token can edit.' if settings.allow_edits else 'it only reads.'}"
