"""`--format` of the commands of adapters, which names the adapter's format and how the answer is printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from kndb.errors import UsageError

from ..output import OutputFormat

PEFT = "peft"
AdapterFormatOption = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="The adapter's format, peft (the only one so far), or how to print the answer: table, json or csv. "
        "Repeat it for both. Default: peft, table.",
        show_default=False,
    ),
]


def output_of(words: Sequence[str] | None) -> OutputFormat:
    """How to print the answer.

    Raises:
        UsageError: if a word is neither that nor an adapter's format, or there are two of a kind.
    """
    prints = [one.value for one in OutputFormat]
    unknown = [word for word in words or () if word not in (PEFT, *prints)]
    if unknown:
        raise UsageError(f"--format must be {PEFT}, {', '.join(prints)} (got {unknown[0]!r})")
    chosen = [word for word in words or () if word in prints]
    if len(chosen) > 1:
        raise UsageError(f"--format says twice how to print the answer: {' and '.join(chosen)}; give one of them")
    return OutputFormat(chosen[0]) if chosen else OutputFormat.TABLE
