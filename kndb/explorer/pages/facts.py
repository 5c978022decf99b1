"""Pages of facts: the list, and each fact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...advice import Placeholder, call
from ...errors import NotFoundError
from ...records.attribution import attribute_and_refine
from ...records.facts import Fact
from ...records.queries import FactFindings
from ...records.skip_reasons import SKIP_REASONS
from ..blocks import Block, Column, Link, Page, Slice, Table, Text, Values, Wanted
from ..context import Context
from ..visit import Visit, ordered
from .parts import edit_columns, edit_rows, fact_columns, facts_here, neuron_column, neuron_name, not_refined

_SORTS = {"fact": "id", "relation": "relation", "subject": "subject", "object": "object", "neurons": "neurons"}
NEAREST = 30


def facts(visit: Visit) -> Page:
    """The facts of the store, or of one relation."""
    key = visit.query.get("relation")
    keys = [key] if key else []
    context = visit.context(relations=keys)
    crumbs = [visit.link("Relations", "relations"), visit.link(key, "relations", key)] if key else []
    blocks: list[Block] = [fact_table(visit, context, keys, "Its facts" if key else "All facts")]
    if context.refinement is None:
        blocks.insert(0, not_refined(context, keys))
    title = f"Facts of {key}" if key else "Facts"
    return Page(title, blocks, command=call("facts.find", relations=keys), crumbs=crumbs)


def fact_table(visit: Visit, context: Context, keys: Sequence[str], title: str = "Its facts", size: int = 50) -> Table:
    """A table of facts, which the database sorts, filters and cuts; what a filter is a whole name of comes first."""

    def source(wanted: Wanted) -> Slice:
        found = visit.database.query.facts(
            keys, text=wanted.filter or None, refinement=context.number, **ordered(wanted, _SORTS, "match")
        )
        rows = [
            {
                "fact": one.fact,
                "relation": one.relation,
                "subject": one.subject,
                "object": one.object,
                "neurons": one.neurons,
            }
            for one in found.facts
        ]
        return Slice(rows, found.total)

    neurons = Column("neurons", "Knowledge neurons", "count", help="size of its refined set; empty without any")
    return Table(
        "facts",
        title,
        [*fact_columns(visit), neurons],
        source,
        empty="There is no fact here.",
        note="A filter looks for a part of the subject or object.",
        size=size,
    )


def fact(visit: Visit) -> Page:
    """One fact: its prompts, what the model answers, votes, the nearest facts, its edits."""
    number = visit.number("fact")
    one = visit.database.facts.get(number)
    context = visit.context(facts=[number])
    relation = visit.link(one.relation, "relations", one.relation)
    crumbs = [visit.link("Relations", "relations"), relation, visit.link("Facts", "facts", relation=one.relation)]
    values = [
        ("Relation", Link(_named(visit, one.relation), relation.href), "text"),
        ("Subject", one.subject or "not named by its source", "text"),
        ("Object", one.object, "text"),
    ]
    blocks: list[Block]
    lead = ""
    if context.refinement is None:
        blocks = [Values("", values), not_refined(context, facts=[number])]
    else:
        found = visit.database.query.fact(number, refinement=context.number, nearest=NEAREST)
        lead = _answered(found)
        values += [
            ("Knowledge neurons", found.neurons, "count"),
            ("Consistency", found.consistency, "number"),
            ("Prompts needed", found.share, "share"),
        ]
        model = context.refinement.model
        blocks = [Values("", values), *_details(visit, found, model, _why_none(number, context))]
    edits = [edit for edit in visit.database.edits.all() if number in facts_here(edit)]
    plan = (
        call("edits.plan_update", model=context.model.name, fact=number, to=Placeholder("ANSWER"))
        if context.model is not None and context.model.has_checkpoint
        else ""
    )
    blocks.append(
        Table(
            "edits",
            "Edits of this fact",
            edit_columns(visit),
            edit_rows(edits),
            empty=f"No edit is for this fact; plan one with: {plan}" if plan else "No edit is for this fact.",
        )
    )
    if visit.editing and context.model is not None:
        blocks.append(Text("", links=[visit.link("Plan an edit of this fact", "plan", fact=number)]))
    title = f"{one.subject or '(not named)'} · {one.relation} · {one.object}"
    return Page(
        title,
        blocks,
        command=call("query.fact", number, refinement=context.number),
        crumbs=crumbs,
        before=_beside(visit, number - 1),
        after=_beside(visit, number + 1),
        lead=lead,
    )


def _named(visit: Visit, key: str) -> str:
    label = visit.labels.get(key)
    return f"{key} {label}" if label else key


def _beside(visit: Visit, number: int) -> Link | None:
    if number < 1:
        return None
    try:
        found: Fact = visit.database.facts.get(number)
    except NotFoundError:
        return None
    return visit.link(f"{found.subject or '(not named)'} · {found.relation}", "facts", number)


def _answered(found: FactFindings) -> str:
    """What the model answers to the fact's prompts, in a sentence."""
    answers = Counter(prompt.predicted for prompt in found.prompts if prompt.predicted is not None)
    if not answers:
        return "No prompt of this fact was attributed with an answer of the model's."
    (most, count), total = answers.most_common(1)[0], sum(answers.values())
    more = (
        f"; {len(answers) - 1} other answers" if len(answers) > 2 else "; one other answer" if len(answers) == 2 else ""
    )
    return f"The model answers “{most}” to {count} of its {total} attributed prompts{more}."


def _why_none(number: int, context: Context) -> str:
    """Why a fact has no knowledge neurons in a refinement."""
    assert context.chosen is not None
    refinement = context.chosen.refinement
    if context.chosen.held:
        return "No neuron is in the coarse sets of enough of its prompts."
    if refinement.imported:
        return f"Refinement {refinement.id} has no set of this fact: its sets were imported."
    make = attribute_and_refine(refinement.model, facts=[number])
    return f"It has no attributed prompt in refinement {refinement.id}; get it with: {make}"


def _details(visit: Visit, found: FactFindings, model: str, why_none: str) -> list[Block]:
    limit = "the run's tolerance" if found.tolerance_asked else "the usual limit"
    prompts = Table(
        "prompts",
        "Prompts",
        [
            Column("text", "Prompt", "long", lambda row: _ask(visit, row["text"])),
            Column("predicted", "The model answers", optional=True),
            Column(
                "predicted_probability",
                "p(answer)",
                "probability",
                help="probability of that answer, 0 to 1",
                optional=True,
            ),
            Column(
                "probability",
                "p(object)",
                "probability",
                help="probability of the fact's object, 0 to 1",
                optional=True,
            ),
            Column("correct", "Right", "flag", optional=True),
            Column("coarse_set", "Coarse set", "count", help="neurons in the prompt's coarse set", optional=True),
            Column(
                "completeness_error",
                "Completeness error",
                "error",
                help=f"relative, in its worst layer; {limit} is {found.error_limit:g}",
                optional=True,
            ),
            Column("held_out", "Held out", "flag", help="of a template that only tests edits"),
            Column("skipped", "Skipped", "long", help="why the prompt has no result", optional=True),
        ],
        [
            {
                "prompt": one.prompt,
                "text": one.text,
                "predicted": one.predicted,
                "predicted_probability": one.predicted_probability,
                "probability": one.probability,
                "correct": one.correct,
                "coarse_set": one.coarse_set,
                "completeness_error": one.completeness_error,
                "held_out": one.held_out,
                "skipped": one.skipped and SKIP_REASONS.get(one.skipped, one.skipped),
            }
            for one in found.prompts
        ],
        empty="The fact has no prompts: its relation has no templates.",
    )
    votes = Table(
        "votes",
        "Neurons and their votes",
        [
            neuron_column(visit, model),
            Column("prompts", "Prompts", "count", help="coarse sets of the fact's prompts that hold it", optional=True),
            Column("needed", "Needed", "mixed", help="prompts that the refinement asks for", optional=True),
            Column("kept", "Knowledge neuron", "flag", help="whether it is in the refined set"),
            Column("mean_score", "Mean score", "number", help="over those prompts", optional=True),
        ],
        [
            {
                "neuron": neuron_name(one.layer, one.neuron),
                "prompts": one.prompts,
                "needed": one.needed,
                "kept": one.kept,
                "mean_score": one.mean_score,
            }
            for one in found.votes
        ],
        empty=why_none,
        size=25,
    )
    nearest = Table(
        "nearest",
        "Facts that share most neurons",
        [
            *fact_columns(visit),
            Column("shared", "Shared", "count", help="knowledge neurons that both hold"),
            Column("jaccard", "Jaccard index", "number", help="|A ∩ B| ÷ |A ∪ B|"),
        ],
        [
            {
                "fact": one.fact,
                "relation": one.relation,
                "subject": one.subject,
                "object": one.object,
                "shared": one.shared,
                "jaccard": one.jaccard,
            }
            for one in found.nearest
        ],
        empty="No other fact shares a knowledge neuron with this one.",
        size=10,
    )
    return [prompts, votes, nearest]


def _ask(visit: Visit, text: str) -> str | None:
    return visit.to("ask", text=text) if visit.live else None
