"""Fetch what a figure shows, say in its caption what it is of, and draw it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NotFoundError
from ..records.attribution import Refinement, Run
from ..records.display import Rows
from ..records.figures import PLAIN, FigureOptions
from ..records.models import StoredSettings
from ..records.probes import Probe
from ..store import refinements as store_refinements
from ..store import runs as store_runs
from .query.details import fact_scores

if TYPE_CHECKING:
    from ..plots.style import NotebookFigure
    from .database import Database

_NAMED = 8
"""Relations that a caption names; more are counted."""
_SAID_ELSEWHERE = {"kind", "refinement", "refinement_version", "version", "baseline_version"}
_NOT_OF_TRIALS = {"known_facts", "cells"}
_NO_MATTER = {
    "device",
    "batch_size",
    "input_format",
    "keep",
    "facts_without_prompts",
    "facts_unknown",
    "facts_without_neurons",
}
"""Settings of probes that a caption leaves out."""


class Drawings:
    """Gives figures of what the store holds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def refinement(self, number: int | None, model: str | None) -> Refinement:
        """The refinement of a number, or the newest, of one model if one is named."""
        return self._database.query.refinement(number, model)

    def probe(self, kind: str, number: int | None, model: str | None) -> Probe:
        """The probe of a number, or the newest of a kind, of one model if one is named.

        Raises:
            NotFoundError: if there is none, or that number is of another kind or model.
        """
        command = making(kind, model or "NAME")
        if number is None:
            found = self._database.probes.latest(kind, model)
            if found is None:
                of = "" if model is None else f" of model {model!r}"
                raise NotFoundError(f"found no {kind} probe{of} to draw; make one with: {command}")
            return found
        found = self._database.probes.get(number)
        if model is not None and found.model != model:
            raise NotFoundError(
                f"probe {number} is of model {found.model!r}; expected one of {model!r}: "
                f"kndb probe list --model {shlex.quote(model)}"
            )
        if found.kind != kind:
            raise NotFoundError(
                f"probe {number} is of kind {found.kind}; expected {kind}. Draw it with: "
                f"kndb plot {found.kind} --probe {number} --out FILE, or make one with: {command}"
            )
        return found

    def layers(
        self,
        refinement: Refinement,
        relations: Sequence[str] = (),
        *,
        by_relation: bool = False,
        options: FigureOptions = PLAIN,
    ) -> NotebookFigure:
        """The figure of layers."""
        from ..plots.layers import layers_figure

        rows = self._database.query.layers(relations, refinement=refinement.id, by_relation=by_relation)
        if by_relation:
            rows = Rows([*self._database.query.layers(relations, refinement=refinement.id), *rows])
        if not any(row.pairs for row in rows):
            raise _nothing(refinement, relations)
        return layers_figure(rows, self._caption(refinement, relations), options)

    def overlap(
        self, refinement: Refinement, relations: Sequence[str] = (), options: FigureOptions = PLAIN
    ) -> NotebookFigure:
        """The figure of overlap."""
        from ..plots.overlap import overlap_figure

        overlap = self._database.query.overlap(relations, refinement=refinement.id)
        if not overlap.relations:
            raise _nothing(refinement, relations)
        return overlap_figure(overlap, self._caption(refinement, relations), options)

    def counts(
        self, refinement: Refinement, relations: Sequence[str] = (), options: FigureOptions = PLAIN
    ) -> NotebookFigure:
        """The figure of counts."""
        from ..plots.counts import counts_figure

        rows = self._database.query.counts(relations, refinement=refinement.id)
        if not any(row.facts for row in rows):
            raise _nothing(refinement, relations)
        return counts_figure(rows, self._caption(refinement, relations), options)

    def consistency(
        self, refinement: Refinement, relations: Sequence[str] = (), options: FigureOptions = PLAIN
    ) -> NotebookFigure:
        """The figure of consistency."""
        from ..plots.consistency import consistency_figure

        rows = [row for row in self._database.query.consistency(relations, refinement=refinement.id) if row.facts]
        if not rows:
            raise NotFoundError(
                f"found no facts with two attributed prompts or more in refinement {refinement.id}, whose coarse sets "
                "could be compared; attribute more prompts with: kndb attribute --model NAME"
            )
        return consistency_figure(rows, self._caption(refinement, relations), options)

    def fact(self, refinement: Refinement, fact_id: int, options: FigureOptions = PLAIN) -> NotebookFigure:
        """The figure of a fact."""
        from ..plots.fact import fact_figure

        findings = self._database.query.fact(fact_id, refinement=refinement.id)
        if not any(row.prompts is not None for row in findings.votes):
            raise NotFoundError(
                f"refinement {refinement.id} has no votes of prompts for fact {fact_id} {findings.fact.title}: it was "
                "imported without them, or the fact was not attributed; see: kndb query fact "
                f"{fact_id} --refinement {refinement.id}"
            )
        with self._database.store.reading() as connection:
            scores = fact_scores(connection, refinement.id, fact_id)
        return fact_figure(findings, self._caption(refinement, ()), options, scores=scores)

    def scaling(self, probe: Probe, relations: Sequence[str] = (), options: FigureOptions = PLAIN) -> NotebookFigure:
        """The figure of a suppress or amplify probe."""
        from ..plots.scaling import scaling_figure

        rows = self._database.probes.summary(probe.id, relations)
        if not any(row.prompts_of == "own" for row in rows):
            raise _not_probed(probe, relations)
        return scaling_figure(rows, self._caption_of_probe(probe, relations), options)

    def activation(self, probe: Probe, relations: Sequence[str] = (), options: FigureOptions = PLAIN) -> NotebookFigure:
        """The figure of an activation probe."""
        from ..plots.activation import activation_figure

        rows = self._database.probes.activation_summary(probe.id, relations)
        if not rows:
            raise _not_probed(probe, relations)
        return activation_figure(rows, self._caption_of_probe(probe, relations), options)

    def _caption(self, refinement: Refinement, relations: Sequence[str]) -> str:
        with self._database.store.reading() as connection:
            run = store_runs.run(connection, refinement.run_id)
        return " · ".join([*describe(run, refinement), *_describe_relations(relations)])

    def _caption_of_probe(self, probe: Probe, relations: Sequence[str]) -> str:
        settings = probe_in_words(probe)
        words = [
            f"{probe.model} {probe.version[:12]}",
            self._named(probe.refinement),
            f"probe {probe.id} ({probe.kind})" + (f": {settings}" if settings else ""),
        ]
        return " · ".join([*words, *_describe_relations(relations)])

    def _named(self, refinement: int) -> str:
        """A refinement by its number, with its run and method."""
        with self._database.store.reading() as connection:
            run = store_runs.run(connection, store_refinements.refinement(connection, refinement).run_id)
        return f"refinement {refinement} of run {run.id}: {run.method}"

    def trial(self, number: int, options: FigureOptions = PLAIN) -> NotebookFigure:
        """A bench or a sweep."""
        from ..plots.decay import decay_figure
        from ..plots.sweep import sweep_figure

        trial, rows = self._database.trials.get(number), self._database.trials.table(number)
        if not rows:
            raise NotFoundError(f"trial {number} has no results yet; go on with it: kndb edit {trial.kind}")
        settings: Any = {name: value for name, value in trial.settings.items() if name not in _NOT_OF_TRIALS}
        cells: Any = trial.settings.get("cells", [{}])
        settings |= {name: value for name, value in cells[0].items() if all(cell[name] == value for cell in cells)}
        words = settings_in_words({name: value for name, value in settings.items() if name != "refinement"})
        named = self._named(settings["refinement"])
        caption = f"{trial.model} {trial.version[:12]} · {named} · trial {number} ({trial.kind}): {words}"
        return (decay_figure if trial.kind == "bench" else sweep_figure)(rows, caption, options)


def making(kind: str, model: str) -> str:
    """The command that makes a probe."""
    texts = " --texts FILE" if kind == "activation" else ""
    return f"kndb probe {kind} --model {shlex.quote(model)}{texts}"


def describe(run: Run, refinement: Refinement) -> list[str]:
    """A run and its refinement in words, for a caption."""
    target = run.settings.get("target", "gold")
    asked = "" if target == "gold" else f" of {target}"
    return [
        f"{run.model} {run.version[:12]}",
        f"run {run.id}: {run.method}{asked}",
        f"refinement {refinement.id}: {settings_in_words(refinement.settings) or 'settings not known'}",
    ]


def settings_in_words(settings: StoredSettings) -> str:
    """Settings in one line; those that are off or empty are left out."""
    words = []
    for name, value in settings.items():
        if value is None or value is False or value in ("", [], {}):
            continue
        plain = name.replace("_", " ")
        if value is True:
            words.append(plain)
        elif isinstance(value, (list, tuple)):
            words.append(f"{plain} {', '.join(map(str, value)) if len(value) <= _NAMED else len(value)}")
        elif isinstance(value, (str, int, float)):
            words.append(f"{plain} {value}")
    return ", ".join(words)


def probe_in_words(probe: Probe) -> str:
    """The settings of a probe that its numbers depend on, in one line."""
    left_out = _SAID_ELSEWHERE | _NO_MATTER
    settings = {name: value for name, value in probe.settings.items() if name not in left_out}
    texts = settings.get("texts")
    if isinstance(texts, dict):
        settings["texts"] = [Path(name).name for name in texts]  # The values are the files' hashes.
    return settings_in_words(settings)


def _describe_relations(relations: Sequence[str]) -> list[str]:
    if not relations:
        return []
    return [f"relations {', '.join(relations)}" if len(relations) <= _NAMED else f"{len(relations)} relations chosen"]


def _nothing(refinement: Refinement, relations: Sequence[str]) -> NotFoundError:
    of = f" for {', '.join(relations)}" if relations else ""
    return NotFoundError(
        f"refinement {refinement.id} has no knowledge neurons{of} to draw; make one with: kndb attribute --model NAME, "
        "then kndb refine"
    )


def _not_probed(probe: Probe, relations: Sequence[str]) -> NotFoundError:
    of = f" of {', '.join(relations)}" if relations else ""
    return NotFoundError(f"probe {probe.id} has no facts{of}; make one with: {making(probe.kind, probe.model)}")
