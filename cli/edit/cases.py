"""`kndb edit cases`: a set like CounterFact's, of what a model knows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kndb.errors import UsageError
from kndb.files import require_new_file
from kndb.records.cases import LEFT_OUT, CaseSettings

from ..options import (
    DatabaseOption,
    FormatOption,
    ModelOption,
    RelationsOption,
    ThreadsOption,
    computing,
    open_existing,
)
from ..output import OutputFormat, note, print_rows, progress_bar
from .trial_options import SeedOption

_COLUMNS = ["relation", "label", "subject", "object", "to", "prompts", "paraphrases", "neighbours"]
_SHORT = [name for name in _COLUMNS if name != "label"]


def cases(
    model: ModelOption,
    relation: RelationsOption = None,
    count: Annotated[
        int, typer.Option("--count", help="Draw so many cases; all that there are, if there are fewer.")
    ] = 100,
    known: Annotated[
        float,
        typer.Option(
            "--known",
            metavar="SHARE",
            help="Take facts that the model answers on at least this share of their prompts (0 to 1).",
        ),
    ] = 1.0,
    neighbours: Annotated[
        int,
        typer.Option("--neighbours", help="Give each case so many prompts of other subjects with the same object."),
    ] = 10,
    seed: SeedOption = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the cases to this file, for --facts.", show_default=False),
    ] = None,
    form: Annotated[
        str,
        typer.Option("--as", metavar="lines|counterfact", help="Write JSON lines, or CounterFact's own JSON."),
    ] = "lines",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    threads: ThreadsOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Draw facts that a model knows, each with another object of its relation as new answer: a set like CounterFact's.

    Example: kndb edit cases --model lab-bert --relation P176 --count 5 --out cases.jsonl
    """
    settings = CaseSettings(count, seed, known, neighbours)
    if out is None and (force or form != "lines"):
        raise UsageError("--as and --force are of a file; name it with --out FILE")
    if out is not None:
        require_new_file(out, force=force)
    with open_existing(db) as database, computing(threads):
        with progress_bar("Drawing", "cases") as tick:
            found = database.edits.cases(model, relations=relation or [], settings=settings, progress=tick)
        if out is not None:
            found = database.edits.write_cases(found, out, form=form, force=force)
    for reason, number in found.left_out.items():
        note(f"{number} facts that were drawn are no cases: {LEFT_OUT[reason]}.")
    for name, what in (("paraphrases", "held-out paraphrase"), ("neighbours", "other subject with the same object")):
        missing = sum(not getattr(case, name) for case in found.cases)
        if missing:
            note(f"{missing} of {len(found.cases)} cases have no {what}.")
    if out is not None:
        note(f"Wrote {len(found.cases)} cases of model {found.model} at {found.version} to {out}.")
    rows = [
        {
            "relation": case.relation,
            "label": case.label,
            "subject": case.subject,
            "object": case.object,
            "to": case.to,
            "prompts": len(case.prompts),
            "paraphrases": len(case.paraphrases),
            "neighbours": len(case.neighbours),
        }
        for case in found.cases
    ]
    print_rows(rows, _COLUMNS, output, short=_SHORT)
