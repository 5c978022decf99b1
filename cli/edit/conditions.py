"""Conditions on edits that are to be stored or applied: their options, as one value, and how they are printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.errors import UsageError
from kndb.records.conditions import CheckedConditions, Condition, parse_conditions

from ..option_groups import takes
from ..output import OutputFormat, note

if TYPE_CHECKING:
    from kndb.database import Database
    from kndb.database.edits.batch import Batch
    from kndb.database.edits.batches import GroupBatch
    from kndb.database.edits.draft import Draft
    from kndb.records.edits import Edit

RequireOption = Annotated[
    list[str] | None,
    typer.Option(
        "--require",
        metavar="CONDITION",
        help='Stop with exit code 8, and change nothing, unless this holds, such as "success>=95%" or '
        '"perplexity.others<=1.05". Repeatable. Measured in memory, several edits after the last one.',
        show_default=False,
    ),
]
ConfidentOption = Annotated[
    bool,
    typer.Option(
        "--confident",
        help="With --require, compare the worse end of each measure's 95 % confidence interval, not its value.",
    ),
]
NoRequireOption = Annotated[
    bool,
    typer.Option(
        "--no-require", help="Leave out the conditions that the edits were planned with; the log will say so."
    ),
]


@dataclass(frozen=True)
class Required:
    """The conditions that a command was given; checked before anything is stored."""

    conditions: tuple[Condition, ...] = ()

    def add(self, database: Database, draft: Draft) -> Edit:
        """Stores a draft, if the conditions hold."""
        return database.edits.add(draft, require=self.conditions)

    def add_batch(self, database: Database, batch: Batch | GroupBatch) -> list[Edit]:
        """Stores the drafts of a batch, if the conditions hold after the last one."""
        return database.edits.add_batch(batch, require=self.conditions)

    def check(self, database: Database, draft: Draft) -> None:
        """Checks the conditions on a draft that is only previewed, and says what was found."""
        if self.conditions:
            say_conditions(database.edits.check(draft, self.conditions))

    def check_batch(self, database: Database, batch: Batch | GroupBatch) -> None:
        """The same for a batch."""
        if self.conditions:
            say_conditions(database.edits.check_batch(batch, self.conditions))


NOTHING = Required()


def required(require: Sequence[str] | None, confident: bool) -> Required:
    """The conditions of --require.

    Raises:
        UsageError: if one is none, or --confident is given without any.
    """
    if confident and not require:
        raise UsageError("--confident needs --require: it says how conditions are compared")
    return Required(parse_conditions(require or (), confident=confident))


takes_conditions = takes(
    "required", {"require": (RequireOption, None), "confident": (ConfidentOption, False)}, required
)
"""Gives a command --require and --confident in place of its parameter `required`, a `Required`."""


def say_conditions(found: CheckedConditions | None) -> None:
    """Says on stderr which conditions hold."""
    if found is not None and found.checked:
        together = f", after the last of {found.edits} edits" if found.edits > 1 else ""
        note(f"Conditions{together}: {'; '.join(one.words for one in found.checked)}.")
    if found is not None and found.skipped:
        note(f"Not checked: {'; '.join(one.words for one in found.skipped)}.")


def conditions_cell(found: CheckedConditions | None, output: OutputFormat) -> Any:
    """Conditions in a row: all of them in JSON, in words in CSV, as few words as do in a table."""
    if found is None:
        return None
    if output is OutputFormat.JSON:
        return found.as_json()
    if output is OutputFormat.CSV:
        return found.words
    counts = [(len(found.checked), "held"), (len(found.skipped), "not checked")]
    return ", ".join(f"{count} {what}" for count, what in counts if count)
