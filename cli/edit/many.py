"""What the commands of methods for many facts share: their options, planning, previewing and storing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.advice import call
from kndb.errors import UsageError
from kndb.records.many_recipes import UNEDITED, ManyRecipe, TriedLayers, TriedSettings
from kndb.records.many_settings import LayerChoice, ManySettings, RomeSettings, TargetSettings
from kndb.records.recipes import Recipe
from kndb.records.together import written_as_runs

from ..option_groups import takes
from ..options import DatabaseOption, FormatOption, ThreadsOption, computing, open_existing
from ..output import OutputFormat, note, progress_bar
from .conditions import ConfidentOption, RequireOption, required
from .fact_list import FactList
from .planning import (
    FactOption,
    note_unusable,
    read_targets,
    require_one_way,
)
from .reports import layers_in_words
from .together import BatchSizeOption, batch_files, file_of_batch, finish_batch, given, note_warnings, parse_layers

if TYPE_CHECKING:
    from kndb.database import Database
    from kndb.database.edits.batch import Target
    from kndb.database.edits.batches import GroupBatch
    from kndb.database.edits.draft import Draft
    from kndb.database.models import ModelVersion


def _option(name: str, text: str, metavar: str | None = None) -> Any:
    return typer.Option(name, help=text, metavar=metavar, show_default=False)


ManyToOption = Annotated[
    str | None, _option("--to", "Make this the new answer: one token or several.", metavar="OBJECT")
]
_LAYERS = Annotated[
    str | None,
    _option(
        "--layers",
        "Change these layers, such as 3-7 or 0,2; auto tries some on a share of the facts, at the subject's last token "
        "and where the answer is read, or at --token alone. Default: what is usual for the model's kind.",
        metavar="LAYERS|auto",
    ),
]
ONE_LAYER = Annotated[
    str | None,
    _option(
        "--layers",
        "Change this layer; auto tries some, each alone, on a share of the facts. Default: what is usual for the "
        "model's kind.",
        metavar="LAYER|auto",
    ),
]
"""--layers of a method that changes one layer, and no token's output."""
_VALIDATION = Annotated[
    float | None,
    _option("--validation", "With --layers auto, try them on this share of the facts (0 to 1). Default: 0.2."),
]
_SEED = Annotated[int, typer.Option("--seed", help="Random seed.")]
_TARGETS = Annotated[
    Path | None,
    _option(
        "--targets-file",
        "Keep the targets found in this file: run a plan that was stopped again, and it resumes. The file is removed "
        "when the plan is done.",
        metavar="FILE",
    ),
]
_PREVIEW = Annotated[
    bool, typer.Option("--preview", help="Store nothing; show each new answer's probability before and after.")
]
_TOKEN = Annotated[
    str | None,
    _option(
        "--token",
        "Change what the model makes of the subject's last token, or of the place where the answer is read. Default: "
        "subject.",
        metavar="subject|answer",
    ),
]
_KEYS = Annotated[
    str | None,
    _option("--keys", "Give a fact one key, the mean over its prompts, or one for each. Default: mean.", "mean|each"),
]
_RIDGE = Annotated[
    float | None,
    _option(
        "--ridge",
        "Add this to the covariance's diagonal, in parts of its median entry. Default: 0.01.",
    ),
]
_TARGET = {
    "target_steps": Annotated[
        int | None, _option("--target-steps", "Take at most so many steps for a target. Default: 25.")
    ],
    "target_learning_rate": Annotated[
        float | None,
        _option(
            "--target-learning-rate",
            "Learning rate of these steps, in lengths of the layer's output over √d. Default: 0.5.",
        ),
    ],
    "essence": Annotated[
        float | None,
        _option("--essence", "Penalty for changing what else the model says of the subject. Default: 1."),
    ],
    "target_decay": Annotated[float | None, _option("--target-decay", "Penalty for long targets. Default: 0.5.")],
    "target_bound": Annotated[
        float | None,
        _option("--target-bound", "Longest target, in lengths of the layer's output. Default: 0.75."),
    ],
    "target_probability": Annotated[
        float | None,
        _option(
            "--target-probability",
            "A target needs no more steps once its answer has this probability (0 to 1) on each prompt. Default: 0.95.",
        ),
    ],
    "target_at_once": Annotated[
        int | None, _option("--target-at-once", "Use so many prompts of a fact in each of these steps. Default: 4.")
    ],
}


@dataclass(frozen=True)
class ManyPlan:
    """What all commands of methods for many facts are told, but for the method's settings.

    Attributes:
        layers: as given; `validation`: the share for `auto`.
        batch_size: facts of an edit; None for all.
        seed: of draws.
        targets_file: keeps targets.
        require, confident: conditions that the edits must meet together.
        threads, preview, db, output: as everywhere.
    """

    layers: str | None = None
    validation: float | None = None
    batch_size: int | None = None
    seed: int = 0
    targets_file: Path | None = None
    require: list[str] | None = None
    confident: bool = False
    threads: int | None = None
    preview: bool = False
    db: str | None = None
    output: OutputFormat = OutputFormat.TABLE

    @property
    def chosen(self) -> dict[str, Any]:
        """The setting `layers`, if layers are named."""
        named = None if self.layers is None or self.layers == "auto" else parse_layers(self.layers)
        return {} if named is None else {"layers": named}

    @property
    def choose(self) -> LayerChoice | None:
        """How layers are tried, if they are.

        Raises:
            UsageError: if a share is given and they are not.
        """
        if self.layers != "auto":
            if self.validation is not None:
                raise UsageError("--validation needs --layers auto: it says how many facts layers are tried on")
            return None
        return LayerChoice(seed=self.seed, **given({"validation": self.validation}))


@dataclass(frozen=True)
class OneFact:
    """One fact and its new answer, where no file has them."""

    fact: int | None = None
    to: str | None = None


NO_PLAN, NO_FACT = ManyPlan(), OneFact()
takes_fact = takes("one", {"fact": (FactOption, None), "to": (ManyToOption, None)}, OneFact)
"""Gives a command --fact and --to in place of its parameter `one`."""
_SHARED: dict[str, tuple[Any, Any]] = {
    "layers": (_LAYERS, None),
    "validation": (_VALIDATION, None),
    "batch_size": (BatchSizeOption, None),
    "targets_file": (_TARGETS, None),
    "seed": (_SEED, 0),
    "require": (RequireOption, None),
    "confident": (ConfidentOption, False),
    "threads": (ThreadsOption, None),
    "preview": (_PREVIEW, False),
    "db": (DatabaseOption, None),
    "output": (FormatOption, OutputFormat.TABLE),
}


def takes_plan(*left_out: str, layers: Any = _LAYERS) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the shared options in place of its parameter `plan`, a `ManyPlan`; some are left out.

    Args:
        left_out: which.
        layers: the option --layers, where its text is another one.
    """
    options = {name: one for name, one in _SHARED.items() if name not in left_out} | {"layers": (layers, None)}
    return takes("plan", options, ManyPlan)


@dataclass(frozen=True)
class KeyOptions:
    """Settings of methods by keys, as far as they were given; `target` those of `TargetSettings`."""

    own: dict[str, Any]
    target: dict[str, Any]

    def settings(self) -> dict[str, Any]:
        """The settings by name.

        Raises:
            UsageError: if one is out of its range.
        """
        return {**given(self.own), "target": TargetSettings(**given(self.target))}


NO_KEYS = KeyOptions({}, {})


def _key_options(**values: Any) -> KeyOptions:
    target = {name.removeprefix("target_"): values.pop(name) for name in _TARGET}
    return KeyOptions(values, target)


def takes_keys(*left_out: str, rounds: int = 1) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the settings of methods by keys in place of its parameter `how`; some are left out."""
    text = f"Look for targets so often, each time from where the last round ended. Default: {rounds}."
    own: dict[str, tuple[Any, Any]] = {
        "token": (_TOKEN, None),
        "keys": (_KEYS, None),
        "rounds": (Annotated[int | None, _option("--rounds", text)], None),
        "ridge": (_RIDGE, None),
        **{name: (kind, None) for name, kind in _TARGET.items()},
    }
    return takes("how", {name: one for name, one in own.items() if name not in left_out}, _key_options)


# --- planning ------------------------------------------------------------------------------------------


def plan_many(model: str, one: OneFact, listed: FactList, settings: ManySettings, plan: ManyPlan) -> None:
    """Plans, and stores and prints the edits; or prints what they would do to each fact, and stores nothing.

    Args:
        model: a registered model.
        one: the fact, if there is one.
        listed: the file of facts, if there is one.
        settings: the method's, with the layers that were named.
        plan: all else.
    """
    alone = require_one_way(one.fact, one.to, listed, None)
    if alone is not None and plan.batch_size is not None and settings.method != RomeSettings.method:
        raise UsageError("--batch-size needs --facts: it is for the facts of a file")
    choose, conditions = plan.choose, required(plan.require, plan.confident)
    with open_existing(plan.db) as database, computing(plan.threads):
        targets = _targets(database, alone, listed)
        batch = _drafted(database, model, targets, settings, choose, plan, skip_unusable=listed.skip_unusable)
        note_unusable(batch.unusable)
        for text in dict.fromkeys(_covariances(model, draft.content.recipe) for draft in batch.drafts):
            if text is not None:
                note(text)
        files = batch_files(plan.targets_file, len(batch.drafts))
        finish_batch(database, batch, preview=plan.preview, output=plan.output, files=files, required=conditions)
        note_warnings(model, batch, plan.db)


def _targets(database: Database, one: tuple[int, str] | None, listed: FactList) -> Sequence[Target]:
    if one is None:
        return read_targets(database, listed)
    from kndb.database.edits.batch import Target

    return [Target(*one)]


def _drafted(
    database: Database,
    model: str,
    targets: Sequence[Target],
    settings: ManySettings,
    choose: LayerChoice | None,
    plan: ManyPlan,
    *,
    skip_unusable: bool,
) -> GroupBatch:
    chosen: TriedSettings | None = None
    if choose is not None:
        with progress_bar("Trying layers", "tried") as tick:
            chosen = database.edits.drafts.try_layers(
                model, targets, settings, choose, skip_unusable=skip_unusable, progress=tick
            )
        for one in chosen.tried:
            note(_tried(one))

    def drafted(some: Sequence[Target], on: ModelVersion, before: Sequence[Draft]) -> Draft:
        with progress_bar("Planning", "targets") as tick:
            return database.edits.drafts.many(
                model,
                some,
                settings,
                choose=chosen,
                seed=plan.seed,
                targets_file=file_of_batch(plan.targets_file, len(before)),
                skip_unusable=skip_unusable,
                progress=tick,
                on=on,
                before=before,
            )

    size = len(targets) if plan.batch_size is None else plan.batch_size
    return database.edits.draft_batches(model, targets, size, drafted, skip_unusable=skip_unusable)


def _covariances(model: str, recipe: Recipe) -> str | None:
    """What the covariances are of, if there are any, and how to keep them."""
    if not isinstance(recipe, ManyRecipe) or not recipe.covariances:
        return None
    first = recipe.covariances[0]
    of = f"{first.keys:,} keys of {first.texts:,} texts ({first.source})"
    if first.source == UNEDITED:
        keep = f"{call('edits.statistics', model=model)} --layers {written_as_runs(recipe.layers)}"
        return f"Covariances: counted on {of}, for this plan alone; count and keep them once with: {keep}"
    return f"Covariances: the kept ones, of {of}."


def _tried(one: TriedLayers) -> str:
    where = f"Tried {layers_in_words(one.layers, one.token)}"
    if one.failed is not None:
        return f"{where}: {one.failed}"
    return (
        f"{where}: new answers win on {100 * one.success:.1f} % of prompts that the plan does not see, other answers "
        f"stay on {100 * one.kept:.1f} %."
    )
