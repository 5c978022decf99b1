"""The file of facts and new answers that a command plans edits of: its options, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..option_groups import takes

TargetsOption = Annotated[
    Path | None,
    typer.Option(
        "--facts",
        metavar="FILE",
        help="Take the facts and their new answers from this file: a table or JSON lines with `to`, and `fact` or "
        "`relation` and `subject`; or a list of edits of CounterFact, zsRE, MQuAKE, KnowEdit, EasyEdit or RippleEdits.",
        show_default=False,
    ),
]
NewAnswersOption = Annotated[
    str | None,
    typer.Option(
        "--new-answers",
        metavar="FIELD",
        help="With --facts, take the new answers from this field. zsRE needs it: alt (false answers, as EasyEdit) or "
        "answers (true ones, as ROME).",
        show_default=False,
    ),
]
SkipOption = Annotated[
    bool,
    typer.Option(
        "--skip-unusable",
        help="With --facts, skip records that can't be used, and facts for which no edit can be planned.",
    ),
]
MostBytesOption = Annotated[
    int | None,
    typer.Option(
        "--most-bytes",
        metavar="N",
        help="With --facts, refuse a file with more bytes of unpacked text than this. Default: 1 GiB.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class FactList:
    """A file of facts and their new answers, and how it is read.

    Attributes:
        facts: the file, if one is named.
        new_answers: the field of the file with the new answers, if it has several that may be meant.
        skip_unusable: pass over records that can't be used, and facts for which no edit can be planned.
        most_bytes: a file with more of unpacked text is refused; None takes the usual limit.
    """

    facts: Path | None = None
    new_answers: str | None = None
    skip_unusable: bool = False
    most_bytes: int | None = None


NO_LIST = FactList()

takes_fact_list = takes(
    "listed",
    {
        "facts": (TargetsOption, None),
        "new_answers": (NewAnswersOption, None),
        "skip_unusable": (SkipOption, False),
        "most_bytes": (MostBytesOption, None),
    },
    FactList,
)
"""Gives a command --facts, --new-answers, --skip-unusable and --most-bytes in place of its parameter `listed`."""
