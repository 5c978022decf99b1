"""Edits into a file that a colleague can pull: with what they build on, the facts they name, and what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...advice import option
from ...editing.objects.object_bytes import read_content
from ...errors import UsageError
from ...exchange import edit_bundle
from ...exchange.edit_bundle import Bundle, BundledEdit, BundledFact
from ...files import output_errors
from ...records.edits import Edit
from ...records.models import Model
from ...records.recipes import facts_of, kept_facts_of
from ...store import facts as store_facts
from ...store import models as store_models
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ...store.edits import evaluations as store_evaluations
from ...store.engine import Store


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


def push(store: Store, edits: Sequence[int], path: Path, *, force: bool) -> Pushed:
    """Writes edits, and those that they build on, to a file; see `EditCommands.push`."""
    if not edits:
        raise UsageError("there is no edit to push; give at least one number")
    if path.exists() and not force:
        raise UsageError(f"{path} exists already; choose another file, or replace it with {option('force', True)}")
    with store.reading() as connection:
        records = {number: store_edits.edit(connection, number) for number in edits}
        names = sorted({record.model for record in records.values()})
        if len(names) > 1:
            raise UsageError(f"the edits are of models {', '.join(names)}; a file holds edits of one model")
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
                    title=record.title,
                    author=record.author,
                    created_at=record.created_at,
                    builds_on=tuple(hashes[other] for other in builds_on[number]),
                    wanted=number in records,
                    facts=tuple(_bundled_facts(connection, record)),
                    evaluations=tuple(_bundled_evaluations(connection, number)),
                    # The number of an evaluation means nothing elsewhere.
                    conditions=None if record.conditions is None else replace(record.conditions, evaluation=None),
                )
                for number, record in bundled.items()
            ),
            objects={
                record.object_hash: read_content(store.objects, record.object_path, record.object_hash)
                for record in bundled.values()
            },
        )
    with output_errors(path):
        digest = edit_bundle.write(path, bundle)
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
    own = {fact.id: fact for fact in facts_of(record.recipe)}
    for number in [*own, *kept_facts_of(record.recipe)]:
        here = number if record.fact_numbers is None else record.fact_numbers.get(str(number))
        if here is not None:
            found = store_facts.fact(connection, here)
            yield BundledFact(number, found.relation, found.subject, found.object, found.external_id)
        elif number in own:
            # Passed on by a store without the fact: the recipe has its name.
            yield BundledFact(number, own[number].relation, own[number].subject, own[number].object, None)


def _bundled_evaluations(connection: Any, number: int) -> Iterator[dict[str, Any]]:
    for one in store_evaluations.evaluations(connection, number):
        yield {
            "version_before": one.version_before,
            "version_after": one.version_after,
            "settings": dict(one.settings),
            "measures": dict(one.measures),
            "created_at": one.created_at,
        }
