"""Pages of attribution runs and of their refinements: how they were made, and how far they are to be believed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ...advice import Placeholder, call
from ...database.error_words import verdict_in_words
from ...errors import NotFoundError
from ...records.attribution import IMPORTED, Refinement, Run, attribute_and_refine
from ...records.models import StoredSettings
from ...records.run_findings import RunFindings
from ...records.skip_reasons import SKIP_REASONS
from ..blocks import Block, Column, Figure, Page, Row, Table, Text, Values
from ..figures import error_bars
from ..standing import COUNTED_FOR, run_findings, settings_in_words
from ..visit import Visit
from .parts import relation_column


def counted_runs(visit: Visit, model: str | None = None) -> Sequence[Run]:
    """All runs, or a model's, with their counts, which are kept for some seconds."""
    key = ("runs", model, time.monotonic() // COUNTED_FOR)
    return visit.room.counted(key, lambda: tuple(visit.database.query.runs(model)))


def runs(visit: Visit) -> Page:
    """All attribution runs, and all refinements."""
    visit.context()
    every = counted_runs(visit)
    refinements = visit.database.query.refinements()
    return Page(
        "Runs and refinements",
        [run_table(visit, every), refinement_table(visit, refinements)],
        command=call("query.runs"),
        lead="A run scores neurons for prompts; a refinement makes knowledge neurons of its scores.",
    )


def run_table(visit: Visit, rows: Sequence[Run], model: str | None = None) -> Table:
    """A table of runs; of one model, without its name."""
    columns = [
        Column("id", "Run", "id", lambda row: visit.to("runs", row["id"])),
        Column("model", "Model", "whole", lambda row: visit.to("models", row["model"])),
        Column("method", "Method", "whole"),
        Column("version", "Version", "version", help="of the model, on which it was computed"),
        Column("status", "Status"),
        Column("prompts", "Prompts", "count", help="prompts with scores"),
        Column("skipped", "Skipped", "count", help="prompts without"),
        Column("above_tolerance", "Above tolerance", "count", help="prompts with a larger completeness error"),
        Column("created_at", "Begun", "time"),
    ]
    names = [one.name for one in columns]
    return Table(
        "runs",
        "Attribution runs",
        [one for one in columns if model is None or one.name != "model"],
        [{name: getattr(run, name) for name in names} for run in rows],
        empty=f"No prompt is attributed yet; begin with: {call('attribution.run', model=model or Placeholder('NAME'))}",
    )


def refinement_table(visit: Visit, rows: Sequence[Refinement], model: str | None = None) -> Table:
    """A table of refinements; of one model, without its name."""
    columns = [
        Column("id", "Refinement", "id", lambda row: visit.to("refinements", row["id"])),
        Column("model", "Model", "whole", lambda row: visit.to("models", row["model"])),
        Column("method", "Method", "whole"),
        Column("run", "Run", "id", lambda row: visit.to("runs", row["run"])),
        Column("facts", "Facts", "count", help="facts with an attributed prompt"),
        Column("neurons", "Neurons per fact", "number", help="mean size of their refined sets"),
        Column("settings", "Settings", "long", sorts=False),
        Column("state", "State", optional=True, help="whether it answers where none is named, or what it is"),
        Column("created_at", "Made", "time"),
    ]
    defaults = set(visit.database.query.default_refinements().values())
    return Table(
        "refinements",
        "Refinements",
        [one for one in columns if model is None or one.name != "model"],
        [
            {
                "id": one.id,
                "model": one.model,
                "method": one.method,
                "run": one.run_id,
                "facts": one.facts,
                "neurons": sum(row.mean_size * row.facts for row in one.relations) / max(1, one.facts),
                "settings": settings_in_words(one.settings),
                "state": _state(one, one.id in defaults),
                "created_at": one.created_at,
            }
            for one in rows
        ],
        empty=f"Nothing is refined yet. Attribute and refine with: "
        f"{attribute_and_refine(model or Placeholder('NAME'))}",
    )


def _state(one: Refinement, default: bool) -> str:
    """As `kndb query refinements` has it."""
    said = ["default"] if default else []
    said += ["negative"] if one.negative else []
    return ", ".join(said + ([] if one.complete else ["incomplete"]))


def run(visit: Visit) -> Page:
    """One run: settings, prompts, skipped ones with reasons, how exact its scores are, its refinements."""
    number = visit.number("run")
    found = run_findings(visit, number)
    one = found.run
    refinements = [row for row in visit.database.query.refinements(one.model) if row.run_id == number]
    visit.context(model=one.model, refinement=refinements[-1].id if refinements else None)
    blocks: list[Block] = [Values("", _values(visit, found))]
    blocks += _settings(one.settings)
    blocks += _errors(visit, found)
    if found.skipped or one.method != IMPORTED:
        blocks.append(_skipped(found))
    if refinements:
        blocks.append(refinement_table(visit, refinements, one.model))
    else:
        blocks.append(Text(one.not_refined, "empty", "Refinements"))
    numbers = [row.id for row in counted_runs(visit)]
    before, after = beside(numbers, number)
    return Page(
        f"Run {number}",
        blocks,
        command=call("query.run", number),
        crumbs=[visit.link("Runs", "runs")],
        before=None if before is None else visit.link(f"Run {before}", "runs", before),
        after=None if after is None else visit.link(f"Run {after}", "runs", after),
        lead=f"{one.method} on {one.model}",
        context=bool(refinements),
    )


def _values(visit: Visit, found: RunFindings) -> list[tuple[str, object, str]]:
    one, trust = found.run, found.trust
    status = "complete" if one.status == "complete" else "not complete: the command that began it resumes it"
    values: list[tuple[str, object, str]] = [
        ("Model", visit.link(one.model, "models", one.model), "text"),
        ("Model version", one.version, "text"),
        ("Method", one.method, "text"),
        ("Status", status, "text"),
        ("Begun", one.created_at, "time"),
        ("Finished", one.finished_at, "time"),
        ("Prompts with scores", one.prompts, "count"),
        ("Prompts skipped", one.skipped, "count"),
    ]
    measured = [
        ("Answers known", trust["correct"], "share"),
        ("Mean p(object)", trust["probability"], "probability"),
        ("Evaluations per prompt", trust["evaluations"], "number"),
    ]
    return values + [row for row in measured if row[1] is not None]


def _settings(settings: StoredSettings) -> list[Block]:
    rows = [(name.replace("_", " "), _setting(value), "text") for name, value in settings.items() if value is not None]
    return [Values("Settings", rows, "settings")] if rows else []


def _setting(value: object) -> object:
    """A setting; of files, their names and the beginnings of their digests."""
    if isinstance(value, (list, tuple)) and value and all(isinstance(one, Mapping) and "name" in one for one in value):
        return [f"{one['name']} ({str(one.get('sha256', ''))[:12]})" for one in value]
    return value


def _errors(visit: Visit, found: RunFindings) -> list[Block]:
    """How exact its scores are: a sentence, the distribution, the layers and prompts that are worst."""
    title = "How exact its scores are"
    errors, model = found.errors, found.run.model
    if not errors.prompts:
        told = (
            "Its results were imported: no completeness errors came with them."
            if found.run.method == IMPORTED
            else f"Scores by {found.run.method} are no integrals, so they have no completeness error."
        )
        return [Text(told, "empty", title)]
    limit = f"the tolerance of {errors.limit:g}" if errors.asked else f"{errors.limit:g} (no tolerance was asked)"
    caption = (
        "Prompts by their completeness error, |Σ scores − (P(1) − P(0))| of the worst layer relative to that "
        f"difference. The limit is {limit}{'; bars of the other colour are above it' if errors.above else ''}."
    )
    blocks: list[Block] = [
        Text(f"{verdict_in_words(errors)}.", "warning" if errors.above and errors.asked else "plain", title),
        Figure("Its completeness errors", error_bars(found.distribution, errors.limit), caption),
    ]
    if errors.layers:
        rows = [{"layer": row.layer, "prompts": row.prompts, "worst": row.worst} for row in errors.layers]
        columns = [
            Column("layer", "Layer", "count", lambda row: visit.to("models", model, "layers", layer=row["layer"])),
            Column("prompts", "Prompts", "count", help="with an error above the limit in it"),
            Column("worst", "Largest error", "error"),
        ]
        blocks.append(Table("layers", f"Layers with errors above {errors.limit:g}", columns, rows, size=20))
    worst: list[Row] = [
        {"fact": row.fact, "text": row.text, "answer": row.answer, "error": row.error, "layer": row.layer}
        for row in found.worst
    ]
    columns = [
        Column("fact", "Fact", "id", lambda row: visit.to("facts", row["fact"])),
        Column("text", "Prompt", "long", lambda row: visit.to("facts", row["fact"])),
        Column("answer", "Answer"),
        Column("error", "Completeness error", "error"),
        Column("layer", "Worst layer", "count"),
    ]
    blocks.append(Table("worst", "Prompts with the largest errors", columns, worst, size=10, filters=False))
    return blocks


def _skipped(found: RunFindings) -> Table:
    return Table(
        "skipped",
        "Skipped prompts",
        [
            Column("reason", "Reason", "whole"),
            Column("words", "In words", "long"),
            Column("prompts", "Prompts", "count"),
        ],
        [
            {"reason": reason, "words": SKIP_REASONS.get(reason, reason), "prompts": count}
            for reason, count in found.skipped.items()
        ],
        empty="No prompt was skipped.",
        filters=False,
    )


def refinement(visit: Visit) -> Page:
    """One refinement: of which run, with which settings, and what it holds of each relation."""
    number = visit.number("refinement")
    every = visit.database.query.refinements()
    one = next((row for row in every if row.id == number), None)
    if one is None:
        raise NotFoundError(f"no refinement has the number {number}")
    visit.context(model=one.model, refinement=number)
    labels = visit.database.facts.labels()
    values: list[tuple[str, object, str]] = [
        ("Model", visit.link(one.model, "models", one.model), "text"),
        ("Run", visit.link(f"{one.run_id}, by {one.method}", "runs", one.run_id), "text"),
        ("Made", one.created_at, "time"),
        ("Facts", one.facts, "count"),
        ("Neurons per fact", sum(row.mean_size * row.facts for row in one.relations) / max(1, one.facts), "number"),
        ("Model version", one.version, "text"),
    ]
    columns = [
        relation_column(visit),
        Column("label", "Label", optional=True),
        Column("facts", "Attributed facts", "count", help="facts with an attributed prompt"),
        Column("with_neurons", "With neurons", "count", help="those whose refined set is not empty"),
        Column("mean_size", "Neurons per fact", "number", help="mean size of the refined sets"),
        Column("share", "Share of prompts", "share", help="that a neuron's coarse sets had to reach in the end"),
        Column("passes", "Passes", "count", help="adaptation passes until the sets had the size wanted"),
    ]
    rows = [
        {
            "relation": row.relation,
            "label": labels.get(row.relation),
            "facts": row.facts,
            "with_neurons": row.facts_with_neurons,
            "mean_size": row.mean_size,
            "share": row.share,
            "passes": row.passes,
        }
        for row in one.relations
    ]
    blocks: list[Block] = [Values("", values), *_settings(one.settings)]
    empty = "It holds no relation."
    blocks.append(Table("relations", "What it holds of each relation", columns, rows, empty=empty, size=100))
    before, after = beside([row.id for row in every], number)
    return Page(
        f"Refinement {number}",
        blocks,
        command=call("query.refinement", number),
        crumbs=[visit.link("Runs", "runs"), visit.link(f"Run {one.run_id}", "runs", one.run_id)],
        before=None if before is None else visit.link(f"Refinement {before}", "refinements", before),
        after=None if after is None else visit.link(f"Refinement {after}", "refinements", after),
        lead=f"The knowledge neurons of {one.model} that run {one.run_id} ({one.method}) gives.",
    )


def beside(numbers: Sequence[int], number: int) -> tuple[int | None, int | None]:
    """The numbers before and after one, among some in their order."""
    place = numbers.index(number) if number in numbers else None
    if place is None:
        return None, None
    return (numbers[place - 1] if place else None, numbers[place + 1] if place + 1 < len(numbers) else None)
