"""`kndb edit export`: edits as a LoRA adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kndb.advice import call

from ..numbers import number_ranges, parse_numbers
from ..options import DatabaseOption, open_existing
from ..output import OutputFormat, as_row, note, print_json, print_rows
from .adapter_format import AdapterFormatOption, output_of
from .steps import EditsArgument

MODULE_COLUMNS = [
    "module",
    "layer",
    "rank",
    "slots",
    "slots_equal",
    "values",
    "values_equal",
    "largest_difference",
    "relative_error",
    "lost",
]
_SHORT = ["layer", "rank", "slots", "slots_equal", "values", "values_equal", "relative_error"]


def export(
    edits: EditsArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Write this folder, which must not exist yet.")],
    rank: Annotated[
        int | None,
        typer.Option(
            "--rank",
            metavar="N",
            help="Keep each module's rank at most N; what is left out is told. Default: leave out nothing.",
            show_default=False,
        ),
    ] = None,
    db: DatabaseOption = None,
    formats: AdapterFormatOption = None,
) -> None:
    """Write edits of value slots as one LoRA adapter that peft loads, and say how close it comes to them.

    An adapter is added in floating point, and never bit-exact beside the weights; a file of kndb edit push is.

    Example: kndb edit export 1 --format peft --out toyota-adapter
    """
    output = output_of(formats)
    with open_existing(db) as database:
        from kndb.database.edits.adapter_folder import exactness

        done = database.edits.export_adapter(parse_numbers(edits), out, rank=rank)
        sentences = exactness(done)
    if done.builds_on:
        chain = number_ranges([*done.builds_on, *done.edits]).split()
        note(
            f"The adapter belongs on version {done.version}, which edits {number_ranges(done.builds_on)} build; for "
            f"one of the checkpoint itself: {call('edits.export_adapter', chain, out=out)}"
        )
    note(
        f"Wrote {done.folder}: {len(done.modules)} modules of rank at most {done.rank}, {done.size:,} bytes of tensors."
    )
    for sentence in sentences:
        note(sentence)
    if output is OutputFormat.JSON:
        print_json(as_row(done))
    else:
        print_rows([as_row(one) for one in done.modules], MODULE_COLUMNS, output, short=_SHORT)
