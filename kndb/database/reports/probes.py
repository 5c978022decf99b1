"""The sections of a model's report that experiments answer: probes, and the edits made."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from ...records.edits import Edit, Evaluation
from ...records.probes import ARMS, TEXT_KINDS, Probe, ProbeSummary
from ...report.content import Cell, Command, Row, Section, Table, count, decimal, named, percent, sourced, table
from ...store import facts as store_facts
from ...store import refinements as store_refinements
from ...store import runs as store_runs
from ...store.edits import edit as store_edits
from ...store.edits import evaluations as store_evaluations
from ..drawings import making, probe_in_words, refinement_of_probe
from .edit_tables import comparison_table, summary_table
from .sources import IN_PAGE, Sources

FACTS_SHOWN = 3
"""Facts whose extreme texts are shown."""
_PROMPTS_OF = {"own": "the facts' own prompts", "other": "prompts of other relations"}
_MEASURES = (
    "change_rate",
    "success_rate",
    "perplexity_change",
    "accuracy_before",
    "accuracy_after",
    "neighbourhood_score_before",
    "neighbourhood_score_after",
    "right_above_new_before",
    "right_above_new_after",
    "unchanged",
)
"""Measures of an evaluation that a report shows."""


def scaling(sources: Sources, kind: str) -> Section:
    """What suppressing or amplifying does."""
    doing = {"suppress": "suppressing", "amplify": "amplifying"}[kind]
    title = f"What does {doing} them do?"
    probe = sources.probes.get(kind)
    if probe is None:
        return _not_probed(sources, kind, title)
    command = sources.probed(kind)
    rows = sources.database.probes.summary(probe.id)
    means = [
        (
            f"{row.neurons_from} neurons, {_PROMPTS_OF[row.prompts_of]}",
            count(row.facts),
            count(row.prompts),
            decimal(row.neurons),
            percent(row.change, signed=True),
            percent(row.correct_before),
            percent(row.correct_after),
            percent(row.flips),
        )
        for row in rows
        if row.relation is None
    ]
    columns = ("neurons scaled", "facts", "prompts", "neurons per fact", "change of probability", "correct before")
    tables = [table("Mean over relations", command, (*columns, "correct after", "answers flipped"), means)]
    again = Command(f"probe-{kind}-relations", command.line)
    tables.append(_changes(sources, again, [row for row in rows if row.relation and row.prompts_of == "own"]))
    picture = sources.picture(
        kind,
        lambda: sources.drawings.scaling(probe, options=IN_PAGE),
        f"Change of the answer's probability, and share of answers that flip, by relation, when {doing} neurons.",
        f" --probe {probe.id}",
    )
    made = Section(kind, title, (_of_probe(sources, probe),), tuple(tables), (picture,))
    return sourced(made, _source(sources, probe))


def _changes(sources: Sources, command: Command, rows: list[ProbeSummary]) -> Table:
    arms = [arm for arm in ARMS if any(row.neurons_from == arm for row in rows)]
    values = {(row.relation, row.neurons_from): row.change for row in rows}
    cells: list[Row] = [
        (sources.named(relation), *(percent(values.get((relation, arm)), signed=True) for arm in arms))
        for relation in dict.fromkeys(row.relation for row in rows)
    ]
    return table("Change of the answer's probability, own prompts", command, ("relation", *arms), cells)


def activation(sources: Sources) -> Section:
    """How active neurons are in texts."""
    title = "Which texts activate them?"
    probe = sources.probes.get("activation")
    if probe is None:
        return _not_probed(sources, "activation", title)
    command = sources.probed("activation")
    rows = sources.database.probes.activation_summary(probe.id)
    values = {(row.relation, row.kind): row.mean_activation for row in rows}
    cells: list[Row] = [
        (sources.named(relation), *(decimal(values.get((relation, kind)), digits=3) for kind in TEXT_KINDS))
        for relation in sorted(dict.fromkeys(row.relation for row in rows), key=lambda key: key or "")
    ]
    columns = ("relation", *(f"texts that name {kind.replace('-', ' ')}" for kind in TEXT_KINDS))
    tables = [table("Mean activation of facts' knowledge neurons", command, columns, cells)]
    picture = sources.picture(
        "activation",
        lambda: sources.drawings.activation(probe, options=IN_PAGE),
        "Mean activation of knowledge neurons by kind of text, by relation.",
        f" --probe {probe.id}",
    )
    parts = (*tables, *_texts(sources, probe))
    return sourced(
        Section("activation", title, (_of_probe(sources, probe),), parts, (picture,)), _source(sources, probe)
    )


def _texts(sources: Sources, probe: Probe) -> Iterable[Table]:
    """For a few facts, the texts that activate their neurons most and least."""
    found = sources.database.probes.texts(probe.id)
    for fact_id in list(dict.fromkeys(row.fact_id for row in found))[:FACTS_SHOWN]:
        with sources.database.store.reading() as connection:
            fact = store_facts.fact(connection, fact_id)
        rows = [
            (
                Cell(str(row.rank).replace("-", "−"), number=True),
                row.text,
                row.kind.replace("-", " "),
                decimal(row.activation, digits=3),
            )
            for row in found
            if row.fact_id == fact_id
        ]
        command = Command(f"probe-texts-{fact_id}", f"kndb probe show {probe.id} --fact {fact_id} --part texts")
        title = f"Texts that activate the neurons of fact {fact_id} {fact.title} most (1, 2, …) and least (−1, −2, …)"
        yield table(title, command, ("rank", "text", "names", "activation"), rows)


def edits(sources: Sources) -> Section:
    """The edits of the model, with their measures."""
    title = "Which edits are there?"
    name = sources.name
    with sources.database.store.reading() as connection:
        found = store_edits.edits(connection, sources.model.id)
        measured = {row.edit: row for row in store_evaluations.evaluations(connection)}
    if not found:
        return Section(
            "edits",
            title,
            missing="The model has no edits. Plan one with:",
            remedy=f"kndb edit update --model {name} --fact FACT --to ANSWER",
        )
    rows = [
        (
            named(f"edit {edit.id}"),
            edit.kind,
            edit.what,
            count(edit.neurons),
            named(edit.base_version),
            "yes" if edit.applied else "no",
        )
        for edit in found
    ]
    columns = ("edit", "kind", "what for", "value slots", "planned on", "applied")
    tables = [table("Edits", Command("edit-list", f"kndb edit list --model {name}"), columns, rows, source="")]
    for edit in found:
        if edit.id in measured:
            summary = summary_table(edit, measured[edit.id], _evaluating(edit, measured[edit.id]))
            tables += [_measures(edit, measured[edit.id]), *([summary] if summary else [])]
    trials = sources.database.trials
    compared = [trial for trial in trials.all(sources.model.name) if "methods" in trial.settings]
    if compared and (summaries := trials.table(compared[-1].id)):
        tables.append(comparison_table(compared[-1], summaries))
    return Section("edits", title, tables=tuple(tables))


def _evaluating(edit: Edit, evaluation: Evaluation) -> str:
    """The command that measures an edit again."""
    settings = evaluation.settings
    line = f"kndb edit eval {edit.id} --sample {settings.get('sample')} --seed {settings.get('seed')}"
    if edit.kind == "capture":
        line += f" --fact {settings.get('fact')} --to {shlex.quote(str(settings.get('to')))}"
    return line


def _measures(edit: Edit, evaluation: Evaluation) -> Table:
    edited, control = (evaluation.measures.get(name) for name in ("edited", "control"))
    rows = []
    for group, measures in edited.items() if isinstance(edited, Mapping) else ():
        for name in _MEASURES:
            if name in measures:
                beside = control.get(group, {}).get(name) if isinstance(control, Mapping) else None
                words = f"{group}: {name}".replace("_", " ")
                rows.append((words, decimal(measures[name], digits=3), decimal(beside, digits=3)))
    columns = ("prompts and measure", "edit", "random neurons")
    command = Command(f"edit-eval-{edit.id}", _evaluating(edit, evaluation))
    source = f"evaluation {evaluation.id}: {edit.model} {evaluation.version_before} → {evaluation.version_after}"
    return table(f"Measures of edit {edit.id}", command, columns, rows, source=source)


def _not_probed(sources: Sources, kind: str, title: str) -> Section:
    remedy = making(kind, sources.model.name)
    return Section(kind, title, missing=f"There is no {kind} probe of this model yet. Make one with:", remedy=remedy)


def _source(sources: Sources, probe: Probe) -> str:
    """What a probe's numbers are of: the refinement whose neurons it scaled or read, and the version that was asked."""
    with sources.database.store.reading() as connection:
        refinement = store_refinements.refinement(connection, probe.refinement)
        run = store_runs.run(connection, refinement.run_id)
    named = f"refinement {refinement.id} of run {run.id} ({run.method})"
    return f"probe {probe.id} of the neurons of {named}, {probe.model} {probe.version}"


def _of_probe(sources: Sources, probe: Probe) -> str:
    other = "" if probe.refinement == sources.refinement.id else f", of the neurons of {refinement_of_probe(probe)}"
    moved = "" if probe.version == sources.run.version else f", on version {probe.version}"
    settings = probe_in_words(probe)
    return f"Probe {probe.id}{other}{moved}" + (f": {settings}." if settings else ".")
