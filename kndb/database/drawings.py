"""Fetch what a figure shows, say in its caption what it is of, and draw it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..advice import Placeholder, call, option
from ..errors import NotFoundError
from ..records.attribution import Refinement, RefinementChoice, Run, attribute_and_refine
from ..records.display import Rows
from ..records.edits import EditTrial
from ..records.figures import PLAIN, FigureOptions
from ..records.models import StoredSettings
from ..records.probes import Probe
from ..store import refinements as store_refinements
from ..store import runs as store_runs
from ..store.choosing import answering
from ..store.facts import named_relations
from .query.details import fact_scores

if TYPE_CHECKING:
    from ..plots.style import NotebookFigure
    from .database import Database

_NAMED = 8
"""Relations that a caption names; more are counted."""
_SAID_ELSEWHERE = {
    "kind",
    "refinement",
    "refinement_run",
    "refinement_method",
    "refinement_version",
    "version",
    "baseline_version",
}
_NOT_OF_TRIALS = {"known_facts", "known_prompts", "cells"}
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

    def refinement(
        self,
        choice: RefinementChoice,
        model: str | None,
        relations: Sequence[str] = (),
        facts: Sequence[int] = (),
    ) -> Refinement:
        """The refinement of a figure of some relations or facts; see `QueryCommands.choose`."""
        with self._database.store.reading() as connection:
            return answering(connection, choice, model=model, relations=relations, facts=facts)

    def probe(self, kind: str, number: int | None, model: str | None) -> Probe:
        """The probe of a number, or the newest of a kind, of one model if one is named.

        Raises:
            NotFoundError: if there is none, or that number is of another kind or model.
        """
        make = _making(kind, model)
        if number is None:
            found = self._database.probes.latest(kind, model)
            if found is None:
                of = "" if model is None else f" of model {model!r}"
                raise NotFoundError(f"there is no {kind} probe{of} to draw; make one with: {make}")
            return found
        found = self._database.probes.get(number)
        if model is not None and found.model != model:
            raise NotFoundError(
                f"{option('probe', number)} is of model {found.model!r}, not of {model!r}; list that model's with: "
                f"{call('probes.all', model=model)}"
            )
        if found.kind != kind:
            raise NotFoundError(
                f"{option('probe', number)} is of kind {found.kind}, not {kind}. Draw it with: "
                f"{_drawing(found.kind, number)}, or make one of that kind with: {make}"
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
            again = call("attribution.run", model=refinement.model, relations=list(relations))
            raise NotFoundError(
                f"no fact has two attributed prompts or more in refinement {refinement.id}, whose coarse sets could be "
                f"compared; attribute more prompts with: {again}"
            )
        return consistency_figure(rows, self._caption(refinement, relations), options)

    def fact(self, refinement: Refinement, fact_id: int, options: FigureOptions = PLAIN) -> NotebookFigure:
        """The figure of a fact."""
        from ..plots.fact import fact_figure

        findings = self._database.query.fact(fact_id, refinement=refinement.id)
        if not any(row.prompts is not None for row in findings.votes):
            raise NotFoundError(
                f"refinement {refinement.id} has no votes of prompts for fact {fact_id} {findings.fact.title}: it was "
                "imported without them, or the fact was not attributed; see: "
                f"{call('query.fact', fact_id, refinement=refinement.id)}"
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
            keys = list(named_relations(connection, relations))
        return " · ".join([*describe(run, refinement), *_describe_relations(keys)])

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
            found = store_refinements.refinement(connection, refinement)
        return f"refinement {found.id} of run {found.run_id} ({found.method})"

    def trial(self, number: int, options: FigureOptions = PLAIN) -> NotebookFigure:
        """A bench or a sweep."""
        from ..plots.decay import decay_figure
        from ..plots.methods import methods_figure
        from ..plots.sweep import sweep_figure

        trial, rows = self._database.trials.get(number), self._database.trials.table(number)
        if not rows:
            bench, sweep = call("trials.bench", model=trial.model), call("trials.sweep", model=trial.model)
            again = bench if trial.kind == "bench" else sweep
            raise NotFoundError(f"trial {number} has no results yet; resume it with: {again}")
        settings: Any = {name: value for name, value in trial.settings.items() if name not in _NOT_OF_TRIALS}
        if "methods" in trial.settings:
            return methods_figure(rows, self._caption_of_comparison(trial), options)
        cells: Any = trial.settings.get("cells", [{}])
        settings |= {name: value for name, value in cells[0].items() if all(cell[name] == value for cell in cells)}
        words = settings_in_words({name: value for name, value in settings.items() if name != "refinement"})
        named = self._named(settings["refinement"])
        caption = f"{trial.model} {trial.version[:12]} · {named} · trial {number} ({trial.kind}): {words}"
        return (decay_figure if trial.kind == "bench" else sweep_figure)(rows, caption, options)

    def _caption_of_comparison(self, trial: EditTrial) -> str:
        """What a comparison of methods is of; what it measures on, no plan saw."""
        settings: Any = trial.settings
        refinement = [] if settings["refinement"] is None else [self._named(settings["refinement"])]
        seeds = ", ".join(map(str, settings["seeds"]))
        told = f"seed{'s' if len(settings['seeds']) > 1 else ''} {seeds}"
        measured = f"measured on {settings['intra']} facts of the edited relations and {settings['inter']} others"
        share = f"plans may look at {settings['share']:.0%} of the facts that are not edited, and at none measured"
        if settings["known"]:
            share += f"; the edited facts are those of whose prompts the model answers {settings['known']:.3g} or more"
        head = f"{trial.model} {trial.version[:12]}"
        return " · ".join([head, *refinement, f"trial {trial.id} (bench): {told}; {measured}; {share}"])


def _making(kind: str, model: str | None) -> str:
    """What makes a probe of a kind, as advice."""
    name = Placeholder("NAME") if model is None else model
    if kind == "activation":
        return call("probes.activation", model=name, texts=Placeholder("FILE"))
    return call("probes.scale", kind=kind, model=name)


def _drawing(kind: str, probe: int) -> str:
    """What draws a probe, as advice."""
    out = Placeholder("FILE")
    if kind == "activation":
        return call("plots.activation", path=out, probe=probe)
    if kind == "amplify":
        return call("plots.amplify", path=out, probe=probe)
    return call("plots.suppress", path=out, probe=probe)


def making(kind: str, model: str) -> str:
    """The command that makes a probe, for a report."""
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


def refinement_of_probe(probe: Probe) -> str:
    """Whose neurons a probe scaled or read, in words, as far as it was noted."""
    run, method = (probe.settings.get(f"refinement_{name}") for name in ("run", "method"))
    of = "" if run is None else f" of run {run}" + ("" if method is None else f" ({method})")
    return f"refinement {probe.refinement}{of}"


def _describe_relations(relations: Sequence[str]) -> list[str]:
    if not relations:
        return []
    return [f"relations {', '.join(relations)}" if len(relations) <= _NAMED else f"{len(relations)} relations chosen"]


def _nothing(refinement: Refinement, relations: Sequence[str]) -> NotFoundError:
    of = f" for {', '.join(relations)}" if relations else ""
    return NotFoundError(
        f"{refinement.title} has no knowledge neurons{of} to draw; make one that has with: "
        f"{attribute_and_refine(refinement.model, relations)}"
    )


def _not_probed(probe: Probe, relations: Sequence[str]) -> NotFoundError:
    of = f" of {', '.join(relations)}" if relations else ""
    return NotFoundError(f"probe {probe.id} has no facts{of}; make one with: {_making(probe.kind, probe.model)}")
