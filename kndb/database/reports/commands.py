"""Use cases of reports: collect what is known of a model's knowledge neurons, write one HTML file."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import AttributionError, NotFoundError, UsageError
from ...files import replacing
from ...plots import require_matplotlib
from ...records.attribution import Refinement, Run
from ...report import require_jinja
from ...report.content import Cell, Command, Report, Row, Section, count, decimal, graded_error, percent, table
from ...store import facts as store_facts
from ...store import models as store_models
from ...store import refinements as store_refinements
from ...store import runs as store_runs
from ...store.edits import edit as store_edits
from ...store.run_errors import run_errors
from ..drawings import settings_in_words
from ..error_words import errors_in_words
from . import probes as probe_sections
from . import sections as sections
from .sources import Sources

if TYPE_CHECKING:
    from ..database import Database

FILE = "index.html"
BASELINES = ("activation", "random")
"""Methods whose refinements are there to compare with, not to report."""
_PAPER = "Dai et al. 2022, BERT-base-cased"


@dataclass(frozen=True)
class WrittenReport:
    """A report's file, the refinement that it is of, and the titles of the sections whose data are missing."""

    out: Path
    refinement: int
    missing: tuple[str, ...]


class ReportCommands:
    """Write a model's report."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(
        self, model: str, folder: str | Path, *, refinement: int | None = None, force: bool = False
    ) -> WrittenReport:
        """Writes `index.html`: one file that opens offline. The same store gives the same bytes.

        Args:
            model: a model with a refinement.
            folder: where to write; it is made if it is not there.
            refinement: which one; None takes the model's newest that is no baseline's.
            force: replace a report that is there.

        Raises:
            NotFoundError: if there is no such model or refinement.
            UsageError: if there is a report already, the refinement is another model's, the folder can't be written,
                or matplotlib or jinja2 is not installed.
        """
        require_matplotlib()
        require_jinja()
        target = Path(folder) / FILE
        if target.exists() and not force:
            raise UsageError(f"there is a report at {str(target)!r} already; replace it with --force")
        if target.parent.exists() and not target.parent.is_dir():
            raise UsageError(f"found a file at {str(target.parent)!r}; name a folder with --out")
        from ...report.page import render

        sources = self._sources(model, refinement)
        content = self._collect(sources)
        _write(target, render(content))
        missing = tuple(section.title for section in content.sections if section.missing)
        return WrittenReport(target, sources.refinement.id, missing)

    def collect(self, model: str, *, refinement: int | None = None) -> Report:
        """What the report holds. For arguments and errors see `write`."""
        require_matplotlib()
        return self._collect(self._sources(model, refinement))

    def _collect(self, sources: Sources) -> Report:
        made = [
            _section("trust", "Can the scores be trusted?", lambda: _trust(sources)),
            _section("counts", "Knowledge neurons per fact", lambda: sections.counts(sources)),
            _section("layers", "Layers", lambda: sections.layers(sources)),
            _section("overlap", "Shared neurons", lambda: sections.overlap(sources)),
            _section("shared", "Neurons of several relations", lambda: sections.shared(sources)),
            _section("consistency", "Paraphrases", lambda: sections.consistency(sources)),
            _section("suppress", "Suppressing", lambda: probe_sections.scaling(sources, "suppress")),
            _section("amplify", "Amplifying", lambda: probe_sections.scaling(sources, "amplify")),
            _section("activation", "Activation", lambda: probe_sections.activation(sources)),
            _section("compare", "The activation baseline", lambda: sections.comparison(sources)),
            _section("edits", "Edits", lambda: probe_sections.edits(sources)),
        ]
        return Report(sources.model.name, self._head(sources), (_glance(sources), *made), version("kndb"))

    def _sources(self, name: str, number: int | None) -> Sources:
        with self._database.store.reading() as connection:
            model = store_models.model(connection, name)
            labels = {relation.key: relation.label for relation in store_facts.relations(connection)}
            runs = {run.id: run for run in store_runs.runs(connection, name)}
            refinements = store_refinements.refinements(connection, name)
        chosen = self._choose(name, number, refinements, runs)
        run = runs[chosen.run_id]
        baselines = [
            one
            for one in refinements
            if runs[one.run_id].method == "activation" and runs[one.run_id].version == run.version and one != chosen
        ]
        # The newest of each kind; one of the same refinement goes before it.
        made = sorted(self._database.probes.all(name), key=lambda probe: (probe.refinement == chosen.id, probe.id))
        probes = {probe.kind: probe for probe in made}
        return Sources(self._database, model, run, chosen, baselines[-1] if baselines else None, probes, labels)

    def _choose(
        self, model: str, number: int | None, refinements: Sequence[Refinement], runs: dict[int, Run]
    ) -> Refinement:
        if number is None:
            own = [one for one in refinements if runs[one.run_id].method not in BASELINES]
            return own[-1] if own else self._database.query.refinement(None, model)
        chosen = self._database.query.refinement(number)
        if chosen.run_id not in runs:
            raise UsageError(
                f"refinement {number} is not of {model}; list those that are with: kndb query refinements "
                f"--model {model}"
            )
        return chosen

    def _head(self, sources: Sources) -> tuple[tuple[str, str], ...]:
        model, run, refinement = sources.model, sources.run, sources.refinement
        with self._database.store.reading() as connection:
            edits = store_edits.edits(connection, model.id)
        dates = [run.created_at, run.finished_at, refinement.created_at]
        dates += [probe.created_at for probe in sources.probes.values()]
        dates += [edit.created_at for edit in edits]
        size = f"{model.layers} layers of {model.neurons:,} neurons"
        return (
            ("model", f"{model.name}: {model.family}, {size}"),
            ("version", run.version),
            ("fingerprint", model.fingerprint or "none: only results were imported"),
            ("run", f"{run.id}: {run.method}; {settings_in_words(run.settings) or 'settings not known'}"),
            ("refinement", f"{refinement.id}: {settings_in_words(refinement.settings) or 'settings not known'}"),
            ("data as of", max(date for date in dates if date)),
            ("written by", f"kndb {version('kndb')}"),
        )


def _section(id_: str, title: str, make: Callable[[], Section]) -> Section:
    """A section, or what is missing for it."""
    try:
        return make()
    except (AttributionError, NotFoundError) as error:
        return Section(id_, title, missing=f"{error}.")


def _glance(sources: Sources) -> Section:
    """The paper's figures and this model's, side by side."""
    query, run = sources.database.query, sources.run
    total = query.counts(refinement=sources.refinement.id)[-1]
    counts = sources.query("counts")
    within, across = (
        next((row for row in query.overlap(refinement=sources.refinement.id).summary if row.where == where), None)
        for where in ("within", "across")
    )
    overlap = sources.query("overlap", " --part summary")
    baseline = None if sources.baseline is None else query.counts(refinement=sources.baseline.id)[-1].mean
    listed = Command("query-refinements", f"kndb query refinements --model {sources.name}")
    runs = Command("query-runs", f"kndb query runs --model {sources.name}")
    rows: list[Row] = [
        ("facts", "27,738", count(total.facts, counts)),
        ("relations", "34", count(len(sources.refinement.relations), listed)),
        ("prompts", "253,448", count(run.prompts or None, runs)),
        ("knowledge neurons per fact", "4.13", decimal(total.mean, counts)),
        ("the same, activation baseline", "3.96", decimal(baseline, listed)),
        ("neurons two facts of a relation share", "1.23", decimal(within.pooled_mean if within else None, overlap)),
        ("neurons facts of two relations share", "0.09", decimal(across.pooled_mean if across else None, overlap)),
    ]
    for kind, word, own, other in (
        ("suppress", "suppressed", "−29.03 %", "−1.47 %"),
        ("amplify", "amplified", "+31.17 %", "−1.27 %"),
    ):
        rows.append((f"change of the answer's probability, neurons {word}", own, _change(sources, kind, "knowledge")))
        rows.append((f"the same, baseline's neurons {word}", other, _change(sources, kind, "activation")))
        rows.append((f"the same, random neurons {word}", "–", _change(sources, kind, "random")))
    columns = ("measure", _PAPER, sources.model.name)
    text = "Changes are means over relations of mean Δp ÷ mean p; shared neurons are means over all pairs of facts."
    tables = (
        table("Beside the published figures", None, columns, rows),
        table(
            "Refinements of this model",
            listed,
            ("refinement", "run", "method", "version", "settings", "relations", "neurons per fact"),
            _refinements(sources),
        ),
    )
    return Section("glance", "At a glance", (text,), tables)


def _change(sources: Sources, kind: str, arm: str) -> Cell:
    """The mean over relations of the relative change of the answer's probability, own prompts."""
    probe = sources.probes.get(kind)
    rows = [] if probe is None else sources.database.probes.summary(probe.id)
    for row in rows:
        if (row.relation, row.neurons_from, row.prompts_of) == (None, arm, "own"):
            return percent(row.change, sources.probed(kind), signed=True)
    return Cell("–")


def _refinements(sources: Sources) -> list[Row]:
    with sources.database.store.reading() as connection:
        runs = {run.id: run for run in store_runs.runs(connection, sources.model.name)}
        found = store_refinements.refinements(connection, sources.model.name)
    return [
        (
            f"refinement {one.id}" + (" (this report's)" if one.id == sources.refinement.id else ""),
            str(one.run_id),
            runs[one.run_id].method,
            runs[one.run_id].version,
            settings_in_words(one.settings),
            count(len(one.relations)),
            decimal(sources.database.query.neuron_counts(one.id)[1]),
        )
        for one in found
    ]


def _trust(sources: Sources) -> Section:
    """How right the run's numbers are."""
    title, run = "Can the scores be trusted?", sources.run
    if not run.prompts:
        return Section(
            "trust",
            title,
            missing="These results were imported: their integrals were not checked. Attribute prompts with:",
            remedy=f"kndb attribute --model {sources.name}",
        )
    with sources.database.store.reading() as connection:
        trust = store_runs.trust(connection, run.id)
        errors = run_errors(connection, run)
    runs = Command("query-runs", f"kndb query runs --model {sources.name}")
    prompts = [(run.status, count(run.prompts), count(run.skipped))]
    rows = [
        ("known answers: the fact's object is the most probable token", percent(trust["correct"])),
        ("mean probability of the answer", decimal(trust["probability"], digits=3)),
        ("completeness error, mean over prompts", graded_error(trust["completeness_error"], errors.limit)),
        ("completeness error, largest", graded_error(trust["completeness_error_max"], errors.limit)),
        (
            f"prompts above {'the tolerance of ' if errors.asked else ''}{errors.limit:g}",
            count(errors.above if errors.prompts else None, runs),
        ),
        ("facts with such prompts", count(errors.facts_above if errors.prompts else None)),
        ("gradient evaluations per prompt", decimal(trust["evaluations"], digits=1)),
    ]
    text = (
        "The completeness error is |Σ scores − (P(1) − P(0))| of a prompt's worst layer, relative to that difference. "
        "The command computes nothing anew for prompts that have their results."
    )
    again = Command("attribute", _same_again(sources))
    tables = [
        table(f"Run {run.id}", runs, ("status", "prompts attributed", "prompts left out"), prompts),
        table("Its errors", again, ("measure", "value"), rows),
    ]
    if errors.layers:
        by_layer: list[Row] = [
            (str(one.layer), count(one.prompts), graded_error(one.worst, errors.limit)) for one in errors.layers
        ]
        tables.append(
            table(f"Layers with errors above {errors.limit:g}", again, ("layer", "prompts", "worst"), by_layer)
        )
    said = errors_in_words(errors)
    return Section("trust", title, (text,) if said is None else (text, f"{said}."), tuple(tables))


def _same_again(sources: Sources) -> str:
    """The command that goes on with the run, which prints its errors."""
    run = sources.run
    words = [f"kndb attribute --model {sources.name} --run {run.id} --version {run.version} --method {run.method}"]
    for name, value in sorted(run.settings.items()):
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value is not None and value is not False:
            words.append(f"{option} {shlex.quote(str(value))}")
    attributed = [outcome.relation for outcome in sources.refinement.relations]
    if set(attributed) != set(sources.labels):
        words += [f"--relation {shlex.quote(relation)}" for relation in attributed]
    return " ".join(words)


def _write(target: Path, text: str) -> None:
    """Writes a file that appears, or is replaced, when it is complete."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as scratch:
            scratch.write_bytes(text.encode("utf-8"))
    except OSError as error:
        raise UsageError(
            f"can't write {str(target)!r}: {error.strerror or error}; name another folder with --out"
        ) from error
