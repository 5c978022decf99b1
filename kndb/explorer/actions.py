"""What forms change, where edits are allowed: the methods of `Database` that commands call, with their refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import NotFoundError, UsageError
from .addresses import Segments, path_of, with_query
from .context import LARGEST
from .planning import Plan, prepared
from .visit import Visit


@dataclass(frozen=True)
class Done:
    """What was done; the reader goes on at an address."""

    address: str


def act(visit: Visit, segments: Segments, fields: Mapping[str, str]) -> Done:
    """Does what a form asks for.

    Args:
        visit: of a server on which edits are allowed.
        segments: where the form was sent.
        fields: what it holds.

    Raises:
        NotFoundError: if no form is sent there.
        KndbError: what the method raises.
    """
    match segments:
        case ("edits", number, "apply" | "revert" | "evaluate" as way):
            return _edit(visit, _number(number), way)
        case ("plan",):
            return _plan(visit, fields)
        case ("snapshots",):
            visit.database.snapshots.create(_field(fields, "name"), _field(fields, "model"))
            return Done("/edits")
        case ("snapshots", "restore"):
            name, model = _field(fields, "name"), _field(fields, "model")
            visit.room.computed(lambda: visit.database.snapshots.restore(name, model))
            return Done("/edits")
    raise NotFoundError("no form is sent to this address")


def _edit(visit: Visit, number: int, way: str) -> Done:
    edits = visit.database.edits
    # Conditions, and measures, load the model.
    if way == "apply":
        visit.room.computed(lambda: edits.apply(number))
    elif way == "revert":
        edits.revert(number)
    else:
        visit.room.computed(lambda: edits.evaluate(number))
    return Done(path_of(("edits", number)))


def _plan(visit: Visit, fields: Mapping[str, str]) -> Done:
    draft = prepared(visit, Plan.of(fields))
    added = visit.room.computed(lambda: visit.database.edits.add(draft))
    return Done(with_query(path_of(("edits", added.id)), {}))


def _field(fields: Mapping[str, str], name: str) -> str:
    value = fields.get(name, "").strip()
    if not value:
        raise UsageError(f"the form must have a {name}")
    return value


def _number(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 19 and int(text) < LARGEST:
        return int(text)
    raise NotFoundError(f"{text!r} is not the number of an edit")
