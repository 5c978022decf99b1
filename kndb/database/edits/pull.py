"""Edits from a colleague's file: each is tried on the checkpoint in memory, then all are taken in, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...advice import Placeholder, call, option
from ...editing.objects import diff_file
from ...editing.objects.slots import apply_object, changes
from ...errors import FingerprintError, InputError, KndbError, ModelError, UsageError
from ...exchange import edit_bundle
from ...exchange.edit_bundle import Bundle, BundledEdit, BundledFact
from ...models.sources import locate
from ...models.weights import weight_files
from ...records.conditions import CheckedConditions
from ...records.edits import EditChange
from ...records.facts import Fact
from ...records.models import Model
from ...records.recipes import OptimizeRecipe, UpdateRecipe, relation_of
from ...store import facts as store_facts
from ...store import models as store_models
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ...store.edits.edit import Origin
from ...store.engine import Store
from ...store.version_lists import keep_version
from ...versions import Slot, version_id
from ..models import ModelCommands, ModelVersion
from .claims import ClaimError, change_of, check_claims
from .objects import add_object

_ADD = call("models.add", Placeholder("PATH"))


MOST_CHECKPOINTS = 4
"""A file of edits may be so many times as large as the model's weight files."""
_SMALL = 64 * 1024 * 1024
"""And so many bytes larger: the manifest and the objects' headers."""


@dataclass(frozen=True)
class Pulled:
    """An edit of a file, taken in or only looked at.

    Attributes:
        edit: its number here; None where nothing was stored.
        known: whether it was here already.
        wanted: whether it was asked for when the file was made, or is one that others build on.
        kind: the kind of edit, as its recipe has it: an `erase` puts zeros, a `capture` is as it says, and whether
            values were found by the rule of an `update` or by the steps of an `optimize` can't be told.
        change: what it does, computed from its object.
        base: the version here that it was planned on: the checkpoint with the edits that it builds on.
        fact: the number here of the fact that it is for by its recipe, if that is in this store.
        object_hash: sha256 of its object, computed.
        builds_on: the numbers here of the edits to apply first; where nothing was stored, starts of their hashes.
        unknown_facts: facts of its recipe that are not in this store.
        what, author, created_at: the sender's words: what the edit is for, who planned it, when.
        conditions: those that it was planned with, and what the sender found then; applying it checks them here.
    """

    edit: int | None
    known: bool
    wanted: bool
    kind: str
    change: EditChange
    base: str
    fact: int | None
    object_hash: str
    builds_on: tuple[int | str, ...]
    unknown_facts: int
    what: str
    author: str | None
    created_at: str
    conditions: CheckedConditions | None = None


def pull(
    store: Store, models: ModelCommands, path: Path, model: str | None, *, preview: bool, most_bytes: int | None = None
) -> list[Pulled]:
    """Takes the edits of a file in; see `EditCommands.pull`."""
    if most_bytes is not None and most_bytes < 1:
        raise UsageError(f"{option('most_bytes')} must be at least 1 (got {most_bytes})")
    with edit_bundle.opened(path) as file:
        record = _model(store, file.manifest, path, model)
        bundle = file.read(_most_bytes(record) if most_bytes is None else most_bytes)
    # A file that was changed meanwhile may be for another checkpoint.
    record = _model(store, bundle, path, model)
    contents = {edit.object_hash: _content(path, bundle, edit) for edit in bundle.edits}
    version = models.load(record.name, "base")
    for edit in bundle.edits:
        _check_claims(version, edit, contents[edit.object_hash], path)
    _try_in_memory(version, bundle, contents, path)
    if preview:
        with store.reading() as connection:
            facts = _facts_by_name(connection)
            return [_pulled(connection, record, edit, contents, facts, {}) for edit in bundle.edits]
    return take_in(store, record, bundle, contents, path)


def _check_claims(version: ModelVersion, edit: BundledEdit, content: diff_file.EditObject, path: Path) -> None:
    try:
        check_claims(edit, content, version)
    except ClaimError as claim:
        raise InputError(
            f"{path}: edit {edit.object_hash[:12]} is not what it says: {claim}. Nothing of the file was stored"
        ) from None


def _most_bytes(record: Model) -> int:
    """The largest file that is read if nobody allows more.

    Raises:
        ModelError: if the checkpoint is gone.
    """
    weights = sum(file.stat().st_size for file in weight_files(locate(record.source)))
    return MOST_CHECKPOINTS * weights + _SMALL


def take_in(
    store: Store, record: Model, bundle: Bundle, contents: Mapping[str, diff_file.EditObject], path: Path
) -> list[Pulled]:
    """Stores the edits of a file that were tried, all or none.

    Args:
        store: the store.
        record: the model.
        bundle: the file.
        contents: the content of each object, by its hash.
        path: the file's, for messages.

    Raises:
        InputError: if an edit does not fit.
    """
    with store.writing() as connection:
        facts = _facts_by_name(connection)
        relations = {relation.key: relation.id for relation in store_facts.relations(connection)}
        numbers: dict[str, int] = {}
        known: set[str] = set()
        for edit in bundle.edits:
            if store_edits.edit_with_object(connection, record.id, edit.object_hash) is not None:
                known.add(edit.object_hash)
            content = contents[edit.object_hash]
            numbers[edit.object_hash] = _add(connection, store, record, edit, content, facts, relations, numbers, path)
        return [
            _pulled(connection, record, edit, contents, facts, numbers, known=edit.object_hash in known)
            for edit in bundle.edits
        ]


def _content(path: Path, bundle: Bundle, edit: BundledEdit) -> diff_file.EditObject:
    """An object's content, which must be what the manifest says."""
    content = diff_file.decode(bundle.objects[edit.object_hash], f"object {edit.object_hash[:12]} in {path}")
    if (content.kind, content.fingerprint) != (edit.kind, bundle.fingerprint):
        raise InputError(
            f"{path}: object {edit.object_hash[:12]} is of kind {content.kind!r} for fingerprint "
            f"{content.fingerprint[:12]}, but the manifest says {edit.kind!r} for {bundle.fingerprint[:12]}; have "
            "the file sent again"
        )
    return content


def _model(store: Store, bundle: Bundle, path: Path, name: str | None) -> Model:
    """The model of a file's fingerprint.

    Raises:
        FingerprintError: if there is none, or the named one has another.
        InputError: if the file says that it has another size.
    """
    found = _model_of_fingerprint(store, bundle, path, name)
    if (bundle.layers, bundle.neurons) != (found.layers, found.neurons):
        raise InputError(
            f"{path} says that the model has {bundle.layers} layers of {bundle.neurons} neurons, and the checkpoint "
            f"with its fingerprint, {found.name!r}, has {found.layers} of {found.neurons}; have it sent again"
        )
    return found


def _model_of_fingerprint(store: Store, bundle: Bundle, path: Path, name: str | None) -> Model:
    with store.reading() as connection:
        every = store_models.models(connection)
        named = None if name is None else store_models.model(connection, name)
    if named is not None:
        if named.fingerprint != bundle.fingerprint:
            raise FingerprintError(
                f"{path} has edits of a checkpoint with fingerprint {bundle.fingerprint[:12]}, which its author calls "
                f"{bundle.model!r}; model {named.name!r} here has {named.fingerprint[:12] or 'none'}. An edit fits the "
                f"very bytes that it was planned on; register that checkpoint with: {_ADD}"
            )
        return named
    matching = [one for one in every if one.fingerprint == bundle.fingerprint]
    if len(matching) > 1:
        names = ", ".join(one.name for one in matching)
        raise ModelError(f"models {names} all have the fingerprint of {path}; say which one with {option('model')}")
    if not matching:
        here = ", ".join(f"{one.name} {one.fingerprint[:12] or 'none'}" for one in every) or "no models"
        raise FingerprintError(
            f"{path} has edits of a checkpoint with fingerprint {bundle.fingerprint[:12]}, which its author calls "
            f"{bundle.model!r} ({bundle.family}, {bundle.layers} layers of {bundle.neurons} neurons); here there are "
            f"{here}. Register that checkpoint with: {_ADD}"
        )
    return matching[0]


def _try_in_memory(
    version: ModelVersion, bundle: Bundle, contents: Mapping[str, diff_file.EditObject], path: Path
) -> None:
    """Applies each edit, on those that it builds on, to the checkpoint in memory: every byte it expects is there.

    Raises:
        InputError: if one does not fit.
    """
    parameters = dict(version.model.named_parameters())
    for edit in bundle.edits:
        applied: list[diff_file.EditObject] = []
        try:
            for object_hash in (*edit.builds_on, edit.object_hash):
                apply_object(parameters, contents[object_hash])
                applied.append(contents[object_hash])
        except KndbError as error:
            raise InputError(
                f"{path}: edit {edit.object_hash[:12]} does not fit the checkpoint of {version.record.name!r}: {error}"
            ) from error
        finally:
            for content in reversed(applied):
                apply_object(parameters, content, reverse=True)


_FactNames = Mapping[tuple[str, str | None, str, str | None], Fact]


def _facts_by_name(connection: Any) -> _FactNames:
    return {
        (fact.relation, fact.subject, fact.object, None if fact.subject is not None else fact.external_id): fact
        for fact in store_facts.find_facts(connection)
    }


def _local(fact: BundledFact, facts: _FactNames) -> Fact | None:
    external_id = None if fact.subject is not None else fact.external_id
    return facts.get((fact.relation, fact.subject, fact.object, external_id))


def _add(
    connection: Any,
    store: Store,
    record: Model,
    edit: BundledEdit,
    content: diff_file.EditObject,
    facts: _FactNames,
    relations: Mapping[str, int],
    numbers: Mapping[str, int],
    path: Path,
) -> int:
    local = {str(fact.number): _local(fact, facts) for fact in edit.facts}
    fact_numbers = {number: None if fact is None else fact.id for number, fact in local.items()}
    recipe = content.recipe
    about = recipe.fact if isinstance(recipe, (UpdateRecipe, OptimizeRecipe)) else None
    relation_id = relations.get(relation_of(recipe))
    known = store_edits.edit_with_object(connection, record.id, edit.object_hash)
    if known is not None:
        if known.fact_numbers is not None:
            # Facts that were not here when it was pulled first may be here now; what is known stays known, whatever
            # another file calls it.
            already = {key: here for key, here in known.fact_numbers.items() if here is not None}
            fact_numbers = {**known.fact_numbers, **fact_numbers, **already}
            own_id = None if about is None else fact_numbers.get(str(about.id))
            store_edits.note_facts(connection, known.id, fact_numbers, own_id, relation_id)
        return known.id
    foundation = [numbers[object_hash] for object_hash in edit.builds_on]
    try:
        state = store_versions.slot_state(connection, record.id, foundation)
        version = store_versions.state_version(record.fingerprint, state)
        keep_version(connection, record.id, version, foundation)
        own = None if about is None else local.get(str(about.id))
        return add_object(
            connection,
            store,
            record.id,
            content,
            version,
            None if own is None else own.id,
            relation_id,
            Origin(edit.author, edit.created_at, fact_numbers),
            edit.conditions,
        )
    except KndbError as error:
        raise InputError(f"{path}: edit {edit.object_hash[:12]} does not fit: {error}") from error


def _pulled(
    connection: Any,
    record: Model,
    edit: BundledEdit,
    contents: Mapping[str, diff_file.EditObject],
    facts: _FactNames,
    numbers: Mapping[str, int],
    *,
    known: bool | None = None,
) -> Pulled:
    content = contents[edit.object_hash]
    here = store_edits.edit_with_object(connection, record.id, edit.object_hash)
    local = {fact.number: _local(fact, facts) for fact in edit.facts}
    about = content.recipe.fact if isinstance(content.recipe, (UpdateRecipe, OptimizeRecipe)) else None
    own = None if about is None else local.get(about.id)
    return Pulled(
        edit=None if here is None else here.id,
        known=here is not None if known is None else known,
        wanted=edit.wanted,
        kind=content.kind,
        change=change_of(content),
        base=_base(record, [contents[object_hash] for object_hash in edit.builds_on]),
        fact=None if own is None else own.id,
        object_hash=edit.object_hash,
        builds_on=tuple(numbers.get(object_hash, object_hash[:12]) for object_hash in edit.builds_on),
        unknown_facts=sum(fact is None for fact in local.values()),
        what=content.recipe.title,
        author=edit.author,
        created_at=edit.created_at,
        conditions=edit.conditions,
    )


def _base(record: Model, before: Sequence[diff_file.EditObject]) -> str:
    """The version that the edits before one lead to; all were tried, so that each fits on those before it."""
    base: dict[Slot, str] = {}
    present: dict[Slot, str] = {}
    for content in before:
        for change in changes(content):
            slot = (change.parameter, change.layer, change.neuron)
            base.setdefault(slot, change.old_sha256)
            present[slot] = change.new_sha256
    return version_id(record.fingerprint, {slot: found for slot, found in present.items() if found != base[slot]})
