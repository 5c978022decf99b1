"""`kndb edit import`: a LoRA adapter as an edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import DatabaseOption, ModelOption, open_existing
from ..output import OutputFormat, as_row, note, print_json, print_rows
from .adapter_format import AdapterFormatOption, output_of
from .capture import TENSOR_COLUMNS
from .planning import print_planned


def import_adapter(
    path: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="The adapter's folder: adapter_config.json and adapter_model.safetensors."),
    ],
    model: ModelOption,
    most_bytes: Annotated[
        int | None,
        typer.Option(
            "--most-bytes",
            metavar="N",
            help="Refuse larger tensors. Default: as many bytes as the model's weight files have, and 64 MiB.",
            show_default=False,
        ),
    ] = None,
    db: DatabaseOption = None,
    formats: AdapterFormatOption = None,
) -> None:
    """Turn a LoRA adapter of down projections into an edit of the model's current version; nothing is applied.

    What it adds is computed in float32 and rounded once: from then on the edit is bit-exact, to apply and to revert.
    What it is for is its sender's words. A file of kndb edit push is taken in by kndb edit pull.

    Example: kndb edit import toyota-adapter --format peft --model lab-bert
    """
    output = output_of(formats)
    with open_existing(db) as database:
        adapter = database.edits.draft_adapter(model, path, most_bytes=most_bytes)
        planned = database.edits.add(adapter.draft)
    if adapter.base_model is not None:
        note(f"Its sender says that it is for {adapter.base_model}; the shapes of {model} fit.")
    for remark in adapter.remarks:
        note(remark)
    rows = [as_row(one) for one in adapter.tensors]
    if output is OutputFormat.JSON:
        print_json({"edit": planned.id, **as_row(planned), "tensors": rows, "ranks": dict(adapter.ranks)})
    elif output is OutputFormat.CSV:
        print_rows(rows, TENSOR_COLUMNS, output)
    else:
        print_planned(planned, output)
        print_rows(rows, TENSOR_COLUMNS, output)
