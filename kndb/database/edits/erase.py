"""Erases: the value slots of a relation's most common neurons set to zero, so that the model forgets it."""

from __future__ import annotations

from ...advice import call, option
from ...editing.planning import recipes
from ...errors import EditError, UsageError
from ...records.attribution import RefinementChoice
from ...records.models import Neuron
from ...records.recipes import EraseRecipe
from ...store import facts as store_facts
from ...store.choosing import answering
from ...store.engine import Store
from ...store.queries import neurons as queries
from ..models import ModelCommands
from .draft import Draft
from .reports import with_report


def draft_erase(
    store: Store, models: ModelCommands, model: str, relation: str, *, top: int, refinement: RefinementChoice
) -> Draft:
    """Sets value slots of a relation to zero; see `EditDrafts.erase`."""
    if top < 1:
        raise UsageError(f"{option('top')} must be at least 1 (got {top})")
    record = models.get(model)
    with store.reading() as connection:
        ((relation, relation_id),) = store_facts.named_relations(connection, [relation]).items()
        number = answering(connection, refinement, model=model, relations=[relation]).id
        shared = queries.shared_neurons(connection, number, [relation_id], top=top)
    if not shared:
        raise EditError(
            f"no fact of {relation} has a knowledge neuron in refinement {number}; attribute it first: "
            f"{call('attribution.run', model=model, relations=[relation])}, then "
            f"{call('attribution.refine', model=model)}"
        )
    version = models.load(model)
    neurons = tuple(sorted(Neuron(row.layer, row.neuron) for row in shared))
    recipe = EraseRecipe(relation=relation, top=top, refinement=number, neurons=neurons)
    content = recipes.plan(version.network, neurons, recipes.erase_rule, fingerprint=record.fingerprint, recipe=recipe)
    content = with_report(store, version, content, fact=None, relation=relation, refinement=number)
    return Draft(version, content, None, relation_id, number)
