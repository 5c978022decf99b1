"""`kndb edit optimize --together`: one edit for all facts of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.errors import UsageError
from kndb.records.recipes import Recipe
from kndb.records.together import KeptFacts, TogetherRecipe, TogetherSettings

from ..answering import warn
from ..options import computing, open_existing
from ..output import OutputFormat, as_row, note, print_rows, progress_bar
from .fact_list import FactList
from .planning import note_unusable, print_planned, read_targets
from .reports import report_rows, warnings

if TYPE_CHECKING:
    from kndb.database import Database
    from kndb.database.edits.draft import Draft
    from kndb.database.edits.targets import Targets

ScopeOption = Annotated[
    str | None,
    typer.Option(
        "--scope",
        metavar="neurons|layers",
        help="With --together, change the value slots of the facts' knowledge neurons, or all value slots of the "
        "layers that hold most of them. Default: layers.",
        show_default=False,
    ),
]
LayersOption = Annotated[
    str | None,
    typer.Option(
        "--layers",
        metavar="LAYERS",
        help="With --together, change the value slots of these layers, such as 24-29 or 0,2; no refinement is needed.",
        show_default=False,
    ),
]
DecayOption = Annotated[
    float | None,
    typer.Option(
        "--decay",
        help="With --together, penalty for large changes of slots (γ in the docs). Default: 0.",
        show_default=False,
    ),
]
RidgeOption = Annotated[
    float | None,
    typer.Option(
        "--ridge",
        help="With --together, how little steps heed what neurons do on kept prompts (λ in the docs). Default: 0.03.",
        show_default=False,
    ),
]
FirstStepOption = Annotated[
    float | None,
    typer.Option(
        "--first-step",
        help="With --together, fit the learning rate so that the first step moves the outputs of the changed layers by "
        "this much, in lengths of these outputs. Default: 0.005.",
        show_default=False,
    ),
]
PatienceOption = Annotated[
    int | None,
    typer.Option(
        "--patience",
        help="With --together, use prompts whose new answers have won this many times less often than the others. "
        "Default: 2.",
        show_default=False,
    ),
]
SuccessOption = Annotated[
    float | None,
    typer.Option(
        "--success",
        help="With --together, stop once the new answers win on this share of the prompts (0 to 1) and --drift is "
        "reached. Default: 0.99.",
        show_default=False,
    ),
]
ValidationOption = Annotated[
    float | None,
    typer.Option(
        "--validation",
        help="With --together, measure the drift on this share of the kept facts, which no step sees. Default: 0.1.",
        show_default=False,
    ),
]
CheckOption = Annotated[
    int | None,
    typer.Option(
        "--check",
        help="With --together, measure success and drift every so many steps. Default: 50.",
        show_default=False,
    ),
]
StepsFileOption = Annotated[
    Path | None,
    typer.Option(
        "--steps-file",
        metavar="FILE",
        help="With --together, keep the steps in this file: run a plan that was stopped again, and it resumes. The "
        "file is removed when the plan is done.",
        show_default=False,
    ),
]
_MOST = 10_000
"""Layers in a range that can be meant."""
_COLUMNS = [
    "fact",
    "relation",
    "subject",
    "old_answer",
    "to",
    "prompts",
    "probability_before",
    "probability_after",
    "success_rate",
]
_SHORT = [name for name in _COLUMNS if name not in ("relation", "prompts")]


@dataclass(frozen=True)
class JointPlan:
    """What `kndb edit optimize --together` is told.

    Attributes:
        model: a registered model.
        listed: the file of facts and new answers.
        settings: how; `keep`: how many other facts are kept; `layers`: which layers, if they were named.
        steps_file: keeps the steps.
    """

    model: str
    listed: FactList
    settings: TogetherSettings
    keep: KeptFacts
    layers: tuple[int, ...]
    steps_file: Path | None


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in values.items() if value is not None}


def refuse(values: Mapping[str, Any], why: str) -> None:
    """Refuses options that belong to the other way to plan.

    Args:
        values: the options, by their settings' names.
        why: the message, with a place for the option's name.

    Raises:
        UsageError: for the first one that was given.
    """
    for name in given(values):
        raise UsageError(why.format(name.replace("_", "-")))


def together_settings(values: Mapping[str, Any], at_once: int | None) -> TogetherSettings:
    """The settings of a joint plan.

    Raises:
        UsageError: if one is out of its range.
    """
    if at_once is not None and at_once < 1:
        raise UsageError(f"--at-once must be at least 1 (got {at_once})")
    return TogetherSettings(**given({**values, "edited_at_once": at_once, "kept_at_once": at_once}))


def parse_layers(text: str | None) -> tuple[int, ...]:
    """The layers that --layers names, rising.

    Raises:
        UsageError: if it is no list of numbers and ranges.
    """
    found: set[int] = set()
    for part in [] if text is None else text.split(","):
        first, dash, last = part.strip().partition("-")
        if (
            not first.isdecimal()
            or (dash and not last.isdecimal())
            or (dash and not 0 <= int(last) - int(first) < _MOST)
        ):
            raise UsageError(f"--layers must be numbers and ranges, such as 24-29 or 0,2 (got {text!r})")
        found |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))


def plan_together(
    plan: JointPlan,
    refinement: int | None,
    method: str | None,
    threads: int | None,
    *,
    preview: bool,
    db: str | None,
    output: OutputFormat,
) -> None:
    """Plans, and stores and prints the edit; or prints what it would do to each fact, and stores nothing."""
    with open_existing(db) as database, computing(threads):
        targets = read_targets(database, plan.listed)
        draft = _draft(database, plan, targets, refinement, method)
        note_unusable(draft.unusable)
        _note_outcome(draft.content.recipe)
        if preview:
            rows = [as_row(row) for row in database.edits.preview_together(draft)]
            for name, text in report_rows(draft.content.recipe).items():
                note(f"{name.capitalize()}: {text}.")
            note(f"A preview of one edit of {len(rows)} facts; nothing was stored.")
            print_rows(rows, _COLUMNS, output, short=_SHORT)
        else:
            edit = database.edits.add(draft)
            if plan.steps_file is not None:
                plan.steps_file.unlink(missing_ok=True)
            print_planned(edit, output)
        for text in warnings(plan.model, draft.content.recipe, db):
            note(text)


def _draft(database: Database, plan: JointPlan, targets: Targets, refinement: int | None, method: str | None) -> Draft:
    chosen = None
    if not plan.layers:
        chosen = warn(database, refinement, method, plan.model, facts=[target.fact for target in targets])
    elif refinement is not None or method is not None:
        raise UsageError("--layers says what changes; leave out --refinement and --method")
    with progress_bar("Planning", "steps") as tick:
        return database.edits.drafts.together(
            plan.model,
            targets,
            plan.settings,
            plan.keep,
            layers=plan.layers,
            refinement=chosen,
            steps_file=plan.steps_file,
            skip_unusable=plan.listed.skip_unusable,
            progress=tick,
        )


def _note_outcome(recipe: Recipe) -> None:
    """Says how the steps went."""
    if not isinstance(recipe, TogetherRecipe) or recipe.outcome is None:
        return
    outcome = recipe.outcome
    reached = "reached" if outcome.reached else "not both reached"
    note(
        f"{outcome.steps} steps, --success and --drift {reached}: new answers win on {100 * outcome.success:.1f} % of "
        f"the prompts; answers of facts kept for validation diverge by {outcome.drift:.4f} nats."
    )


def fact_rows(recipe: TogetherRecipe, numbers: Mapping[str, int | None] | None = None) -> list[dict[str, Any]]:
    """The facts of a joint plan with their answers, as `kndb edit show` lists them.

    Args:
        recipe: the recipe.
        numbers: of an edit from another store, the facts' numbers here.
    """
    return [
        {
            "fact": fact.id if numbers is None else numbers.get(str(fact.id)),
            "relation": fact.relation,
            "subject": fact.subject,
            "object": fact.object,
            "old_answer": fact.old_answer,
            "to": fact.to,
        }
        for fact in recipe.facts
    ]


FACT_COLUMNS: Sequence[str] = ["fact", "relation", "subject", "object", "old_answer", "to"]
