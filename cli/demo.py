"""`kndb demo`: the whole idea on a real, trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .output import OutputFormat, print_rows, print_text, progress_bar


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Leave the demo's database in this folder, for you to explore.")
    ] = Path("kndb-demo"),
) -> None:
    """Show everything on a small trained model: ingest, attribute, share, edit, revert, erase, restore.

    Example: kndb demo
    """
    from kndb.demo import Demo

    with Demo(out) as show:
        for chapter in show.chapters():
            print_text(f"\n── {chapter.title}", strong=True)
            with progress_bar(chapter.title) as tick:
                part = chapter.run(tick)
            for line in part.lines:
                print_text(line)
            if part.rows:
                print_rows(part.rows, list(part.rows[0]), OutputFormat.TABLE)
            for line in part.closing:
                print_text(line)
