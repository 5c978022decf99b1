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
from ..tables import EditNeuronRow, EditRow, EditTensorRow, ModelRow, VersionRow
from ..versions import CurrentModel, StoredSlot, applied_edits, current_model, state_version, stored_slots, walk
from .edit import edits, history

_SlotsOf = Mapping[int, Sequence[StoredSlot]]


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
    versions = _versions(connection, model.id)
    yield from _version_problems(model, versions, slots_of)
    yield from _applied_problems(connection, model, slots_of)
    yield from _edit_problems(connection, model.id, versions, slots_of)
    yield from _base_problems(connection, model.id)
    yield from _tensor_base_problems(connection, model.id)
    yield from _history_problems(connection, model, versions)
    for snapshot in snapshots(connection, model.id):
        if snapshot.version not in versions:
            yield f"snapshot {snapshot.name!r} names version {snapshot.version}, which is not known"


def _versions(connection: Connection, model_id: int) -> dict[str, list[int]]:
    query = select(VersionRow.version, VersionRow.edits).where(VersionRow.model_id == model_id)
    return {row.version: row.edits for row in connection.execute(query.order_by(VersionRow.created_at))}


def _version_problems(model: CurrentModel, versions: Mapping[str, list[int]], slots_of: _SlotsOf) -> Iterator[str]:
    if versions.get(model.base) != []:
        found = versions.get(model.base, "not known")
        yield f"the base version {model.base} is {found}; it has to be known, with no edits"
    for version, edit_ids in versions.items():
        yield from _build_problem(model, version, edit_ids, slots_of, f"version {version}")


def _applied_problems(connection: Connection, model: CurrentModel, slots_of: _SlotsOf) -> Iterator[str]:
    applied = applied_edits(connection, model.id)
    yield from _build_problem(model, model.version, applied, slots_of, "the applied edits")


def _build_problem(
    model: CurrentModel, version: str, edit_ids: Sequence[int], slots_of: _SlotsOf, what: str
) -> Iterator[str]:
    try:
        built = state_version(model.fingerprint, walk(slots_of, edit_ids))
    except StoreDamagedError as error:
        yield f"{what} can't be built: {error}"
        return
    if built != version:
        yield f"{what}, edits {list(edit_ids)}, give version {built} in place of {version}"


def _edit_problems(
    connection: Connection, model_id: int, versions: Mapping[str, list[int]], slots_of: _SlotsOf
) -> Iterator[str]:
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


def _history_problems(connection: Connection, model: CurrentModel, versions: Mapping[str, list[int]]) -> Iterator[str]:
    """Follows the history from the base version: each step joins the one before; all lead to the present."""
    version = model.base
    applied: list[int] = []
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
        applied = [other for other in applied if other != entry.edit]
        applied += [] if present else [entry.edit]
    if version != model.version:
        yield f"the history ends at version {version}, and the current version is {model.version}"
    found = applied_edits(connection, model.id)
    if applied != found:
        yield f"the history leaves edits {applied} applied, and {found} are"
