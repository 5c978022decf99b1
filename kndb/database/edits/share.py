"""Edits as files between stores: what a file has to hold for an edit to be applied elsewhere, and taking it in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...editing.objects import diff_file
from ...editing.objects.object_bytes import read_content
from ...editing.objects.slots import apply_object
from ...errors import ConflictError, FingerprintError, InputError, KndbError, ModelError, UsageError
from ...exchange import edit_bundle
from ...exchange.edit_bundle import Bundle, BundledEdit, BundledFact
from ...records.edits import Edit
from ...records.facts import Fact
from ...records.models import Model
from ...store import facts as store_facts
from ...store import models as store_models
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ...store.edits import evaluations as store_evaluations
from ...store.edits.edit import Origin
from ...store.engine import Store
from ..models import ModelCommands
from .objects import add_object


@dataclass(frozen=True)
class Pushed:
    """A file of edits that was written.

    Attributes:
        file: its path; `sha256`: of its bytes.
        model: the model; `fingerprint`: of its checkpoint.
        edits: the numbers of the edits asked for.
        foundations: the numbers of those that they build on.
    """

    file: str
    sha256: str
    model: str
    fingerprint: str
    edits: tuple[int, ...]
    foundations: tuple[int, ...]


@dataclass(frozen=True)
class Pulled:
    """An edit of a file, taken in or only looked at.

    Attributes:
        edit: its number here; None where nothing was stored.
        known: whether it was here already.
        wanted: whether it was asked for when the file was made, or is one that others build on.
        kind, what, author, created_at, object_hash: of the edit.
        builds_on: the numbers here of the edits to apply first; where nothing was stored, starts of their hashes.
        unknown_facts: facts of its recipe that are not in this store.
    """

    edit: int | None
    known: bool
    wanted: bool
    kind: str
    what: str
    author: str | None
    created_at: str
    object_hash: str
    builds_on: tuple[int | str, ...]
    unknown_facts: int


# --- to a file ------------------------------------------------------------------------------------


def push(store: Store, edits: Sequence[int], path: Path, title: Any, *, force: bool) -> Pushed:
    """Writes edits, and those that they build on, to a file; see `EditCommands.push`."""
    if not edits:
        raise UsageError("found no edit; expected at least one number")
    if path.exists() and not force:
        raise UsageError(f"{path} exists already; choose another --out, or say --force to replace it")
    with store.reading() as connection:
        records = {number: store_edits.edit(connection, number) for number in edits}
        names = sorted({record.model for record in records.values()})
        if len(names) > 1:
            raise UsageError(f"found edits of models {', '.join(names)}; expected those of one model for a file")
        model = store_models.model(connection, names[0])
        builds_on = _foundations(connection, model, list(records))
        every = sorted(builds_on)
        bundled = {number: store_edits.edit(connection, number) for number in every}
        hashes = {number: record.object_hash for number, record in bundled.items()}
        bundle = Bundle(
            model=model.name,
            fingerprint=model.fingerprint,
            family=model.family,
            layers=model.layers,
            neurons=model.neurons,
            edits=tuple(
                BundledEdit(
                    object_hash=record.object_hash,
                    kind=record.kind,
                    title=title(record),
                    author=record.author,
                    created_at=record.created_at,
                    builds_on=tuple(hashes[other] for other in builds_on[number]),
                    wanted=number in records,
                    facts=tuple(_bundled_facts(connection, record)),
                    evaluations=tuple(_bundled_evaluations(connection, number)),
                )
                for number, record in bundled.items()
            ),
            objects={
                record.object_hash: read_content(store.objects, record.object_path, record.object_hash)
                for record in bundled.values()
            },
        )
    try:
        digest = edit_bundle.write(path, bundle)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror or error}; choose another --out") from error
    others = tuple(number for number in every if number not in records)
    return Pushed(str(path), digest, model.name, model.fingerprint, tuple(records), others)


def _foundations(connection: Any, model: Model, edits: Sequence[int]) -> dict[int, list[int]]:
    """For each edit, and each that one builds on, the edits of its slots in the version it was planned on, in order."""
    found: dict[int, list[int]] = {}
    left = list(edits)
    while left:
        number = left.pop()
        if number in found:
            continue
        base = store_versions.version_edits(connection, model.id, store_edits.edit(connection, number).base_version)
        slots_of = store_versions.stored_slots(connection, model.id, [*base, number])
        needed = {stored.slot for stored in slots_of[number]}
        chain: list[int] = []
        for other in reversed(base):
            slots = {stored.slot for stored in slots_of[other]}
            if slots & needed:
                chain.insert(0, other)
                needed |= slots
        found[number] = chain
        left += chain
    return found


def _bundled_facts(connection: Any, record: Edit) -> Iterator[BundledFact]:
    """The facts of a recipe that this store knows, by the recipe's own numbers."""
    fact, kept = record.recipe.get("fact"), record.recipe.get("kept_facts")
    numbers = [fact["id"]] if isinstance(fact, Mapping) else []
    for number in [*numbers, *(kept if isinstance(kept, list) else [])]:
        here = number if record.fact_numbers is None else record.fact_numbers.get(str(number))
        if here is not None:
            found = store_facts.fact(connection, int(here))
            yield BundledFact(int(number), found.relation, found.subject, found.object, found.external_id)
        elif isinstance(fact, Mapping) and number == fact["id"]:
            # Passed on by a store without the fact: the recipe has its name.
            yield BundledFact(int(number), str(fact["relation"]), fact["subject"], str(fact["object"]), None)


def _bundled_evaluations(connection: Any, number: int) -> Iterator[dict[str, Any]]:
    for one in store_evaluations.evaluations(connection, number):
        yield {
            "version_before": one.version_before,
            "version_after": one.version_after,
            "settings": dict(one.settings),
            "measures": dict(one.measures),
            "created_at": one.created_at,
        }


# --- from a file ----------------------------------------------------------------------------------


def pull(store: Store, models: ModelCommands, path: Path, model: str | None, *, preview: bool) -> list[Pulled]:
    """Takes the edits of a file in; see `EditCommands.pull`."""
    bundle = edit_bundle.read(path)
    contents = {edit.object_hash: _content(path, bundle, edit) for edit in bundle.edits}
    record = _model(store, bundle, path, model)
    _try_in_memory(models, record, bundle, contents, path)
    if preview:
        with store.reading() as connection:
            facts = _facts_by_name(connection)
            return [_pulled(connection, record, edit, facts, {}) for edit in bundle.edits]
    return take_in(store, record, bundle, contents, path)


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
            _pulled(connection, record, edit, facts, numbers, known=edit.object_hash in known) for edit in bundle.edits
        ]


def _content(path: Path, bundle: Bundle, edit: BundledEdit) -> diff_file.EditObject:
    """An object's content, which must be what the manifest says."""
    content = diff_file.decode(bundle.objects[edit.object_hash], f"object {edit.object_hash[:12]} in {path}")
    if (content.kind, content.fingerprint) != (edit.kind, bundle.fingerprint):
        raise InputError(
            f"{path}: found object {edit.object_hash[:12]} of kind {content.kind!r} for fingerprint "
            f"{content.fingerprint[:12]}; expected {edit.kind!r} for {bundle.fingerprint[:12]}, as its manifest says"
        )
    return content


def _model(store: Store, bundle: Bundle, path: Path, name: str | None) -> Model:
    """The model of a file's fingerprint.

    Raises:
        FingerprintError: if there is none, or the named one has another.
    """
    with store.reading() as connection:
        every = store_models.models(connection)
        named = None if name is None else store_models.model(connection, name)
    if named is not None:
        if named.fingerprint != bundle.fingerprint:
            raise FingerprintError(
                f"{path} has edits of a checkpoint with fingerprint {bundle.fingerprint[:12]}, which its author calls "
                f"{bundle.model!r}; model {named.name!r} here has {named.fingerprint[:12] or 'none'}. An edit fits the "
                "very bytes that it was planned on: register that checkpoint with kndb model add"
            )
        return named
    matching = [one for one in every if one.fingerprint == bundle.fingerprint]
    if len(matching) > 1:
        names = ", ".join(one.name for one in matching)
        raise ModelError(f"models {names} all have the fingerprint of {path}; say which one with --model")
    if not matching:
        here = ", ".join(f"{one.name} {one.fingerprint[:12] or 'none'}" for one in every) or "no models"
        raise FingerprintError(
            f"{path} has edits of a checkpoint with fingerprint {bundle.fingerprint[:12]}, which its author calls "
            f"{bundle.model!r} ({bundle.family}, {bundle.layers} layers of {bundle.neurons} neurons); found {here}. "
            "Register that checkpoint with kndb model add"
        )
    return matching[0]


def _try_in_memory(
    models: ModelCommands, record: Model, bundle: Bundle, contents: Mapping[str, diff_file.EditObject], path: Path
) -> None:
    """Applies each edit, on those that it builds on, to the checkpoint in memory: every byte it expects is there.

    Raises:
        InputError: if one does not fit.
    """
    parameters = dict(models.load(record.name, "base").model.named_parameters())
    for edit in bundle.edits:
        applied: list[diff_file.EditObject] = []
        try:
            for object_hash in (*edit.builds_on, edit.object_hash):
                apply_object(parameters, contents[object_hash])
                applied.append(contents[object_hash])
        except (ConflictError, KndbError) as error:
            raise InputError(
                f"{path}: edit {edit.object_hash[:12]} ({edit.title}) does not fit the checkpoint of {record.name!r}: "
                f"{error}"
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
    about: Any = content.recipe.get("fact")
    relation = about.get("relation") if isinstance(about, Mapping) else content.recipe.get("relation")
    relation_id = relations.get(str(relation))
    known = store_edits.edit_with_object(connection, record.id, edit.object_hash)
    if known is not None:
        if known.fact_numbers is not None:
            # Facts that were not here when it was pulled first may be here now; what is known stays known.
            fact_numbers = {**known.fact_numbers, **{key: here for key, here in fact_numbers.items() if here}}
            own_id = fact_numbers.get(str(about["id"])) if isinstance(about, Mapping) else None
            store_edits.note_facts(connection, known.id, fact_numbers, own_id, relation_id)
        return known.id
    foundation = [numbers[object_hash] for object_hash in edit.builds_on]
    try:
        state = store_versions.slot_state(connection, record.id, foundation)
        version = store_versions.state_version(record.fingerprint, state)
        store_versions.keep_version(connection, record.id, version, foundation)
        own = local.get(str(about["id"])) if isinstance(about, Mapping) else None
        return add_object(
            connection,
            store,
            record.id,
            content,
            version,
            None if own is None else own.id,
            relation_id,
            Origin(edit.author, edit.created_at, fact_numbers),
        )
    except (KndbError, KeyError, TypeError) as error:
        raise InputError(f"{path}: edit {edit.object_hash[:12]} ({edit.title}) does not fit: {error}") from error


def _pulled(
    connection: Any,
    record: Model,
    edit: BundledEdit,
    facts: _FactNames,
    numbers: Mapping[str, int],
    *,
    known: bool | None = None,
) -> Pulled:
    here = store_edits.edit_with_object(connection, record.id, edit.object_hash)
    return Pulled(
        edit=None if here is None else here.id,
        known=here is not None if known is None else known,
        wanted=edit.wanted,
        kind=edit.kind,
        what=edit.title,
        author=edit.author,
        created_at=edit.created_at,
        object_hash=edit.object_hash,
        builds_on=tuple(numbers.get(object_hash, object_hash[:12]) for object_hash in edit.builds_on),
        unknown_facts=sum(_local(fact, facts) is None for fact in edit.facts),
    )
