"""The report's first section: the published figures and this model's, side by side."""

from __future__ import annotations

from ...report.content import (
    NOTHING,
    Cell,
    Command,
    Row,
    Section,
    count,
    decimal,
    named,
    percent,
    table,
)
from ...store import refinements as store_refinements
from ...store import runs as store_runs
from ..drawings import settings_in_words
from .sources import Sources

PAPER = "Dai et al. 2022, BERT-base-cased"


def glance(sources: Sources) -> Section:
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
    shared = {"within": within, "across": across}
    means = {where: row.pooled_mean if row else None for where, row in shared.items()}
    rows: list[Row] = [
        ("facts", _paper("27,738"), count(total.facts, counts)),
        ("relations", _paper("34"), count(len(sources.refinement.relations), listed)),
        ("prompts", _paper("253,448"), count(run.prompts or None, runs)),
        ("knowledge neurons per fact", _paper("4.13"), decimal(total.mean, counts)),
        ("the same, activation baseline", _paper("3.96"), decimal(baseline, listed)),
        (
            "neurons two facts of a relation share",
            _paper("1.23"),
            decimal(means["within"], overlap),
        ),
        (
            "neurons facts of two relations share",
            _paper("0.09"),
            decimal(means["across"], overlap),
        ),
    ]
    for kind, word, own, other in (
        ("suppress", "suppressed", "−29.03 %", "−1.47 %"),
        ("amplify", "amplified", "+31.17 %", "−1.27 %"),
    ):
        rows.append(
            (f"change of the answer's probability, neurons {word}", _paper(own), _change(sources, kind, "knowledge"))
        )
        rows.append((f"the same, baseline's neurons {word}", _paper(other), _change(sources, kind, "activation")))
        rows.append((f"the same, random neurons {word}", NOTHING, _change(sources, kind, "random")))
    columns = ("measure", PAPER, sources.model.name)
    text = "Changes are means over relations of mean Δp ÷ mean p; shared neurons are means over all pairs of facts."
    beside = sources.source
    if sources.baseline is not None:
        beside += f"; activation baseline: refinement {sources.baseline.id} of run {sources.baseline.run_id}"
    tables = (
        table("Beside the published figures", None, columns, rows, source=beside, folded=False),
        table(
            "Refinements of this model",
            listed,
            ("refinement", "run", "method", "version", "settings", "relations", "neurons per fact"),
            _refinements(sources),
            source="",
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
    return Cell(NOTHING)


def _paper(value: str) -> Cell:
    """A published figure: a number that no command gives."""
    return Cell(value, number=True)


def _refinements(sources: Sources) -> list[Row]:
    with sources.database.store.reading() as connection:
        runs = {run.id: run for run in store_runs.runs(connection, sources.model.name)}
        found = store_refinements.refinements(connection, sources.model.name)
    return [
        (
            named(f"{one.id} (this report's)" if one.id == sources.refinement.id else str(one.id)),
            Cell(str(one.run_id), number=True),
            named(runs[one.run_id].method),
            named(runs[one.run_id].version),
            settings_in_words(one.settings),
            count(len(one.relations)),
            decimal(sources.database.query.neuron_counts(one.id)[1]),
        )
        for one in found
    ]
