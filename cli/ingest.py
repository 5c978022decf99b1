"""`kndb ingest`: fact lists into the store."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import DatabaseOption, FormatOption, RelationsOption, open_or_create
from .output import OutputFormat, as_row, note, print_record

if TYPE_CHECKING:
    from kndb.records.facts import FactFile

_NAMED = 10
"""Files that a remark names."""


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
    """Read fact lists and store what is new: all of it, or nothing. Of lists of edits, the facts as they are.

    Example: kndb ingest data/facts
    """
    from kndb.database.facts import MOST_BYTES, MOST_PROMPTS, passed_over, read_files

    size = MOST_BYTES if most_bytes is None else most_bytes
    prompts = MOST_PROMPTS if most_prompts is None else most_prompts
    files = read_files(paths, input_format, relation or [], skip_invalid, size, language or [])
    with open_or_create(db) as database:
        report = database.facts.store_files(files, prompts)
        models = [model.name for model in database.models.all()]
    for line in report.rejected:
        note(f"Left out: {line}")
    for path in paths:
        _note_passed_over(passed_over(path, input_format))
    summary = as_row(report)
    if output is not OutputFormat.JSON:
        summary["rejected"] = len(report.rejected)
    print_record(summary, output)
    edits = [file for file in files if any(fact.edit is not None for fact in file.facts)]
    if edits:
        note(_not_applied(edits, report.new_answers, models, db))


def _note_passed_over(files: Sequence[Path]) -> None:
    """Says which files of a folder were not read, as they may be lists that the user means."""
    if files:
        named = ", ".join(path.name for path in files[:_NAMED])
        more = f" and {len(files) - _NAMED} more" if files[_NAMED:] else ""
        those = "it" if len(files) == 1 else "them"
        note(f"Passed over in {files[0].parent}: {named}{more}; to read {those}, name {those}.")


def _not_applied(files: Sequence[FactFile], count: int, models: Sequence[str], db: str | None) -> str:
    """Says that the new answers of lists of edits are not used, and the command that uses those of the first."""
    fields = {field: None for file in files[:1] for fact in file.facts if fact.edit for field in fact.edit.answers}
    words = ["kndb", "edit", "optimize", "--model", models[0] if len(models) == 1 else "NAME"]
    words += ["--facts", files[0].source]
    words += ["--new-answers", next(iter(fields))] if len(fields) > 1 else []
    words += ["--skip-unusable"] if files[0].rejected else []
    words += ["--db", db] if db else []
    chosen = (
        f"; {' and '.join(fields)} hold different ones, of which --new-answers names one" if len(fields) > 1 else ""
    )
    facts = "1 fact" if count == 1 else f"{count} facts"
    others = len(files) - 1
    further = f", and likewise for {'1 more file' if others == 1 else f'{others} more files'}," if others else ""
    return (
        f"New answers of {facts} were not applied{chosen}. Once the facts are attributed, plan edits{further} with: "
        f"{shlex.join(words)}"
    )
