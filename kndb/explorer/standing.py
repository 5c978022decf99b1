"""What stands at the top of each page: which run and refinement it is about, and what to know before believing it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..advice import call
from ..database.error_words import errors_in_words
from ..errors import KndbError
from ..records.attribution import Refinement
from ..records.display import many
from ..records.run_findings import RunFindings
from ..records.skip_reasons import skipped_in_words
from .blocks import Link
from .context import Context
from .sentences import begun, whole

if TYPE_CHECKING:
    from .visit import Visit

COUNTED_FOR = 10.0
"""Seconds for which the counts of a run that goes on are kept; those of a complete one never change."""


def run_findings(visit: Visit, number: int) -> RunFindings:
    """What a run knows of itself, counted once for each state of it.

    Raises:
        NotFoundError: if there is no such run.
    """
    query = visit.database.query
    finished = query.finished(number)
    state = time.monotonic() // COUNTED_FOR if finished is None else finished
    return visit.room.counted(("run", number, state), lambda: query.run(number))


def with_standing(visit: Visit, context: Context) -> Context:
    """A context with its run, and what is said of both at the top of a page."""
    found = context.refinement
    if found is None or context.chosen is None:
        return context
    run = run_findings(visit, found.run_id)
    remarks = [*context.chosen.remarks]
    if context.chosen.warning is None and found.caveat is not None:
        remarks.append(f"{begun(found.title)} answers: {found.caveat}.")
    said = errors_in_words(run.errors)
    if said is not None:
        remarks.append(f"Warning: {said}." if run.errors.asked else f"{said}.")
    if run.skipped:
        remarks.append(" ".join(skipped_in_words(run.skipped)))
    remarks += _other_version(visit, context, found)
    return replace(context, run=run, standing=_standing(visit, found, run), remarks=remarks)


def _standing(visit: Visit, found: Refinement, run: RunFindings) -> list[Link]:
    """`Refinement 3 of run 2 (method, model, version): prompts; settings`, with links to both."""
    rest = found.title.partition(f"run {found.run_id} ")[2]
    settings = {"tolerance": run.run.settings.get("tolerance"), **found.settings}
    told = [many(run.run.prompts, "prompt")] if run.run.prompts else []
    told += [words] if (words := settings_in_words(settings)) else []
    return [
        visit.link(f"Refinement {found.id}", "refinements", found.id),
        Link(" of ", None),
        visit.link(f"run {found.run_id}", "runs", found.run_id),
        Link(f" {rest}{': ' if told else ''}{'; '.join(told)}", None),
    ]


def _other_version(visit: Visit, context: Context, found: Refinement) -> list[str]:
    """That the run was computed on another version than the one that the page speaks of."""
    if context.model is None or not context.model.has_checkpoint:
        return []
    try:
        version = visit.database.models.resolve_version(found.model, context.version)
    except KndbError as error:
        return [whole(error.text)]
    if version == found.version:
        return []
    which = "the current version" if context.version == "current" else f"version {context.version}"
    remark = f"Run {found.run_id} was computed on version {found.version[:12]}, and {which} is {version[:12]}: "
    slots = call("edits.diff", found.version, version, model=found.model)
    return [f"{remark}its neurons are those of the former. What differs: {slots}"]


def settings_in_words(settings: Mapping[str, Any]) -> str:
    """Settings in one line: what is on by its name, what is off or not set left out."""
    return ", ".join(_settings(settings))


def _settings(settings: Mapping[str, Any]) -> Iterable[str]:
    for name, value in settings.items():
        words = name.replace("_", " ")
        if value is True:
            yield words
        elif value is not None and value is not False:
            yield f"{words} {value:g}" if isinstance(value, float) else f"{words} {value}"
