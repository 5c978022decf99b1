"""The sections of a model's report that queries of its refinement answer: one function each."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from ...records.attribution import SharedNeuron
from ...records.models import Neuron
from ...report.content import Cell, Command, Row, Section, Table, count, decimal, named, percent, table
from ..drawings import settings_in_words
from .sources import Sources, together_first

TOP = 20
"""Neurons, and pairs of relations, that a table lists."""
HOLDERS, RELATIONS = 25, 5
"""Facts of a neuron, and relations of a neuron, that are listed."""


def counts(sources: Sources) -> Section:
    """How many neurons facts have."""
    rows = sources.database.query.counts(refinement=sources.refinement.id)
    columns = (
        "relation",
        "facts",
        "with none",
        "different neurons",
        "mean",
        "lower quartile",
        "median",
        "upper quartile",
        "most",
    )
    cells = [
        (
            sources.named(row.relation),
            count(row.facts),
            count(row.facts_with_none),
            count(row.neurons),
            decimal(row.mean),
            decimal(row.first_quartile),
            decimal(row.median),
            decimal(row.third_quartile),
            count(row.largest),
        )
        for row in together_first(rows)
    ]
    return Section(
        "counts",
        "How many knowledge neurons do facts have?",
        tables=(table("Knowledge neurons per attributed fact", sources.query("counts"), columns, cells),),
        pictures=(
            sources.picture_of_refinement(
                "counts",
                sources.drawings.counts,
                "Knowledge neurons per fact, by relation: quartiles and mean.",
            ),
        ),
    )


def layers(sources: Sources) -> Section:
    """Where knowledge neurons lie."""
    rows = [row for row in sources.database.query.layers(refinement=sources.refinement.id) if row.relation is None]
    cells = [(count(row.layer), count(row.pairs), percent(row.share), count(row.neurons)) for row in rows]
    title = "Fact–neuron pairs by layer, from 0"
    columns = ("layer", "pairs", "share", "different neurons")
    return Section(
        "layers",
        "In which layers do they lie?",
        tables=(table(title, sources.query("layers"), columns, cells),),
        pictures=(
            sources.picture_of_refinement(
                "layers", sources.drawings.layers, "Percentage of knowledge neurons in each layer."
            ),
        ),
    )


def overlap(sources: Sources) -> Section:
    """How many neurons facts share, within and across relations."""
    found = sources.database.query.overlap(refinement=sources.refinement.id)
    command = sources.query("overlap", " --part summary")
    summary = [
        (
            f"{row.where} relations",
            count(row.pairs),
            decimal(row.pooled_mean, digits=3),
            decimal(row.mean_of_means, digits=3),
            decimal(row.same_object_mean, digits=3),
            decimal(row.different_object_mean, digits=3),
        )
        for row in found.summary
    ]
    across = [cell for cell in found.cells if cell.relation != cell.other and cell.mean is not None]
    across.sort(key=lambda cell: (-(cell.mean or 0.0), cell.relation, cell.other))
    closest = [
        (
            f"{sources.named(cell.relation)} and {sources.named(cell.other)}",
            count(cell.pairs),
            decimal(cell.mean, digits=3),
        )
        for cell in across[:TOP]
    ]
    columns = ("pairs of facts", "pairs", "mean", "mean of relations' means", "same object", "different objects")
    tables = [table("Neurons that two facts share, on average", command, columns, summary)]
    if closest:
        again = Command("query-overlap-cells", sources.query("overlap", " --part cells").line)
        tables.append(table("Relations that share most", again, ("relations", "pairs of facts", "mean"), closest))
    text = "Mean of |A ∩ B| over all pairs of facts that have knowledge neurons, exact."
    picture = sources.picture_of_refinement(
        "overlap", sources.drawings.overlap, "Shared neurons per pair of facts, relation by relation."
    )
    return Section("overlap", "How many do facts share?", (text,), tuple(tables), (picture,))


def shared(sources: Sources) -> Section:
    """The neurons that facts of several relations hold, and the facts that hold each."""
    title = "Which neurons serve several relations?"
    found = sources.database.query.shared(refinement=sources.refinement.id, across=2, top=TOP)
    if not found:
        return Section("shared", title, ("No neuron is held by facts of two relations or more.",))
    rows = [
        (
            named(str(Neuron(row.layer, row.neuron)), _place(row)),
            count(row.facts),
            percent(row.share),
            count(len(row.relations)),
            _most(row.relations),
        )
        for row in found
    ]
    columns = ("neuron", "facts", "share of facts", "relations", "facts by relation")
    command = sources.query("shared", f" --across 2 --top {TOP}")
    tables = [table("Neurons held across relations", command, columns, rows, folded=False)]
    text = "Each neuron links to the facts that hold it, those with the largest mean score first."
    return Section("shared", title, (text,), (*tables, *(_holders(sources, row) for row in found)))


def _holders(sources: Sources, shared: SharedNeuron) -> Table:
    """The facts that hold a neuron."""
    neuron = Neuron(shared.layer, shared.neuron)
    findings = sources.database.query.neuron(neuron, refinement=sources.refinement.id)
    rows: list[Row] = [
        (
            Cell(str(fact.fact), number=True),
            fact.subject or "(not named)",
            fact.object,
            sources.named(fact.relation),
            count(fact.prompts),
            decimal(fact.mean_score, digits=4),
        )
        for fact in findings.facts[:HOLDERS]
    ]
    line = f"kndb query neuron {neuron} --part facts --refinement {sources.refinement.id}"
    cut = f": {len(rows)} of {findings.facts_holding:,}" if len(rows) < len(findings.facts) else ""
    return table(
        f"Facts that hold {neuron}{cut}",
        Command(f"query-{_place(shared)}", line),
        ("fact", "subject", "object", "relation", "prompts", "mean score"),
        rows,
        id_=_place(shared),
        folded=True,
    )


def _place(neuron: SharedNeuron) -> str:
    return f"neuron-L{neuron.layer}-N{neuron.neuron}"


def _most(relations: Mapping[str, int]) -> str:
    listed = [f"{key} {number}" for key, number in itertools.islice(relations.items(), RELATIONS)]
    return ", ".join([*listed, *([f"{len(relations) - RELATIONS} more"] if len(relations) > RELATIONS else [])])


def consistency(sources: Sources) -> Section:
    """How alike paraphrases are."""
    title = "Do paraphrases agree?"
    rows = [row for row in sources.database.query.consistency(refinement=sources.refinement.id) if row.facts]
    if not rows:
        return Section(
            "consistency",
            title,
            missing="No fact has two attributed prompts whose coarse sets could be compared. Attribute prompts with:",
            remedy=f"kndb attribute --model {sources.name}",
        )
    cells: list[Row] = [
        (
            sources.named(row.relation),
            count(row.facts),
            *(decimal(value, digits=3) for value in (row.mean, row.first_quartile, row.median, row.third_quartile)),
        )
        for row in together_first(rows)
    ]
    columns = ("relation", "facts", "mean", "lower quartile", "median", "upper quartile")
    text = (
        "For each fact, the mean Jaccard index of the coarse sets of any two of its prompts: 0 nothing shared, 1 equal."
    )
    picture = sources.picture_of_refinement(
        "consistency", sources.drawings.consistency, "Jaccard index of paraphrases' coarse sets, by relation."
    )
    tables = (table("Consistency of paraphrases", sources.query("consistency"), columns, cells),)
    return Section("consistency", title, (text,), tables, (picture,))


def comparison(sources: Sources) -> Section:
    """The refinement beside the activation baseline's."""
    title = "Are they other than the most active neurons?"
    if sources.baseline is None:
        return Section(
            "compare",
            title,
            missing="The activation baseline was not attributed and refined on this version. Make it with:",
            remedy=f"kndb attribute --model {sources.name} --method activation && kndb refine --model {sources.name}",
        )
    chosen, baseline = sources.refinement, sources.baseline
    found = sources.database.query.compare(chosen.id, baseline.id)
    rows = [
        (
            sources.named(row.relation),
            count(row.facts),
            decimal(row.mean_size_a),
            decimal(row.mean_size_b),
            decimal(row.mean_shared),
            decimal(row.mean_jaccard, digits=3),
            count(row.identical),
        )
        for row in together_first(found.relations)
    ]
    columns = ("relation", "facts", "mean size", "baseline's", "shared", "Jaccard index", "identical sets")
    command = Command("query-compare", f"kndb query compare {chosen.id} {baseline.id} --part relations")
    text = f"The activation baseline is {baseline.title}: {settings_in_words(baseline.settings)}."
    source = f"{sources.source}; baseline: refinement {baseline.id} of run {baseline.run_id} (activation)"
    made = table("Beside the activation baseline", command, columns, rows, source=source)
    return Section("compare", title, (text,), (made,))
