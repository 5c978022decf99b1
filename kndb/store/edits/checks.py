"""The part of `kndb db check` that looks at edits: do versions, applied edits and history tell one story?

Each check recomputes from the slots' hashes what another row says; nothing is changed. The bytes of the edit
objects are checked elsewhere: they need torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import Connection, func, select

from ...errors import StoreDamagedError
from ...records.models import Neuron
from ..snapshots import snapshots
from ..tables import EditNeuronRow, EditRow, EditTensorRow, ModelRow
from ..version_lists import VersionList, version_lists
from ..versions import CurrentModel, StoredSlot, applied_edits, current_model, stored_slots
from .edit import edits, history
from .road import Road

_SlotsOf = Mapping[int, Sequence[StoredSlot]]
_Versions = Mapping[str, VersionList]


def check_edits(connection: Connection) -> list[str]:
    """Lists what is wrong with the edits, versions, histories and snapshots of all registered checkpoints.

    Args:
        connection: an open transaction.
    """
    # A model of which only results were imported has no weights, and so no versions.
    registered = select(ModelRow.id).where(ModelRow.fingerprint != "").order_by(ModelRow.id)
    return [
        f"model {current_model(connection, model_id).name}: {problem}"
        for model_id in connection.scalars(registered).all()
        for problem in check_model(connection, model_id)
    ]


def check_model(connection: Connection, model_id: int) -> list[str]:
    """Lists what is wrong with the edits, versions, history and snapshots of one registered checkpoint.

    Args:
        connection: an open transaction.
        model_id: the model.

    Raises:
        NotFoundError: if there is no such model.
    """
    return list(_model_problems(connection, current_model(connection, model_id)))


def _model_problems(connection: Connection, model: CurrentModel) -> Iterator[str]:
    edit_ids = [edit.id for edit in edits(connection, model.id)]
    slots_of = stored_slots(connection, model.id, edit_ids)
    versions = version_lists(connection, model.id)
    yield from _version_problems(model, versions, slots_of)
    yield from _applied_problems(connection, model, slots_of)
    yield from _edit_problems(connection, model.id, versions, slots_of)
    yield from _base_problems(connection, model.id)
    yield from _tensor_base_problems(connection, model.id)
    yield from _history_problems(connection, model, versions)
    for snapshot in snapshots(connection, model.id):
        if snapshot.version not in versions:
            yield f"snapshot {snapshot.name!r} names version {snapshot.version}, which is not known"


def _version_problems(model: CurrentModel, versions: _Versions, slots_of: _SlotsOf) -> Iterator[str]:
    base = versions.get(model.base)
    if base is None or base.edits or base.since is not None:
        found = "not known" if base is None else base.edits
        yield f"the base version {model.base} is {found}; it has to be known, with no edits"
    whole = {version for version, row in versions.items() if row.since is None}
    for version, row in versions.items():
        if row.since is not None and row.since not in whole:
            yield f"version {version} can't be built: version {row.since}, whose edits come first, has no whole list"
    road = Road(model.fingerprint, slots_of)
    problems = {}
    for version in _along_the_road(versions):
        row = versions[version]
        if row.since is None or row.since in whole:
            first = [] if row.since is None else versions[row.since].edits
            problems[version] = _build_problem(road, version, first + row.edits, f"version {version}")
    for problem in map(problems.get, versions):
        if problem is not None:
            yield problem


def _along_the_road(versions: _Versions) -> list[str]:
    """The versions in an order in which each list has as much as possible in common with the one before."""
    later: dict[str, list[str]] = {}
    for version, row in versions.items():
        if row.since is not None:
            later.setdefault(row.since, []).append(version)
    return [
        version
        for first in sorted(
            (one for one in versions if versions[one].since is None), key=lambda one: versions[one].edits
        )
        for version in (first, *sorted(later.pop(first, ()), key=lambda one: versions[one].edits))
    ]


def _applied_problems(connection: Connection, model: CurrentModel, slots_of: _SlotsOf) -> Iterator[str]:
    applied = applied_edits(connection, model.id)
    problem = _build_problem(Road(model.fingerprint, slots_of), model.version, applied, "the applied edits")
    if problem is not None:
        yield problem


def _build_problem(road: Road, version: str, edit_ids: Sequence[int], what: str) -> str | None:
    try:
        road.go_to(edit_ids)
    except StoreDamagedError as error:
        return f"{what} can't be built: {error}"
    if road.version != version:
        return f"{what}, edits {list(edit_ids)}, give version {road.version} in place of {version}"
    return None


def _edit_problems(connection: Connection, model_id: int, versions: _Versions, slots_of: _SlotsOf) -> Iterator[str]:
    for edit in edits(connection, model_id):
        if edit.id not in slots_of:
            yield f"edit {edit.id} changes no value slot; it has to change at least one"
        if edit.base_version not in versions:
            yield f"edit {edit.id} was planned on version {edit.base_version}, which is not known"


def _base_problems(connection: Connection, model_id: int) -> Iterator[str]:
    slot = (EditNeuronRow.parameter, EditNeuronRow.layer, EditNeuronRow.neuron)
    query = (
        select(*slot, func.count(EditNeuronRow.base_sha256.distinct()).label("bases"))
        .join(EditRow, EditRow.id == EditNeuronRow.edit_id)
        .where(EditRow.model_id == model_id)
        .group_by(*slot)
        .having(func.count(EditNeuronRow.base_sha256.distinct()) > 1)
    )
    for row in connection.execute(query):
        slot_name = f"{Neuron(row.layer, row.neuron)} of {row.parameter}"
        yield f"slot {slot_name} has {row.bases} different hashes in the base checkpoint in place of one"


def _tensor_base_problems(connection: Connection, model_id: int) -> Iterator[str]:
    bases = func.count(EditTensorRow.base_sha256.distinct())
    query = (
        select(EditTensorRow.parameter, bases.label("bases"))
        .join(EditRow, EditRow.id == EditTensorRow.edit_id)
        .where(EditRow.model_id == model_id)
        .group_by(EditTensorRow.parameter)
        .having(bases > 1)
    )
    for row in connection.execute(query):
        yield f"{row.parameter} has {row.bases} different hashes in the base checkpoint in place of one"


def _history_problems(connection: Connection, model: CurrentModel, versions: _Versions) -> Iterator[str]:
    """Follows the history from the base version: each step joins the one before; all lead to the present."""
    version = model.base
    applied: dict[int, None] = {}
    for entry in history(connection, model.id):
        if entry.version_before != version:
            yield f"history {entry.id} begins at version {entry.version_before} in place of {version}"
        if entry.version_after not in versions:
            yield f"history {entry.id} ends at version {entry.version_after}, which is not known"
        version = entry.version_after
        if entry.edit is None:
            continue
        # An old restore's row doesn't say which way it goes: it takes an applied edit back, or applies one.
        present = entry.edit in applied
        way = entry.direction or entry.action
        if (way == "apply" and present) or (way == "revert" and not present):
            yield f"history {entry.id} says {way} of edit {entry.edit}, against the steps before it"
        if applied.pop(entry.edit, ...) is ...:
            applied[entry.edit] = None
    if version != model.version:
        yield f"the history ends at version {version}, and the current version is {model.version}"
    found = applied_edits(connection, model.id)
    if list(applied) != found:
        yield f"the history leaves edits {list(applied)} applied, and {found} are"
