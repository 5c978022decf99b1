"""Use cases of figures: fetch what a figure shows, draw it, write it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..advice import Placeholder, call, option
from ..errors import NotFoundError
from ..plots import require_matplotlib
from ..records.attribution import Refinement, RefinementChoice, Run, attribute_and_refine
from ..records.models import StoredSettings
from ..records.probes import Probe
from ..store import runs as store_runs
from ..store.choosing import answering
from ..store.facts import named_relations

if TYPE_CHECKING:
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


class PlotCommands:
    """Draw figures into files: `.png`, `.svg` or `.pdf`.

    Every method writes one file, which appears when it is complete, and gives its path. All raise:
        UsageError: for another suffix, a folder that is not there, or where matplotlib is not installed.
        NotFoundError: if there is nothing to draw; the message names the command that makes it.
    """

    def __init__(self, database: Database) -> None:
        self._drawings = Drawings(database)

    def layers(
        self,
        path: str | Path,
        *,
        relations: Sequence[str] = (),
        by_relation: bool = False,
        refinement: RefinementChoice = None,
        model: str | None = None,
    ) -> Path:
        """The percentage of knowledge neurons in each layer.

        Args:
            path: the file.
            relations: only these relations' facts; none named means all.
            by_relation: a line for each relation (7 at most) in place of bars of all together.
            refinement: which one; see `QueryCommands.choose`.
            model: only refinements of this model.
        """
        _require(path)
        chosen = self._drawings.refinement(refinement, model, relations)
        return _save(self._drawings.layers(chosen, relations, by_relation=by_relation), path)

    def overlap(
        self,
        path: str | Path,
        *,
        relations: Sequence[str] = (),
        refinement: RefinementChoice = None,
        model: str | None = None,
    ) -> Path:
        """The relation × relation matrix of the neurons that two facts share on average. For arguments see `layers`."""
        _require(path)
        chosen = self._drawings.refinement(refinement, model, relations)
        return _save(self._drawings.overlap(chosen, relations), path)

    def counts(
        self,
        path: str | Path,
        *,
        relations: Sequence[str] = (),
        refinement: RefinementChoice = None,
        model: str | None = None,
    ) -> Path:
        """How many knowledge neurons facts have, by relation. For arguments see `layers`."""
        _require(path)
        chosen = self._drawings.refinement(refinement, model, relations)
        return _save(self._drawings.counts(chosen, relations), path)

    def consistency(
        self,
        path: str | Path,
        *,
        relations: Sequence[str] = (),
        refinement: RefinementChoice = None,
        model: str | None = None,
    ) -> Path:
        """How alike the coarse sets of facts' paraphrases are, by relation. For arguments see `layers`."""
        _require(path)
        chosen = self._drawings.refinement(refinement, model, relations)
        return _save(self._drawings.consistency(chosen, relations), path)

    def fact(
        self,
        path: str | Path,
        fact_id: int,
        *,
        refinement: RefinementChoice = None,
        model: str | None = None,
    ) -> Path:
        """The votes of one fact's prompts for its neurons. For other arguments see `layers`."""
        _require(path)
        chosen = self._drawings.refinement(refinement, model, facts=[fact_id])
        return _save(self._drawings.fact(chosen, fact_id), path)

    def suppress(
        self,
        path: str | Path,
        *,
        probe: int | None = None,
        model: str | None = None,
        relations: Sequence[str] = (),
    ) -> Path:
        """What suppressing neurons does to answers.

        Args:
            path: the file.
            probe: the probe's number; None takes the newest of that kind.
            model: the newest of this model.
            relations: only these relations' facts; none named means all.
        """
        _require(path)
        return _save(self._drawings.scaling(self._drawings.probe("suppress", probe, model), relations), path)

    def amplify(
        self,
        path: str | Path,
        *,
        probe: int | None = None,
        model: str | None = None,
        relations: Sequence[str] = (),
    ) -> Path:
        """What amplifying neurons does to answers. For arguments see `suppress`."""
        _require(path)
        return _save(self._drawings.scaling(self._drawings.probe("amplify", probe, model), relations), path)

    def activation(
        self,
        path: str | Path,
        *,
        probe: int | None = None,
        model: str | None = None,
        relations: Sequence[str] = (),
    ) -> Path:
        """The mean activation of knowledge neurons by kind of text. For arguments see `suppress`."""
        _require(path)
        return _save(self._drawings.activation(self._drawings.probe("activation", probe, model), relations), path)

    def check(self, path: str | Path) -> None:
        """Checks that a figure can be drawn into a file of this name, ahead of work that takes long."""
        _require(path)

    def trial(self, path: str | Path, trial: int) -> Path:
        """How edits of a bench wear off as more are piled up; or, of a sweep, success against collateral.

        Args:
            path: the file.
            trial: the trial's number.
        """
        _require(path)
        return _save(self._drawings.trial(trial), path)


class Drawings:
    """Gives figures (matplotlib's `Figure`) of what the store holds."""

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

    def layers(self, refinement: Refinement, relations: Sequence[str] = (), *, by_relation: bool = False) -> Any:
        """The figure of layers."""
        from ..plots.layers import layers_figure

        rows = self._database.query.layers(relations, refinement=refinement.id, by_relation=by_relation)
        if by_relation:
            rows = [row for row in rows if row.relation is not None]
        if not any(row.pairs for row in rows):
            raise _nothing(refinement, relations)
        return layers_figure(rows, self._caption(refinement, relations))

    def overlap(self, refinement: Refinement, relations: Sequence[str] = ()) -> Any:
        """The figure of overlap."""
        from ..plots.overlap import overlap_figure

        overlap = self._database.query.overlap(relations, refinement=refinement.id)
        if not overlap.relations:
            raise _nothing(refinement, relations)
        return overlap_figure(overlap, self._caption(refinement, relations))

    def counts(self, refinement: Refinement, relations: Sequence[str] = ()) -> Any:
        """The figure of counts."""
        from ..plots.counts import counts_figure

        rows = self._database.query.counts(relations, refinement=refinement.id)
        if not any(row.facts for row in rows):
            raise _nothing(refinement, relations)
        return counts_figure(rows, self._caption(refinement, relations))

    def consistency(self, refinement: Refinement, relations: Sequence[str] = ()) -> Any:
        """The figure of consistency."""
        from ..plots.consistency import consistency_figure

        rows = [row for row in self._database.query.consistency(relations, refinement=refinement.id) if row.facts]
        if not rows:
            again = call("attribution.run", model=refinement.model, relations=list(relations))
            raise NotFoundError(
                f"no fact has two attributed prompts or more in refinement {refinement.id}, whose coarse sets could be "
                f"compared; attribute more prompts with: {again}"
            )
        return consistency_figure(rows, self._caption(refinement, relations))

    def fact(self, refinement: Refinement, fact_id: int) -> Any:
        """The figure of a fact."""
        from ..plots.fact import fact_figure

        findings = self._database.query.fact(fact_id, refinement=refinement.id)
        if not any(row.prompts is not None for row in findings.votes):
            raise NotFoundError(
                f"refinement {refinement.id} has no votes of prompts for fact {fact_id} {findings.fact.title}: it was "
                "imported without them, or the fact was not attributed; see: "
                f"{call('query.fact', fact_id, refinement=refinement.id)}"
            )
        return fact_figure(findings, self._caption(refinement, ()))

    def scaling(self, probe: Probe, relations: Sequence[str] = ()) -> Any:
        """The figure of a suppress or amplify probe."""
        from ..plots.scaling import scaling_figure

        rows = self._database.probes.summary(probe.id, relations)
        if not any(row.prompts_of == "own" for row in rows):
            raise _not_probed(probe, relations)
        return scaling_figure(rows, _caption_of_probe(probe, relations))

    def activation(self, probe: Probe, relations: Sequence[str] = ()) -> Any:
        """The figure of an activation probe."""
        from ..plots.activation import activation_figure

        rows = self._database.probes.activation_summary(probe.id, relations)
        if not rows:
            raise _not_probed(probe, relations)
        return activation_figure(rows, _caption_of_probe(probe, relations))

    def _caption(self, refinement: Refinement, relations: Sequence[str]) -> str:
        with self._database.store.reading() as connection:
            run = store_runs.run(connection, refinement.run_id)
            keys = list(named_relations(connection, relations))
        return " · ".join([*describe(run, refinement), *_describe_relations(keys)])

    def trial(self, number: int) -> Any:
        """A bench or a sweep."""
        from ..plots.trials import decay_figure, sweep_figure

        trial, rows = self._database.trials.get(number), self._database.trials.table(number)
        if not rows:
            bench, sweep = call("trials.bench", model=trial.model), call("trials.sweep", model=trial.model)
            again = bench if trial.kind == "bench" else sweep
            raise NotFoundError(f"trial {number} has no results yet; resume it with: {again}")
        settings: Any = {name: value for name, value in trial.settings.items() if name not in ("known_facts", "cells")}
        cells: Any = trial.settings.get("cells", [{}])
        settings |= {name: value for name, value in cells[0].items() if all(cell[name] == value for cell in cells)}
        words = settings_in_words(settings)
        caption = f"{trial.model} {trial.version[:12]} · trial {number} ({trial.kind}): {words}"
        return (decay_figure if trial.kind == "bench" else sweep_figure)(rows, caption)


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


def _caption_of_probe(probe: Probe, relations: Sequence[str]) -> str:
    settings = probe_in_words(probe)
    words = [
        f"{probe.model} {probe.version[:12]}",
        refinement_of_probe(probe),
        f"probe {probe.id} ({probe.kind})" + (f": {settings}" if settings else ""),
    ]
    return " · ".join([*words, *_describe_relations(relations)])


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


def _require(path: str | Path) -> None:
    """Refuses what can't be written before anything is computed."""
    require_matplotlib()
    from ..plots.style import check_target

    check_target(path)


def _save(figure: Any, path: str | Path) -> Path:
    from ..plots.style import save

    return save(figure, path)
