"""`kndb edit apply`."""

from __future__ import annotations

from ..numbers import parse_numbers
from ..options import DatabaseOption, FormatOption, open_existing
from ..output import OutputFormat
from .steps import EditsArgument, print_steps


def apply(
    edits: EditsArgument,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Apply edits to their model's current version, in the order given: all of them or none.

    Example: kndb edit apply 1
    """
    numbers = parse_numbers(edits)
    with open_existing(db) as database:
        print_steps(database.edits.apply_all(numbers), "Applied", output)
