"""What forms change, where edits are allowed: the methods of `Database` that commands call, with their refusals.

Each form carries the version of the model that its page showed: where the model is at another one by then, nothing is
done. All forms there are stand in `ACTIONS`; nothing is sent anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..advice import call
from ..errors import EditError, NotFoundError, UsageError, VersionMovedError
from .addresses import Segments, parts_of, path_of
from .planning import Plan, tried
from .visit import Visit


@dataclass(frozen=True)
class Done:
    """What was done; the reader goes on at an address."""

    address: str


@dataclass(frozen=True)
class Action:
    """A kind of form.

    Attributes:
        pattern: where it is sent, as in `registry.Place`.
        do: does what it asks for, of a visit that has the variable parts, and the form's fields.
    """

    pattern: str
    do: Callable[[Visit, Mapping[str, str]], Done]


def action_at(segments: Segments) -> tuple[Action, dict[str, str]]:
    """The kind of form that is sent to an address, with its variable parts.

    Raises:
        NotFoundError: if none is.
    """
    for action in ACTIONS:
        parts = parts_of(action.pattern, segments)
        if parts is not None:
            return action, parts
    raise NotFoundError("no form is sent to this address")


def _apply(visit: Visit, fields: Mapping[str, str]) -> Done:
    number, edits = visit.number("edit"), visit.database.edits
    ahead = edits.steps_ahead([number], "apply")
    shown = _require_shown(fields, ahead.model, ahead.version_before)
    # Conditions load the model.
    visit.room.computed(lambda: edits.apply(number, expected=shown))
    return Done(path_of(("edits", number)))


def _revert(visit: Visit, fields: Mapping[str, str]) -> Done:
    number, edits = visit.number("edit"), visit.database.edits
    ahead = edits.steps_ahead([number], "revert")
    edits.revert(number, expected=_require_shown(fields, ahead.model, ahead.version_before))
    return Done(path_of(("edits", number)))


def _evaluate(visit: Visit, fields: Mapping[str, str]) -> Done:
    number, edits = visit.number("edit"), visit.database.edits

    def measure() -> None:
        # Asked once it is alone: the same form may have been sent twice.
        if str(len(edits.evaluations(number))) != _field(fields, "evaluations"):
            raise EditError(f"edit {number} was measured since this page was made; open the page again")
        edits.evaluate(number)

    visit.room.computed(measure)
    return Done(path_of(("edits", number)))


def _plan(visit: Visit, fields: Mapping[str, str]) -> Done:
    wanted = Plan.of(fields)
    current = visit.database.models.resolve_version(wanted.model)
    _require_shown(fields, wanted.model, current)
    draft = tried(visit, wanted, current).draft
    # A program that sends what it was not shown has no draft to hold it to.
    if fields.get("draft", draft.object_hash) != draft.object_hash:
        raise EditError(
            "facts, prompts or refinements were added since this page was made, and the edit comes out otherwise, so "
            "nothing was stored; open the page again"
        )
    edits = visit.database.edits
    added = visit.room.stored_once(
        (wanted, current), lambda: edits.add(draft, require=wanted.require, confident=wanted.confident)
    )
    return Done(path_of(("edits", added.id)))


def _name(visit: Visit, fields: Mapping[str, str]) -> Done:
    model, name = _field(fields, "model"), _field(fields, "name")
    current = visit.database.models.resolve_version(model)
    shown = _require_shown(fields, model, current)
    visit.database.snapshots.create(name, model, shown)
    return Done("/edits")


def _restore(visit: Visit, fields: Mapping[str, str]) -> Done:
    model, name = _field(fields, "model"), _field(fields, "name")
    snapshots = visit.database.snapshots
    version = snapshots.get(name, model).version
    shown = _require_shown(fields, model, visit.database.models.resolve_version(model))
    if version != _field(fields, "goal"):
        raise VersionMovedError(
            f"{name!r} is version {version} now, and was {fields['goal']} when this page was made, so nothing was "
            "changed; open the page again"
        )
    visit.room.computed(lambda: snapshots.restore(name, model, expected=shown))
    return Done("/edits")


ACTIONS: tuple[Action, ...] = (
    Action("/edits/{edit}/apply", _apply),
    Action("/edits/{edit}/revert", _revert),
    Action("/edits/{edit}/evaluate", _evaluate),
    Action("/plan", _plan),
    Action("/snapshots", _name),
    Action("/snapshots/restore", _restore),
)
"""All forms that change the store."""


def _require_shown(fields: Mapping[str, str], model: str, current: str) -> str:
    """The version that the form's page showed, which must be the current one."""
    shown = _field(fields, "version")
    if shown != current:
        raise VersionMovedError(
            f"model {model} moved from version {shown} to {current} since this page was made, so nothing was changed; "
            f"look at {call('edits.log', model=model)}, then open the page again"
        )
    return shown


def _field(fields: Mapping[str, str], name: str) -> str:
    value = fields.get(name, "").strip()
    if not value:
        raise UsageError(f"the form must have a {name}")
    return value
