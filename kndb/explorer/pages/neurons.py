"""A neuron's page: who holds it, the tokens that it promotes and demotes, what activates it, which edits change it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...advice import call
from ...errors import NotFoundError, UsageError
from ...records.models import ActivatingPrompt, Model, Neuron, TokenEffect
from ...records.queries import NeuronFindings
from ..blocks import Block, Column, Page, Row, Table, Text
from ..context import Context
from ..later import Place, computed, why_not
from ..visit import Visit
from .parts import add_model, fact_columns, not_refined, relation_column

TOKENS = 12
TEXTS = 3
"""Facts of a neuron whose texts are shown."""
PROMPTS, ASKED = 10, 500
"""Prompts that activate a neuron most, and least, of so many that are asked."""


def neuron(visit: Visit) -> Page:
    """One neuron: who holds it, which tokens it promotes, what activates it, which edits change it."""
    name = visit.parts["model"]
    context = visit.context(model=name)
    one = context.model
    assert one is not None
    try:
        place = Neuron.parse(visit.parts["neuron"])
    except UsageError as error:
        raise NotFoundError(error.text) from error
    if place.layer >= one.layers or place.index >= one.neurons:
        raise NotFoundError(f"{name} has no neuron {place}: it has {one.layers} layers of {one.neurons:,} neurons")
    crumbs = [
        visit.link(name, "models", name),
        visit.link(f"Layer {place.layer}", "models", name, "layers", layer=place.layer),
    ]
    command = call("query.neuron", str(place), refinement=context.number)
    if context.refinement is None:
        return Page(f"{place}", [not_refined(context), *_tokens(visit, one, place)], command=command, crumbs=crumbs)
    found = visit.database.query.neuron(place, refinement=context.number)
    before, after = visit.database.query.beside(place, refinement=context.number)
    blocks: list[Block] = [
        _relations(visit, found, context),
        _facts(visit, found, context),
        *_tokens(visit, one, place),
        *_prompts(visit, found, one, place, context),
        _texts(visit, found, one, context),
        _edits(visit, found, name),
    ]
    score = "" if found.mean_score is None else f", with a mean score of {found.mean_score:.4g}"
    return Page(
        f"{place} of {name}",
        blocks,
        command=command,
        crumbs=crumbs,
        before=None if before is None else visit.link(str(before), "models", name, "neurons", before),
        after=None if after is None else visit.link(str(after), "models", name, "neurons", after),
        lead=f"Held by {found.facts_holding:,} fact{'' if found.facts_holding == 1 else 's'} of "
        f"{len(found.relations)} relation{'' if len(found.relations) == 1 else 's'}{score}.",
    )


def _nobody(context: Context) -> str:
    return f"No fact holds this neuron in refinement {context.number}."


def _relations(visit: Visit, found: NeuronFindings, context: Context) -> Table:
    return Table(
        "relations",
        "Relations that hold it",
        [
            relation_column(visit),
            Column("label", "Label", optional=True),
            Column("facts", "Facts", "count"),
            Column("share", "Share", "share", help="of the relation's facts with a refined set"),
            Column("mean_score", "Mean score", "number", help="over their facts' prompts", optional=True),
        ],
        [
            {
                "relation": row.relation,
                "label": row.label,
                "facts": row.facts,
                "share": row.share,
                "mean_score": row.mean_score,
            }
            for row in found.relations
        ],
        empty=_nobody(context),
        size=20,
    )


def _facts(visit: Visit, found: NeuronFindings, context: Context) -> Table:
    return Table(
        "facts",
        "Facts that hold it",
        [
            *fact_columns(visit),
            Column("prompts", "Prompts", "count", help="coarse sets of the fact's prompts that hold it", optional=True),
            Column("mean_score", "Mean score", "number", help="over those prompts", optional=True),
        ],
        [
            {
                "fact": row.fact,
                "relation": row.relation,
                "subject": row.subject,
                "object": row.object,
                "prompts": row.prompts,
                "mean_score": row.mean_score,
            }
            for row in found.facts
        ],
        empty=_nobody(context),
        size=20,
    )


def _tokens(visit: Visit, model: Model, place: Neuron) -> list[Block]:
    """The tokens that its value slot promotes and demotes, if the address asks for them: they need the model."""
    title = "Tokens that its value slot promotes and demotes"
    if not model.has_checkpoint:
        return [Text(add_model(model.name), "empty", title)]
    context = visit.shown_context
    version = "current" if context is None else context.version
    address = visit.again("models", model.name, "neurons", place, tokens=1)
    try:
        work = visit.room.token_effects(model.name, place, version, TOKENS)
        busy = "computing its tokens"
        where = Place("tokens", "tokens", title, "Compute them", address, model.name, busy, beside=True)
        return computed(visit, where, work, _token_tables)
    except NotFoundError as error:  # There is no such version.
        return [Text(why_not(visit, error), "warning", title)]


def _token_tables(found: tuple[Sequence[TokenEffect], Sequence[TokenEffect]]) -> list[Block]:
    promoted, demoted = found
    columns = [
        Column("token", "Token", "code"),
        Column("effect", "Effect", "signed", help="head(slot) − head(0), logits"),
    ]
    tables = []
    for name, heading, some in (("promoted", "Promoted tokens", promoted), ("demoted", "Demoted tokens", demoted)):
        rows: list[Row] = [{"token": one.token, "effect": one.effect} for one in some]
        empty = "Its value slot has no effect of this kind on any token."
        tables.append(Table(name, heading, columns, rows, empty=empty, filters=False))
    return [*tables]


def _prompts(visit: Visit, found: NeuronFindings, model: Model, place: Neuron, context: Context) -> list[Block]:
    """The prompts that activate it most and least, if the address asks for them.

    Files have them of neurons that some fact holds: what is read for one of these is read for all of them at once.
    """
    if not model.has_checkpoint or not (visit.live or found.facts):
        return []
    title = "Prompts that activate it most, and least"
    address = visit.again("models", model.name, "neurons", place, activating=1)
    try:
        assert context.number is not None
        work = visit.room.activating_prompts(
            model.name, place, context.version, context.number, [one.fact for one in found.facts], PROMPTS, ASKED
        )
    except NotFoundError as error:  # There is no such version.
        return [Text(why_not(visit, error), "warning", title)]
    where = Place(
        "activating",
        "activating",
        title,
        "Ask them",
        address,
        model.name,
        f"reading its activation on {ASKED} prompts",
        loads=False,
    )
    return computed(visit, where, work, lambda found: _prompt_tables(visit, *found))


def _prompt_tables(
    visit: Visit, highest: Sequence[ActivatingPrompt], lowest: Sequence[ActivatingPrompt]
) -> list[Block]:
    told = f"Of at most {ASKED} that were asked: one each of facts that hold it, up to half, and of others at random."
    below = (
        "Below zero it is not silent, as GELU and SiLU are negative there."
        if lowest and lowest[0].activation < 0
        else ""
    )
    return [
        _prompt_table(visit, "highest", "Prompts with its highest activations", highest, told),
        _prompt_table(visit, "lowest", "Prompts with its lowest activations", lowest, below),
    ]


def _prompt_table(visit: Visit, name: str, title: str, found: Sequence[ActivatingPrompt], note: str) -> Table:
    return Table(
        name,
        title,
        [
            Column("text", "Prompt", "long"),
            Column("activation", "Activation", "signed", help="of the neuron, at the answer position"),
            Column("holds", "Held by its fact", "flag", help="whether the prompt's fact holds the neuron"),
            *fact_columns(visit),
        ],
        [
            {
                "text": row.text,
                "activation": row.activation,
                "holds": row.holds,
                "fact": row.fact,
                "relation": row.relation,
                "subject": row.subject,
                "object": row.object,
            }
            for row in found
        ],
        empty="The model can be asked no prompt of this store.",
        note=note,
        filters=False,
    )


def _texts(visit: Visit, found: NeuronFindings, model: Model, context: Context) -> Table:
    """Texts of the newest activation experiment, of the facts with the highest scores that hold the neuron."""
    probe = visit.database.probes.latest("activation", model.name)
    rows: list[dict[str, Any]] = []
    if probe is not None and probe.refinement == context.number:
        for one in found.facts[:TEXTS]:
            rows += [
                {
                    "fact": one.fact,
                    "subject": one.subject,
                    "text": row.text,
                    "kind": row.kind,
                    "activation": row.activation,
                }
                for row in visit.database.probes.texts(probe.id, one.fact)
                if row.rank > 0
            ]
    how = f"; read some with: {call('probes.activation', model=model.name)}" if model.has_checkpoint else "."
    return Table(
        "texts",
        "Texts that activate the neurons of these facts",
        [
            Column("fact", "Fact", "id", lambda row: visit.to("facts", row["fact"])),
            Column("subject", "Subject"),
            Column("text", "Text", "long"),
            Column("kind", "Kind"),
            Column("activation", "Activation", "number", help="mean over the fact's knowledge neurons"),
        ],
        rows,
        empty=f"No activations of this refinement's neurons were read for these facts{how}",
        note="Read for a fact's knowledge neurons together, not for this one alone." if rows else "",
        filters=False,
    )


def _edits(visit: Visit, found: NeuronFindings, model: str) -> Table:
    titles = {one.id: one.what for one in visit.database.edits.all(model)} if found.edits else {}
    return Table(
        "edits",
        "Edits that change it",
        [
            Column("edit", "Edit", "id", lambda row: visit.to("edits", row["edit"])),
            Column("kind", "Kind"),
            Column("what", "What", "long", lambda row: visit.to("edits", row["edit"])),
            Column("applied", "Applied", "flag"),
            Column("created_at", "Planned", "time"),
        ],
        [
            {
                "edit": row.edit,
                "kind": row.kind,
                "what": titles.get(row.edit, row.target),
                "applied": row.applied,
                "created_at": row.created_at,
            }
            for row in found.edits
        ],
        empty="No edit changes its value slot.",
    )
