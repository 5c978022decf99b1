"""`kndb edit apply`."""

from __future__ import annotations

from ..numbers import parse_numbers
from ..options import DatabaseOption, FormatOption, open_existing
from ..output import OutputFormat
from .conditions import NOTHING, NoRequireOption, Required, say_conditions, takes_conditions
from .steps import EditsArgument, print_steps


@takes_conditions
def apply(
    edits: EditsArgument,
    required: Required = NOTHING,
    no_require: NoRequireOption = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Apply edits to their model's current version, in the order given: all of them or none.

    Conditions that they were planned with are checked again, on that version and after the last of the edits.

    Example: kndb edit apply 1
    """
    numbers = parse_numbers(edits)
    with open_existing(db) as database:
        steps = database.edits.apply_all(numbers, require=required.conditions, no_require=no_require)
    print_steps(steps, "Applied", output)
    say_conditions(steps[-1].conditions)
