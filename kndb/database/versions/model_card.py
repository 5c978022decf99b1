"""The model card of an exported version: the edits with their facts, what was measured of them, and the way back.

A card is made of what the store has alone, so that the same version gives the same bytes. Texts of others are escaped.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...models.sources import REVISION
from ...records.display import many
from ...records.edits import SENDER, Edit, Interval
from ...records.markdown import escaped, table
from ...records.models import LAB_MODELS, Model
from ...records.recipes import EraseRecipe, OtherRecipe, Recipe, new_answers
from ...store import facts as store_facts
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ...store.edits import evaluation_table
from ...store.edits import evaluations as store_evaluations

if TYPE_CHECKING:
    from ...models.cards import BaseCard
    from ...store.edits.evaluation_table import EvaluatedEdit

MOST_FACTS = 2000
"""Facts of one edit that a card lists."""
_PLAIN = frozenset({"divergence", "own_perplexity"})
"""Measures that are no shares."""
_MEANING: Mapping[str, str] = {
    "success": "its prompts on which the new answer is the most probable one",
    "efficacy": "its prompts on which the new answer is more probable than the old one",
    "paraphrase": "its held-out prompts on which the new answer is the most probable one",
    "paraphrase_score": "its held-out prompts on which the new answer is more probable than the old one",
    "neighbourhood": "prompts of other facts of the relation on which their own answer is the more probable one",
    "intra_change": "relative change of the perplexity of other facts of the relation",
    "inter_change": "relative change of the perplexity of facts of other relations",
    "intra_locality": "answers to other facts of the relation that stay as they were in the unedited model",
    "inter_locality": "answers to facts of other relations that stay as they were in the unedited model",
    "divergence": "mean KL divergence of answers to facts of other relations from the unedited model, in nats",
    "own_perplexity": "perplexity of its facts' former answers",
    "neighbour_prompts": "evaluation prompts of neighbours on which their own answer is the more probable one",
    "locality_prompts": "evaluation prompts about other things that are answered right",
    "portability": "evaluation prompts that use the edited fact and are answered right",
}
"""What the measures of the table over edits say; a measure that is not here is shown by its name alone."""


@dataclass(frozen=True)
class CardFacts:
    """What a card says, as the store has it.

    Attributes:
        record: the model; `version`: the version's id.
        edits: those that build the version, in order.
        measured: the newest evaluation of each edit that has one, by the edit's number.
        settings: of these evaluations: how many facts of other relations, and the seed.
        labels: of relations, by key.
    """

    record: Model
    version: str
    edits: tuple[Edit, ...]
    measured: Mapping[int, EvaluatedEdit]
    settings: Mapping[int, Mapping[str, Any]]
    labels: Mapping[str, str | None]


def card_facts(connection: Any, record: Model, version: str) -> CardFacts:
    """Reads what a card says of a version.

    Args:
        connection: an open transaction.
        record: the model.
        version: the version's id.
    """
    numbers = store_versions.version_edits(connection, record.id, version)
    edits = tuple(store_edits.edit(connection, number) for number in numbers)
    rows = evaluation_table.evaluated_edits(connection, record.id, numbers) if numbers else []
    return CardFacts(
        record=record,
        version=version,
        edits=edits,
        measured={row.edit: row for row in rows},
        settings={row.edit: store_evaluations.evaluation(connection, row.evaluation).settings for row in rows},
        labels={one.key: one.label for one in store_facts.relations(connection)},
    )


def model_card(facts: CardFacts, base: BaseCard, task: str, *, base_model: str | None, dtype: str | None) -> str:
    """The card's text.

    Args:
        facts: what it is about.
        base: what the base checkpoint's own card says.
        task: the hub's name for what the model is used for, if its own card says none.
        base_model: the base checkpoint's name on the hub, if it is known.
        dtype: the dtype that all weights were converted to, if they were.
    """
    from ...models.cards import front_matter

    matter = {
        "base_model": base_model,
        "base_model_relation": None if base_model is None else "finetune",
        "library_name": "transformers",
        "pipeline_tag": task,
        "tags": ["kndb", "knowledge-editing", "model-editing"],
    }
    lines = [
        front_matter(matter | dict(base.values)),
        f"# {escaped(facts.record.name)} with {many(len(facts.edits), 'edit')}",
        "",
        *_beginning(facts, base_model, dtype),
        "",
        *_origin(facts),
        "",
        "## Edits",
        "",
        "In the order in which they were applied.",
    ]
    for place, edit in enumerate(facts.edits, 1):
        lines += ["", *_edit(place, edit, facts)]
    lines += ["", "## What was not measured", "", *_not_measured(facts)]
    lines += ["", "## The original bytes", "", *_way_back(facts)]
    lines += ["", "## Licence and the base model's card", "", *_base_card(base)]
    return "\n".join(lines) + "\n"


def base_on_hub(source: str) -> tuple[str, str] | None:
    """A checkpoint's name on the hub and its revision, from where the store says that it is; None for a local one."""
    name, at, revision = source.partition(REVISION)
    if not at or source in LAB_MODELS or Path(source).is_absolute():
        return None
    return name, revision


def _beginning(facts: CardFacts, base_model: str | None, dtype: str | None) -> list[str]:
    answers = sum(len(new_answers(edit.recipe)) for edit in facts.edits)
    told = f" ({many(answers, 'new answer')})" if answers else ""
    others = (
        "All other weights are those of the base checkpoint, byte for byte."
        if dtype is None
        else f"All weights were then converted to {dtype}."
    )
    return [
        f"This is {_base(facts.record, base_model)} with {many(len(facts.edits), 'edit')} of its weights{told}, "
        f"planned and applied with kndb, version control for edits of language models. {others} What was edited is "
        "listed below, with what was measured of it."
    ]


def _base(record: Model, base_model: str | None) -> str:
    hub = base_on_hub(record.source)
    if base_model is not None:
        revision = f", revision {escaped(hub[1])}," if hub is not None and hub[0] == base_model else ""
        return f"{escaped(base_model)}{revision}"
    if record.source in LAB_MODELS:
        return f"{escaped(record.source)}, a small model that kndb ships,"
    return f"{escaped(record.name)}, a local checkpoint whose name on the hub is not known,"


def _origin(facts: CardFacts) -> list[str]:
    changed = {edit.kind for edit in facts.edits}
    rows = [
        ["base checkpoint's fingerprint", f"`{facts.record.fingerprint}`"],
        ["version", f"`{facts.version}`"],
        ["ways to edit", escaped(", ".join(sorted(changed)))],
    ]
    return table(["", ""], rows)


# --- edits --------------------------------------------------------------------------------------------------------


def _edit(place: int, edit: Edit, facts: CardFacts) -> list[str]:
    lines = [f"### {place}. {escaped(edit.kind)}", ""]
    said = SENDER if edit.pulled else ""
    if edit.pulled:
        lines += ["It came from a file: what it is for, who planned it and when are the sender's words.", ""]
    lines += [
        f"- For: {said}{escaped(edit.title) or 'not said'}",
        f"- Planned: {said}by {escaped(edit.author) if edit.author else 'nobody known'}, {escaped(edit.created_at)}",
        f"- Changes: {many(edit.neurons, 'value slot')}{'' if edit.neurons else ' (parameters as a whole)'}",
        f"- Object: sha256 `{edit.object_hash}`, planned on version `{edit.base_version}`",
        "",
        *_answers(edit.recipe, facts.labels),
        "",
        *_measures(edit, facts),
    ]
    return lines


def _answers(recipe: Recipe, labels: Mapping[str, str | None]) -> list[str]:
    """The facts with their old and new answers."""
    answers = new_answers(recipe)
    if isinstance(recipe, EraseRecipe):
        return [f"The model should no longer answer relation {_relation(recipe.relation or '', labels)}."]
    if isinstance(recipe, OtherRecipe):
        return ["Its recipe can't be read by this kndb, so its facts are not known."]
    if not answers:
        return ["It does not say which facts it is for."]
    rows = [
        [
            _relation(fact.relation, labels),
            escaped(fact.subject) if fact.subject is not None else "(not named)",
            escaped(_old(recipe, fact) or "") or "not asked",
            escaped(to),
        ]
        for fact, to in answers[:MOST_FACTS]
    ]
    lines = table(["relation", "subject", "old answer", "new answer"], rows)
    if len(answers) > MOST_FACTS:
        lines += ["", f"And {len(answers) - MOST_FACTS:,} more facts, which the edit's recipe names."]
    return lines


def _old(recipe: Recipe, fact: Any) -> str | None:
    """The answer that the model gave before, where the recipe says it."""
    own = getattr(fact, "old_answer", None) or getattr(recipe, "old_answer", None)
    if own is not None:
        return str(own)
    of_fact = {one.fact.id: one.old_answer for one in getattr(recipe, "answers", ())}
    return of_fact.get(fact.id)


def _relation(key: str, labels: Mapping[str, str | None]) -> str:
    label = labels.get(key)
    return f"{escaped(key)} ({escaped(label)})" if label else escaped(key)


# --- measures -----------------------------------------------------------------------------------------------------


def _measures(edit: Edit, facts: CardFacts) -> list[str]:
    found = facts.measured.get(edit.id)
    if found is None:
        return ["It was not measured."]
    where = "this version" if found.version_after == facts.version else f"version `{found.version_after}`"
    how = facts.settings[edit.id]
    controlled = any(value is not None for value, _, _ in found.control.values())
    control = "beside as many random neurons, changed alike" if controlled else "without a control"
    columns = ["measure", "edit", "95 % interval", *(["random neurons", "95 % interval"] if controlled else [])]
    rows = []
    for name, value in found.edited.items():
        if value[0] is None:
            continue
        row = [_name(name), *_cells(name, value)]
        rows.append(row + (_cells(name, found.control[name]) if controlled else []))
    return [
        f"Measured {escaped(found.created_at)} on {where} against version `{found.version_before}`, {control}; "
        f"{escaped(str(how.get('sample')))} facts of other relations, seed {escaped(str(how.get('seed')))}; intervals "
        "are over facts, or over prompts of evaluation prompts.",
        "",
        *table(columns, rows),
    ]


def _name(name: str) -> str:
    meaning = _MEANING.get(name)
    shown = name.replace("_", " ")
    return escaped(shown) if meaning is None else f"{escaped(shown)}: {meaning}"


def _cells(name: str, value: Interval) -> list[str]:
    middle, low, high = value
    return [
        _number(name, middle),
        "" if low is None or high is None else f"{_number(name, low)} to {_number(name, high)}",
    ]


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:.4g}" if name in _PLAIN or name not in _MEANING else f"{100 * value:.1f} %"


def _not_measured(facts: CardFacts) -> list[str]:
    lines: list[str] = []
    without = [place for place, edit in enumerate(facts.edits, 1) if edit.id not in facts.measured]
    if without:
        lines.append(f"- Nothing was measured of edit {', '.join(map(str, without))} of this list.")
    for place, edit in enumerate(facts.edits, 1):
        found = facts.measured.get(edit.id)
        missing = [] if found is None else [name for name, value in found.edited.items() if value[0] is None]
        if missing:
            named = ", ".join(escaped(name.replace("_", " ")) for name in missing)
            lines.append(f"- Of edit {place}: {named}.")
    if any(one.version_after != facts.version for one in facts.measured.values()) or len(facts.edits) > 1:
        lines.append(
            "- Each edit was measured by itself, on the version that it was planned on: what all of them do together "
            "was not."
        )
    lines.append(
        "- Anything but answers to the prompts of facts: other abilities, other languages, bias and safety were not "
        "measured, before or after."
    )
    return lines


# --- the way back -------------------------------------------------------------------------------------------------


def _way_back(facts: CardFacts) -> list[str]:
    name = shlex.quote(facts.record.name)
    numbers = " ".join(str(edit.id) for edit in facts.edits)
    return [
        "The edits hold the bytes that they replaced. In the database that this was exported from, these commands "
        "write the base checkpoint again, and the edits to a file:",
        "",
        "```console",
        f"$ kndb snapshot export base --model {name} --out original",
        f"$ kndb edit push {numbers} --out edits.kndb",
        "```",
        "",
        "Who has the base checkpoint of the fingerprint above can take them over with `kndb edit pull`, and apply and "
        "revert each of them; or, without that file, make one edit of all that differs here:",
        "",
        "```console",
        "$ kndb model add BASE_CHECKPOINT --name base",
        "$ kndb edit capture --model base --from THIS_FOLDER",
        "```",
    ]


def _base_card(base: BaseCard) -> list[str]:
    told = base.values.get("license")
    named = (
        f"The base checkpoint's card says: {escaped(str(told))}." if told else "No licence is known to the exporter."
    )
    if base.kept_as is None:
        return [named, "", "The base checkpoint came without a card of its own."]
    return [named, "", f"The base checkpoint's own card, as it was: [{base.kept_as}]({base.kept_as})."]
