"""Use cases of reports: collect what is known of a model's knowledge neurons, write one HTML file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ...advice import for_python, option
from ...errors import AttributionError, NotFoundError, UsageError
from ...files import output_errors, replacing
from ...plots import require_matplotlib
from ...records.attribution import RefinementChoice
from ...report import require_jinja
from ...report.content import (
    Report,
    Section,
    sourced,
)
from ...store import facts as store_facts
from ...store import models as store_models
from ...store import runs as store_runs
from ...store.choosing import answering, find
from ...store.edits import edit as store_edits
from ..drawings import settings_in_words
from . import probes as probe_sections
from . import sections as sections
from .glance import glance
from .sources import Sources
from .trust import trust

if TYPE_CHECKING:
    from ..database import Database

FILE = "index.html"


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
        self,
        model: str,
        folder: str | Path,
        *,
        refinement: RefinementChoice = None,
        force: bool = False,
        words: Callable[[str], str] = for_python,
    ) -> WrittenReport:
        """Writes `index.html`: one file that opens offline. The same store gives the same bytes.

        Args:
            model: a model with a refinement.
            folder: where to write; it is made if it is not there.
            refinement: which one; see `QueryCommands.choose`.
            force: replace a report that is there.
            words: says what the report advises (see `kndb.advice`); by default as Python does.

        Raises:
            NotFoundError: if there is no such model or refinement.
            UsageError: if there is a report already, the refinement is another model's, or matplotlib or jinja2 is
                not installed.
            OutputError: if the folder can't be written.
        """
        require_matplotlib()
        require_jinja()
        target = Path(folder) / FILE
        if target.exists() and not force:
            raise UsageError(f"{str(target)!r} is a report already; replace it with {option('force', True)}")
        if target.parent.exists() and not target.parent.is_dir():
            raise UsageError(f"{str(target.parent)!r} is a file, and a report is written to a folder; name another")
        from ...report.page import render

        sources = self._sources(model, refinement)
        content = self._collect(sources, words)
        _write(target, render(content))
        missing = tuple(section.title for section in content.sections if section.missing)
        return WrittenReport(target, sources.refinement.id, missing)

    def collect(
        self, model: str, *, refinement: RefinementChoice = None, words: Callable[[str], str] = for_python
    ) -> Report:
        """What the report holds. For arguments and errors see `write`."""
        require_matplotlib()
        return self._collect(self._sources(model, refinement), words)

    def _collect(self, sources: Sources, words: Callable[[str], str]) -> Report:
        section = partial(_section, words)
        made = [
            section("trust", "Can the scores be trusted?", lambda: trust(sources)),
            section("counts", "Knowledge neurons per fact", lambda: sections.counts(sources)),
            section("layers", "Layers", lambda: sections.layers(sources)),
            section("overlap", "Shared neurons", lambda: sections.overlap(sources)),
            section("shared", "Neurons of several relations", lambda: sections.shared(sources)),
            section("consistency", "Paraphrases", lambda: sections.consistency(sources)),
            section("suppress", "Suppressing", lambda: probe_sections.scaling(sources, "suppress")),
            section("amplify", "Amplifying", lambda: probe_sections.scaling(sources, "amplify")),
            section("activation", "Activation", lambda: probe_sections.activation(sources)),
            section("compare", "The activation baseline", lambda: sections.comparison(sources)),
            section("edits", "Edits", lambda: probe_sections.edits(sources)),
        ]
        made = [sourced(section, sources.source) for section in (glance(sources), *made)]
        return Report(sources.model.name, self._head(sources), tuple(made), version("kndb"))

    def _sources(self, name: str, refinement: RefinementChoice) -> Sources:
        with self._database.store.reading() as connection:
            model = store_models.model(connection, name)
            labels = {relation.key: relation.label for relation in store_facts.relations(connection)}
            chosen = answering(connection, refinement, model=name)
            run = store_runs.run(connection, chosen.run_id)
            relations = [outcome.relation for outcome in chosen.relations]
            beside = find(connection, model=name, method="activation", version=run.version, relations=relations)
        baseline = None if beside is None or beside.refinement == chosen else beside.refinement
        # The newest of each kind; one of the same refinement goes before it.
        made = sorted(self._database.probes.all(name), key=lambda probe: (probe.refinement == chosen.id, probe.id))
        probes = {probe.kind: probe for probe in made}
        return Sources(self._database, model, run, chosen, baseline, probes, labels)

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


def _section(words: Callable[[str], str], id_: str, title: str, make: Callable[[], Section]) -> Section:
    """A section, or what is missing for it, as `words` says it."""
    try:
        return make()
    except (AttributionError, NotFoundError) as error:
        return Section(id_, title, missing=f"{words(error.text)}.")


def _write(target: Path, text: str) -> None:
    """Writes a file that appears, or is replaced, when it is complete."""
    with output_errors(target, "name another folder"):
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as scratch:
            scratch.write_bytes(text.encode("utf-8"))
