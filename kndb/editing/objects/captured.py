"""How an edit object keeps the change of each parameter. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .diff_format import EditObject
    from .object_format import StoredEdit


@dataclass(frozen=True)
class CapturedTensor:
    """How a parameter's change is kept.

    Attributes:
        parameter: the parameter's name.
        encoding: `slots`, `whole` or `factors`.
        slots: value slots that differ; None for a parameter that is taken as a whole.
        rank: of the factors, if there are any; `exceptions`: values that are
            corrected beside them, in both directions.
    """

    parameter: str
    encoding: str
    slots: int | None
    rank: int | None
    exceptions: int | None


def captured_tensors(content: EditObject | StoredEdit) -> Iterator[CapturedTensor]:
    """How an edit object keeps the change of each parameter."""
    for diff in content.parameters:
        yield CapturedTensor(diff.parameter, "slots", len(diff.indices), None, None)
    for part in content.tensors:
        slots = None if part.slots is None else len(part.slots.indices)
        if part.factors is None:
            yield CapturedTensor(part.parameter, part.encoding, slots, None, None)
        else:
            exceptions = part.factors.forward.count + part.factors.backward.count
            yield CapturedTensor(part.parameter, part.encoding, slots, part.factors.rank, exceptions)


def described(content: EditObject | StoredEdit) -> dict[str, dict[str, Any]]:
    """The same as a capture's recipe has it: for each parameter, all but its name."""
    return {
        one.parameter: {name: value for name, value in vars(one).items() if name != "parameter"}
        for one in captured_tensors(content)
    }
