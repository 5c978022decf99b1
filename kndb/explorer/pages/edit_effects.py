"""What an edit does to answers: before it and with it, of its facts and of others; as asked now, and as measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...advice import call
from ...records.edits import Edit, Evaluation
from ...records.group_recipes import GroupRecipe
from ...records.recipes import facts_of
from ..blocks import Block, Column, Part, Row, Table, Text
from ..later import Place, computed
from ..visit import Visit
from .parts import fact_columns

if TYPE_CHECKING:
    from ...database.edits.preview_stored import StoredPreview

TOP, OTHERS = 1, 40
"""Answers of a prompt, and other facts, that are asked before an edit and with it."""
FLIPS_TITLE = "What it does to other facts: answers that change"
GROUPS: Mapping[str, str] = {
    "own": "its own facts",
    "own_held_out": "its own facts, held-out prompts",
    "intra": "other facts of the relation",
    "inter": "other relations",
    "paraphrase": "paraphrases",
    "neighbourhood": "neighbourhood prompts",
    "locality": "locality prompts",
    "portability": "portability prompts",
    "attribute": "attribute prompts",
}
"""Groups of prompts, in words."""


def before_and_after(
    visit: Visit, one: Edit, measured: Evaluation | None, *segments: Any, note: str = ""
) -> list[Block]:
    """The answers to its facts' prompts before it and with it, and those to other facts that flip: they take a model.

    Args:
        visit: the page.
        one: the edit.
        measured: its newest evaluation: where that names flips, it was asked more facts than are asked here.
        segments: the page's address.
        note: a sentence on what the answers mean there.
    """
    title = "Its answers before and with the edit"
    if not visit.database.models.get(one.model).has_checkpoint:
        return []
    unasked = _why_unasked(one)
    if unasked:
        return [Text(unasked, "empty", title)]
    place = Place("asked", "answers", title, "Ask them", visit.again(*segments, answers=1), one.model, "asking it")

    def show(found: StoredPreview) -> list[Block]:
        if found.one is None:
            return [asked_facts_table(visit, found.facts, note)]
        return [answers_table(found.one.answers, note)]

    blocks = computed(visit, place, visit.room.answers(one, TOP), show)
    failed = any(isinstance(one, Part) and isinstance(one.blocks[0], Text) for one in blocks)
    if failed or flips_of(measured) is not None:
        return blocks  # What could not be asked its own facts can't be asked others either.
    address = visit.again(*segments, flips=1)
    busy = f"asking {OTHERS} other facts before the edit and with it"
    place = Place("others", "flips", FLIPS_TITLE, "Ask other facts", address, one.model, busy, loads=False)
    return [*blocks, *computed(visit, place, visit.room.flips(one, OTHERS), lambda found: [_flips(visit, found)])]


def _flips(visit: Visit, found: StoredPreview) -> Table:
    told = f"{found.asked} other facts were asked: those that hold most of its value slots, then others."
    empty = f"Of {found.asked} other facts that were asked, none gets another answer."
    return flips_table(visit, [vars(flip) for flip in found.flips], empty, told)


def _why_unasked(one: Edit) -> str:
    """Why an edit's facts can't be asked; empty where they can."""
    if not facts_of(one.recipe) and one.kind != "erase":
        return "It does not say which facts it is for, so nothing can be asked for it."
    if isinstance(one.recipe, GroupRecipe) and one.fact_numbers is not None:
        return "It came from another store, whose facts have other numbers: measure it instead."
    return ""


def flips_of(measured: Evaluation | None) -> list[Mapping[str, Any]] | None:
    """The flips that an evaluation names; None where it names none because it did not look, or there is none."""
    flips = None if measured is None else measured.measures.get("flips")
    return flips if isinstance(flips, list) else None


def newest(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """The newest of an edit's evaluations."""
    return max(evaluations, key=lambda row: row.id, default=None)


def measured_flips(visit: Visit, measured: Evaluation | None) -> list[Block]:
    """The flips that the newest evaluation found."""
    flips = flips_of(measured)
    if measured is None or flips is None:
        return []
    when = measured.created_at[:16].replace("T", " ")
    note = f"Of evaluation {measured.id}, {when}; compared with version {measured.version_before[:12]}."
    edited = measured.measures.get("edited")
    groups = [edited.get(name) for name in ("intra", "inter")] if isinstance(edited, Mapping) else []
    asked = [
        group["prompts"] for group in groups if isinstance(group, Mapping) and isinstance(group.get("prompts"), int)
    ]
    of = f"{sum(asked):,} prompts" if asked else "all prompts"
    empty = f"Of {of} of other facts that were asked, none has another answer with the edit."
    return [flips_table(visit, flips, empty, note)]


def measures_table(edit: int, measured: Evaluation | None) -> Block:
    """What the newest evaluation measured."""
    if measured is None:
        measure = call("edits.evaluate", edit)
        how = f"It was not measured yet, beside an edit of random neurons; measure it with: {measure}"
        return Text(how, "empty", "Measures")
    return Table(
        "measures",
        "Measures, beside an edit of as many random neurons",
        [
            Column("group", "Prompts"),
            Column("measure", "Measure"),
            Column("edit", "Edit", "mixed"),
            Column("control", "Random neurons", "mixed"),
        ],
        _measures(measured.measures),
        empty="The evaluation has no measures.",
        size=15,
    )


def _measures(measures: Mapping[str, Any]) -> list[Row]:
    edited, control = measures.get("edited"), measures.get("control")
    if not isinstance(edited, Mapping):
        return []
    rows: list[Row] = []
    order = {name: place for place, name in enumerate(GROUPS)}
    for group, some in sorted(edited.items(), key=lambda pair: order.get(pair[0], len(order))):
        if not isinstance(some, Mapping):
            continue
        beside = control.get(group) if isinstance(control, Mapping) else None
        for name, value in some.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                other = beside.get(name) if isinstance(beside, Mapping) else None
                words = name.replace("_", " ")
                rows.append({"group": GROUPS.get(group, group), "measure": words, "edit": value, "control": other})
    return rows


def answers_table(answers: Sequence[Any], note: str = "") -> Table:
    """The answers to prompts of an edit's facts before it and with it (`PreviewedAnswer`)."""
    rows: list[Row] = [
        {
            "prompt": one.prompt,
            "rank": one.rank,
            "before": one.before,
            "p_before": one.probability_before,
            "after": one.after,
            "p_after": one.probability_after,
        }
        for one in answers
    ]
    return Table(
        "preview",
        "Answers before and with the edit",
        [
            Column("prompt", "Prompt", "long"),
            Column("rank", "Rank", "count"),
            Column("before", "Before"),
            Column("p_before", "p before", "probability"),
            Column("after", "With the edit"),
            Column("p_after", "p with it", "probability"),
        ],
        rows,
        empty="The model can be asked none of its prompts.",
        note=note,
        size=15,
    )


def asked_facts_table(visit: Visit, facts: Sequence[Any], note: str = "") -> Table:
    """What an edit of many facts does to each of them (`PreviewedFact`)."""
    rows: list[Row] = [
        {
            "fact": one.fact,
            "relation": one.relation,
            "subject": one.subject,
            "object": one.old_answer,
            "to": one.to,
            "prompts": one.prompts,
            "p_before": one.probability_before,
            "p_after": one.probability_after,
            "success": one.success_rate,
        }
        for one in facts
    ]
    *columns, _ = fact_columns(visit)
    return Table(
        "preview",
        "Its facts before and with the edit",
        [
            *columns,
            Column("object", "Answer before"),
            Column("to", "New answer"),
            Column("p_before", "p before", "probability", help="mean probability of the new answer, 0 to 1"),
            Column("p_after", "p with it", "probability"),
            Column("success", "Wins on", "share", help="share of the fact's prompts"),
            Column("prompts", "Prompts", "count"),
        ],
        rows,
        note=note,
        size=25,
    )


def flips_table(visit: Visit, flips: Sequence[Mapping[str, Any]], empty: str, note: str = "") -> Table:
    """Answers to other facts that an edit changes, by name."""
    rows: list[Row] = [
        {
            "fact": flip.get("fact"),
            "relation": flip.get("relation"),
            "subject": flip.get("subject"),
            "object": flip.get("object"),
            "before": flip.get("old_answer"),
            "after": flip.get("new_answer"),
            "prompts": f"{flip.get('prompts')} of {flip.get('asked')}",
            "group": GROUPS.get(str(flip.get("group")), str(flip.get("group"))),
        }
        for flip in flips
    ]
    return Table(
        "flips",
        FLIPS_TITLE,
        [
            *fact_columns(visit),
            Column("before", "Answer before"),
            Column("after", "Answer after"),
            Column("prompts", "On prompts", help="for how many of the prompts that were asked"),
            Column("group", "Which facts"),
        ],
        rows,
        empty=empty,
        note=note,
        size=25,
    )
