"""`kndb ingest`: fact lists into the store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import DatabaseOption, FormatOption, RelationsOption, open_or_create
from .output import OutputFormat, as_row, note, print_record


def ingest(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", help="Read these files or folders of facts and templates.")
    ],
    input_format: Annotated[
        str,
        typer.Option(
            "--input-format",
            metavar="NAME",
            help="Read files in this format, such as csv or pararel (kndb docs formats); auto finds out which.",
        ),
    ] = "auto",
    relation: RelationsOption = None,
    language: Annotated[
        list[str] | None,
        typer.Option(
            "--language",
            metavar="CODE",
            help="Read only this language, such as de, of mLAMA or mParaRel; repeatable. Default: all.",
            show_default=False,
        ),
    ] = None,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Skip lines that can't be used, and list them, instead of stopping.")
    ] = False,
    most_bytes: Annotated[
        int | None,
        typer.Option(
            "--most-bytes",
            metavar="N",
            help="Refuse files with more bytes of unpacked text than this, all together. Default: 1 GiB.",
            show_default=False,
        ),
    ] = None,
    most_prompts: Annotated[
        int | None,
        typer.Option(
            "--most-prompts",
            metavar="N",
            help="Refuse lists that make more new prompts than this. Default: 20 million.",
            show_default=False,
        ),
    ] = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Read fact lists and store what is new: all of it, or nothing.

    Example: kndb ingest data/facts
    """
    from kndb.database.facts import MOST_BYTES, MOST_PROMPTS, read_files

    size = MOST_BYTES if most_bytes is None else most_bytes
    prompts = MOST_PROMPTS if most_prompts is None else most_prompts
    files = read_files(paths, input_format, relation or [], skip_invalid, size, language or [])
    with open_or_create(db) as database:
        report = database.facts.store_files(files, prompts)
    for line in report.rejected:
        note(f"Left out: {line}")
    summary = as_row(report)
    if output is not OutputFormat.JSON:
        summary["rejected"] = len(report.rejected)
    print_record(summary, output)
