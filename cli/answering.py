"""Which refinement answers: chosen for commands, and said on stderr beside what they print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kndb.advice import option
from kndb.records.attribution import ChosenRefinement, Refinement, attribute_and_refine

from .output import note

if TYPE_CHECKING:
    from kndb.database import Database


def choose(
    database: Database,
    refinement: int | None,
    method: str | None,
    model: str | None = None,
    *,
    relations: Sequence[str] = (),
    facts: Sequence[int] = (),
) -> Refinement:
    """The refinement that --refinement, --method or the rule names for some facts; noted at once."""
    chosen = database.query.choose(refinement, model, method=method, relations=relations, facts=facts)
    note_refinement(chosen)
    return chosen.refinement


def warn(
    database: Database,
    refinement: int | None,
    method: str | None,
    model: str,
    *,
    relations: Sequence[str] = (),
    facts: Sequence[int] = (),
    said: set[str] | None = None,
) -> Refinement:
    """As `choose`, for commands whose answer names the refinement: only remarks that are not in `said` are noted."""
    chosen = database.query.choose(refinement, model, method=method, relations=relations, facts=facts)
    said = set() if said is None else said
    for remark in chosen.remarks:
        if remark not in said:
            note(remark)
            said.add(remark)
    return chosen.refinement


def note_refinement(chosen: ChosenRefinement) -> None:
    """Says which refinement answers, what else to know of it, and of which relations it has nothing."""
    title = chosen.refinement.title
    note(f"{title[0].upper()}{title[1:]}.")
    for remark in chosen.remarks:
        note(remark)
    missing = [key for key in chosen.relations if key not in {one.relation for one in chosen.refinement.relations}]
    if missing:
        make = attribute_and_refine(chosen.refinement.model, missing)
        note(f"It has no attributed facts of {', '.join(missing)}; get them with: {make}")


def note_who_answers(database: Database, made: Refinement) -> None:
    """Says of a refinement that was just made how to ask it, if another answers questions about its relations."""
    relations = [one.relation for one in made.relations]
    found = database.query.choose(model=made.model, relations=relations).refinement
    if found.id != made.id:
        name = option("refinement", made.id)
        note(f"Questions about these relations go to {found.title}, unless they name this one with {name}.")


def in_json(refinement: Refinement) -> dict[str, Any]:
    """What an answer in JSON says of its refinement."""
    return {
        "id": refinement.id,
        "run": refinement.run_id,
        "method": refinement.method,
        "model": refinement.model,
        "version": refinement.version,
    }


def why_none(fact: int, chosen: ChosenRefinement) -> str:
    """Why a fact has no knowledge neurons in a refinement."""
    found = chosen.refinement
    if chosen.held:
        share = next((one.share for one in found.relations if one.relation in chosen.relations), None)
        needed = "enough" if share is None else f"{100 * share:.3g} %"
        return f"It has none: no neuron is in the coarse sets of {needed} of its prompts."
    make = attribute_and_refine(found.model, facts=[fact])
    return f"It has no attributed prompt in refinement {found.id}; get it with: {make}"
