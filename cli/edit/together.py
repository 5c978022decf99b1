"""`kndb edit optimize --together`: one edit for all facts of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.advice import call
from kndb.errors import UsageError
from kndb.records.group_recipes import GroupRecipe
from kndb.records.layer_lists import layers_in
from kndb.records.recipes import Recipe
from kndb.records.together import FITTED, KeptFacts, TogetherRecipe, TogetherSettings, fitted_in_words

from ..answering import warn
from ..numbers import number_ranges
from ..options import computing, open_existing
from ..output import OutputFormat, as_row, note, print_rows, progress_bar
from .conditions import NOTHING, Required
from .fact_list import FactList
from .planning import note_unusable, print_planned, read_targets
from .reports import report_rows, success_cells, warnings
from .steps import EDIT_COLUMNS, edit_rows

if TYPE_CHECKING:
    from kndb.database import Database
    from kndb.database.edits.batch import Target
    from kndb.database.edits.batches import GroupBatch
    from kndb.database.edits.draft import Draft
    from kndb.database.edits.targets import Targets
    from kndb.database.models import ModelVersion

_SHALLOW, _DEEP = FITTED
STEPS_IN_WORDS = (
    f"{_SHALLOW.steps}, or as many as give each prompt of the facts {_SHALLOW.turns} turns; "
    f"in deep models {_DEEP.steps} and {_DEEP.turns}"
)
AT_ONCE_IN_WORDS = (
    f"{_SHALLOW.edited_at_once} and {_SHALLOW.kept_at_once}; "
    f"in deep models {_DEEP.edited_at_once} and {_DEEP.kept_at_once}"
)
"""What is taken where nothing is asked for."""

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
        help="With --together, how little steps heed what neurons do on kept prompts (λ in the docs). Default: "
        f"{fitted_in_words('ridge')}.",
        show_default=False,
    ),
]
FirstStepOption = Annotated[
    float | None,
    typer.Option(
        "--first-step",
        help="With --together, fit the learning rate so that the first step moves the outputs of the changed layers by "
        f"this much, in lengths of these outputs. Default: {fitted_in_words('first_step')}.",
        show_default=False,
    ),
]
PatienceOption = Annotated[
    int | None,
    typer.Option(
        "--patience",
        help="With --together, use prompts whose new answers have won this many times less often than the others. "
        f"Default: {fitted_in_words('patience')}.",
        show_default=False,
    ),
]
KeepLastOption = Annotated[
    float | None,
    typer.Option(
        "--keep-last",
        help="With --together, --keep in the last sixth of the steps; it changes from the middle of the steps on. "
        f"Default: --keep, if it is given, else {fitted_in_words('keep_last')}.",
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
BatchSizeOption = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        help="Plan edits of so many facts of the file each, every one on the weights with those before it; all are "
        "stored, or none. Default: all facts in one edit.",
        show_default=False,
    ),
]
GROUP_COLUMNS = [
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
GROUP_SHORT = [name for name in GROUP_COLUMNS if name not in ("relation", "prompts", "probability_before")]


@dataclass(frozen=True)
class JointPlan:
    """What `kndb edit optimize --together` is told.

    Attributes:
        model: a registered model.
        listed: the file of facts and new answers.
        settings: how; `keep`: how many other facts are kept; `layers`: which layers, if they were named.
        steps_file: keeps the steps; `batch_size`: facts of an edit, None for all.
    """

    model: str
    listed: FactList
    settings: TogetherSettings
    keep: KeptFacts
    layers: tuple[int, ...]
    steps_file: Path | None
    batch_size: int | None = None


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
    return TogetherSettings(**given({**values, **prompts_at_once(at_once)}))


def prompts_at_once(at_once: int | None) -> dict[str, int | None]:
    """The two settings that --at-once stands for.

    Raises:
        UsageError: if it is under 1.
    """
    if at_once is not None and at_once < 1:
        raise UsageError(f"--at-once must be at least 1 (got {at_once})")
    return {"edited_at_once": at_once, "kept_at_once": at_once}


def parse_layers(text: str | None) -> tuple[int, ...]:
    """The layers that --layers names, rising.

    Raises:
        UsageError: if it is no list of numbers and ranges.
    """
    found = () if text is None else layers_in(text)
    if found is None:
        raise UsageError(f"--layers must be numbers and ranges, such as 24-29 or 0,2 (got {text!r})")
    return found


def plan_together(
    plan: JointPlan,
    refinement: int | None,
    method: str | None,
    threads: int | None,
    *,
    preview: bool,
    db: str | None,
    output: OutputFormat,
    required: Required = NOTHING,
) -> None:
    """Plans, and stores and prints the edit; or prints what it would do to each fact, and stores nothing."""
    with open_existing(db) as database, computing(threads):
        targets = read_targets(database, plan.listed)
        batch = _drafted(database, plan, targets, refinement, method)
        note_unusable(batch.unusable)
        for draft in batch.drafts:
            note_outcome(draft.content.recipe)
        files = batch_files(plan.steps_file, len(batch.drafts))
        finish_batch(database, batch, preview=preview, output=output, files=files, required=required)
        note_warnings(plan.model, batch, db)


def _drafted(
    database: Database, plan: JointPlan, targets: Targets, refinement: int | None, method: str | None
) -> GroupBatch:
    chosen = None
    if not plan.layers:
        chosen = warn(database, refinement, method, plan.model, facts=[target.fact for target in targets])
    elif refinement is not None or method is not None:
        raise UsageError("--layers says what changes; leave out --refinement and --method")

    def drafted(some: Sequence[Target], on: ModelVersion, before: Sequence[Draft]) -> Draft:
        with progress_bar("Planning", "steps") as tick:
            return database.edits.drafts.together(
                plan.model,
                some,
                plan.settings,
                plan.keep,
                layers=plan.layers,
                refinement=chosen,
                steps_file=file_of_batch(plan.steps_file, len(before)),
                skip_unusable=plan.listed.skip_unusable,
                progress=tick,
                on=on,
            )

    size = len(targets) if plan.batch_size is None else plan.batch_size
    skip = plan.listed.skip_unusable
    return database.edits.draft_batches(plan.model, targets, size, drafted, skip_unusable=skip)


def note_outcome(recipe: Recipe) -> None:
    """Says how the steps went."""
    if not isinstance(recipe, TogetherRecipe) or recipe.outcome is None:
        return
    outcome = recipe.outcome
    reached = "reached" if outcome.reached else "not both reached"
    note(
        f"{outcome.steps} steps, --success and --drift {reached}: new answers win on {100 * outcome.success:.1f} % of "
        f"the prompts; answers of facts kept for validation diverge by {outcome.drift:.4f} nats."
    )


# --- edits of many facts, of any method --------------------------------------------------------------------


def file_of_batch(path: Path | None, number: int) -> Path | None:
    """The file that keeps the work of a batch's plan: of the first, the one that was named."""
    if path is None or not number:
        return path
    return path.with_name(f"{path.name}.{number}")


def batch_files(path: Path | None, count: int) -> list[Path]:
    """The files of so many batches."""
    found = (file_of_batch(path, number) for number in range(count))
    return [one for one in found if one is not None]


def finish_batch(
    database: Database,
    batch: GroupBatch,
    *,
    preview: bool,
    output: OutputFormat,
    files: Sequence[Path] = (),
    required: Required = NOTHING,
) -> None:
    """Stores and prints edits of many facts; or prints what they would do together, and stores nothing.

    Args:
        database: the database.
        batch: the edits.
        preview: store nothing.
        output: how to print.
        files: what kept the work of the plans; removed once the edits are stored.
        required: conditions that the edits must meet together.
    """
    count = len(batch.drafts)
    if preview:
        rows = [as_row(row) for row in database.edits.preview_together(batch)]
        if count == 1:
            for name, text in report_rows(batch.drafts[0].content.recipe).items():
                note(f"{name.capitalize()}: {text}.")
        what = "one edit" if count == 1 else f"{count} edits together,"
        note(f"A preview of {what} of {len(rows)} {'fact' if len(rows) == 1 else 'facts'}; nothing was stored.")
        print_rows(rows, GROUP_COLUMNS, output, short=GROUP_SHORT)
        required.check_batch(database, batch)
        return
    edits = required.add_batch(database, batch)
    for path in files:
        path.unlink(missing_ok=True)
    if count == 1:
        print_planned(edits[0], output)
        return
    numbers = number_ranges([edit.id for edit in edits]).split()
    note(
        f"Planned {count} edits, each on the ones before it; not applied. Apply them with: "
        f"{call('edits.apply_all', numbers)}"
    )
    rows = [{**row, **success_cells(edit.recipe)} for row, edit in zip(edit_rows(edits), edits, strict=True)]
    columns = [*EDIT_COLUMNS, "success", "held_out_success", "warning"]
    print_rows(rows, columns, output, short=["id", "what", "neurons", "success", "held_out_success", "warning"])


def note_warnings(model: str, batch: GroupBatch, db: str | None) -> None:
    """Says what is wrong with the plans; of several, of how many, and of the first."""
    wrong = [draft.content.recipe for draft in batch.drafts if warnings(model, draft.content.recipe, db)]
    if not wrong:
        return
    if len(batch.drafts) > 1:
        note(f"{len(wrong)} of {len(batch.drafts)} plans do not do what they should. Of the first of them:")
    for text in warnings(model, wrong[0], db):
        note(text)


def fact_rows(recipe: GroupRecipe, numbers: Mapping[str, int | None] | None = None) -> list[dict[str, Any]]:
    """The facts of an edit of many with their answers, as `kndb edit show` lists them.

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
