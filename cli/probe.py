"""`kndb probe`: experiments on the activations of knowledge neurons; each is stored."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.advice import Placeholder, call
from kndb.records.work import LOCAL, WorkEngine

from .answering import choose
from .attribute import batch_size_option
from .commands import command, group
from .options import (
    AddressOption,
    DatabaseOption,
    DeviceMapOption,
    DeviceOption,
    DtypeOption,
    EngineOption,
    FormatOption,
    GpusPerWorkerOption,
    ModelOption,
    OptionalModelOption,
    PartOption,
    RefinementMethodOption,
    RefinementOption,
    RelationsOption,
    ThreadsOption,
    WorkersOption,
    computing,
    open_existing,
)
from .output import OutputFormat, as_row, note, print_parts, print_rows, progress_bar

if TYPE_CHECKING:
    from kndb.database import Database
    from kndb.records.probes import Probe

EXPERIMENTS, STORED = "Experiment", "Look at experiments"
app = group("Experiment on the activations of knowledge neurons. Each experiment is stored.")

SCALING = ["relation", "neurons_from", "prompts_of", "facts", "prompts", "neurons"]
SCALING += ["probability_before", "probability_after", "change", "correct_before", "correct_after", "flips"]
SCALING_OF_FACT = ["fact_id", "relation", "neurons_from", "prompts_of", "neurons", "prompts"]
SCALING_OF_FACT += ["probability_before", "probability_after", "change", "correct_before", "correct_after", "flips"]
ACTIVATIONS = ["relation", "kind", "facts", "texts", "mean_activation"]
ACTIVATIONS_OF_FACT = ["fact_id", "relation", "kind", "texts", "mean_activation"]
TEXTS = ["fact_id", "rank", "kind", "activation", "text"]
PROBES = ["id", "model", "version", "kind", "refinement", "settings", "created_at"]

_BEFORE_AND_AFTER = ["neurons_from", "prompts_of", "probability_before", "probability_after", "change"]
SHORT = {
    "probe": ["id", "model", "version", "kind", "refinement", "created_at"],
    "summary": ["relation", *_BEFORE_AND_AFTER, "flips"],
    "fact": ["fact_id", "relation", *_BEFORE_AND_AFTER],
    "facts": ["fact_id", "relation", *_BEFORE_AND_AFTER],
}
"""The columns of tables without --wide, by the part of the answer; of activations, only that of `probe` is shorter."""

LEFT_OUT = {
    "facts_without_prompts": "the model can be asked none of their prompts with an answer of one token",
    "facts_without_neurons": "they have no knowledge neurons in the refinement",
    "facts_unknown": "the store does not have them",
}
"""Facts that an experiment's settings count as left out, and why."""

BaselineOption = Annotated[
    int | None,
    typer.Option(
        "--baseline",
        metavar="ID",
        help="Compare with this refinement of the activation baseline. Default: the one of this model and version, "
        "chosen likewise.",
        show_default=False,
    ),
]
OthersOption = Annotated[
    int, typer.Option("--others", help="Ask so many prompts of other relations' facts for each fact, drawn at random.")
]
FactsOption = Annotated[
    int | None,
    typer.Option(
        "--facts", help="Probe so many facts of each relation, drawn at random. Default: all.", show_default=False
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Random seed.")]
VersionOption = Annotated[
    str, typer.Option("--version", help="Use this version: base, current, a version id, or a snapshot's name.")
]
BatchSizeOption = Annotated[
    str, typer.Option("--batch-size", help="Compute so many prompts at once. auto: as many as fit in memory.")
]
ProbeArgument = Annotated[int, typer.Argument(metavar="PROBE", help="The experiment's number; see: kndb probe list.")]


@command(app, "suppress", "Silence facts' knowledge neurons.", EXPERIMENTS, table=True)
def suppress(
    model: ModelOption,
    relation: RelationsOption = None,
    factor: Annotated[
        float, typer.Option("--factor", help="Multiply activations by this, from 0 (silence) to below 1.")
    ] = 0.0,
    refinement: RefinementOption = None,
    method: RefinementMethodOption = None,
    baseline: BaselineOption = None,
    others: OthersOption = 20,
    facts: FactsOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    device_map: DeviceMapOption = None,
    dtype: DtypeOption = "float32",
    version: VersionOption = "current",
    batch_size: BatchSizeOption = "auto",
    threads: ThreadsOption = None,
    engine: EngineOption = LOCAL,
    workers: WorkersOption = None,
    address: AddressOption = None,
    gpus_per_worker: GpusPerWorkerOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Silence facts' knowledge neurons, and see how much less probable their answers get.

    Example: kndb probe suppress --model lab-bert --relation P176
    """
    work = WorkEngine(engine, workers, address, gpus_per_worker, threads)
    request = {"relations": relation or [], "factor": factor, "baseline": baseline, "others": others, "facts": facts}
    settings = {"version": version, "seed": seed, "dtype": dtype, "device": device, "device_map": device_map}
    settings["batch_size"] = batch_size_option(batch_size)
    _scale({"kind": "suppress", "model": model, **request}, settings, refinement, method, work, db, output)


@command(app, "amplify", "Strengthen facts' knowledge neurons.", EXPERIMENTS, table=True)
def amplify(
    model: ModelOption,
    relation: RelationsOption = None,
    factor: Annotated[float, typer.Option("--factor", help="Multiply activations by this, above 1.")] = 2.0,
    refinement: RefinementOption = None,
    method: RefinementMethodOption = None,
    baseline: BaselineOption = None,
    others: OthersOption = 20,
    facts: FactsOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    device_map: DeviceMapOption = None,
    dtype: DtypeOption = "float32",
    version: VersionOption = "current",
    batch_size: BatchSizeOption = "auto",
    threads: ThreadsOption = None,
    engine: EngineOption = LOCAL,
    workers: WorkersOption = None,
    address: AddressOption = None,
    gpus_per_worker: GpusPerWorkerOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Strengthen facts' knowledge neurons, and see how much more probable their answers get.

    Example: kndb probe amplify --model lab-bert --relation P176
    """
    work = WorkEngine(engine, workers, address, gpus_per_worker, threads)
    request = {"relations": relation or [], "factor": factor, "baseline": baseline, "others": others, "facts": facts}
    settings = {"version": version, "seed": seed, "dtype": dtype, "device": device, "device_map": device_map}
    settings["batch_size"] = batch_size_option(batch_size)
    _scale({"kind": "amplify", "model": model, **request}, settings, refinement, method, work, db, output)


@command(app, "activation", "Read how active knowledge neurons are in texts.", EXPERIMENTS, table=True)
def activation(
    model: ModelOption,
    texts: Annotated[
        list[Path], typer.Option("--texts", metavar="FILE", help="Read texts about facts from this file; repeatable.")
    ],
    input_format: Annotated[
        str, typer.Option("--input-format", help="Read the files of texts as jsonl or bags; auto finds out which.")
    ] = "auto",
    pairs: Annotated[
        Path | None,
        typer.Option(
            "--pairs",
            metavar="FILE",
            help="Read from this file which facts the bags are of. Default: query_pairs.json beside them or in the "
            "folder above.",
            show_default=False,
        ),
    ] = None,
    refinement: RefinementOption = None,
    method: RefinementMethodOption = None,
    keep: Annotated[
        int,
        typer.Option("--keep", help="Keep so many texts of the highest and of the lowest activation for each fact."),
    ] = 3,
    seed: Annotated[int, typer.Option("--seed", help="Random seed.")] = 0,
    device: DeviceOption = "auto",
    device_map: DeviceMapOption = None,
    dtype: DtypeOption = "float32",
    version: VersionOption = "current",
    threads: ThreadsOption = None,
    engine: EngineOption = LOCAL,
    workers: WorkersOption = None,
    address: AddressOption = None,
    gpus_per_worker: GpusPerWorkerOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Read the activations of facts' knowledge neurons over texts that name head and tail, the head, or neither.

    Example: kndb probe activation --model lab-bert --texts texts.jsonl
    """
    started, title = time.monotonic(), f"Reading {model}"
    work = WorkEngine(engine, workers, address, gpus_per_worker, threads)
    with open_existing(db) as database, computing(work.own_threads), progress_bar(title, "texts") as tick:
        from kndb import ProbeSettings, ReadingRequest

        request = ReadingRequest(model, texts, input_format, pairs, keep)
        chosen = choose(database, refinement, method, model)
        settings = ProbeSettings(chosen, version, seed, dtype, device, device_map=device_map)
        probe = database.probes.run_reading(request, settings, tick, engine=work)
        rows = [_all(as_row(row)) for row in database.probes.activation_summary(probe.id)]
    _report(probe, time.monotonic() - started)
    print_rows(rows, ACTIVATIONS, output)


@command(app, "list", "List the experiments.", STORED, table=True)
def list_probes(
    model: OptionalModelOption = None, db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """List the experiments.

    Example: kndb probe list
    """
    with open_existing(db) as database:
        found = database.probes.all(model)
    if not found:
        start = call("probes.scale", kind="suppress", model=model or Placeholder("NAME"))
        note(f"There is no experiment yet; start one with: {start}")
    print_rows([as_row(probe) for probe in found], PROBES, output, short=SHORT["probe"])


@command(app, "show", "Show what an experiment found.", STORED, table=True)
def show(
    probe: ProbeArgument,
    relation: RelationsOption = None,
    fact: Annotated[
        int | None,
        typer.Option(
            "--fact", metavar="ID", help="Show what was found for this fact, not the summary.", show_default=False
        ),
    ] = None,
    by_fact: Annotated[
        bool, typer.Option("--by-fact", help="Show what was found for every fact, not the summary.")
    ] = False,
    part: PartOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show an experiment: its settings and its summary, or what it found fact by fact.

    Example: kndb probe show 1
    """
    with open_existing(db) as database:
        found = database.probes.get(probe)
        parts: dict[str, Any] = {"probe": ([as_row(found)], PROBES)}
        if fact is not None or by_fact:
            parts |= _by_fact(database, found, relation or [], fact)
        else:
            parts |= _summary(database, found, relation or [])
    if fact is not None and not parts["fact"][0]:
        note(f"Fact {fact} is not in probe {probe}: it was not drawn, is of no chosen relation, or was left out.")
    print_parts(parts, output, part, short=_short(found))


def _short(probe: Probe) -> Mapping[str, list[str]]:
    return {"probe": SHORT["probe"]} if probe.kind == "activation" else SHORT


def _scale(
    request: Mapping[str, Any],
    settings: Mapping[str, Any],
    refinement: int | None,
    method: str | None,
    work: WorkEngine,
    location: str | None,
    output: OutputFormat,
) -> None:
    started, title = time.monotonic(), f"Probing {request['model']}"
    with open_existing(location) as database, computing(work.own_threads), progress_bar(title, "facts") as tick:
        from kndb import ProbeSettings, ScalingRequest

        chosen = choose(database, refinement, method, request["model"], relations=request["relations"])
        probe = database.probes.run_scaling(
            ScalingRequest(**request), ProbeSettings(chosen, **settings), tick, engine=work
        )
        rows = [_all(as_row(row)) for row in database.probes.summary(probe.id)]
    _report(probe, time.monotonic() - started)
    print_rows(rows, SCALING, output, short=SHORT["summary"])


def _summary(database: Database, probe: Probe, relations: list[str]) -> dict[str, Any]:
    if probe.kind == "activation":
        means = database.probes.activation_summary(probe.id, relations)
        return {"summary": ([_all(as_row(row)) for row in means], ACTIVATIONS)}
    return {"summary": ([_all(as_row(row)) for row in database.probes.summary(probe.id, relations)], SCALING)}


def _by_fact(database: Database, probe: Probe, relations: list[str], fact: int | None) -> dict[str, Any]:
    """What was found for one fact, or for each of some relations (all, if none is named)."""
    name = "facts" if fact is None else "fact"
    chosen = relations if fact is None else [database.facts.get(fact).relation]
    if probe.kind == "activation":
        means = [row for row in database.probes.activations(probe.id, chosen) if fact in (None, row.fact_id)]
        kept = {row.fact_id for row in means}
        texts = [row for row in database.probes.texts(probe.id, fact) if row.fact_id in kept]
        return {
            name: ([as_row(row) for row in means], ACTIVATIONS_OF_FACT),
            "texts": ([as_row(row) for row in texts], TEXTS),
        }
    rows = [row for row in database.probes.facts(probe.id, chosen) if fact in (None, row.fact_id)]
    return {name: ([{**as_row(row), "change": row.change} for row in rows], SCALING_OF_FACT)}


def _all(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "relation": "all" if row["relation"] is None else row["relation"]}


def _report(probe: Probe, seconds: float) -> None:
    """Notes the experiment's number, and what was left out of it."""
    from kndb.database.drawings import refinement_of_probe
    from kndb.database.probes.texts import TEXT_SKIP_REASONS

    settings: Mapping[str, Any] = probe.settings
    for what in ("prompts", "texts"):
        for reason, count in (settings.get(f"{what}_skipped") or {}).items():
            note(f"{what.capitalize()} skipped: {count:,} ({TEXT_SKIP_REASONS.get(reason, reason)}).")
    for key, why in LEFT_OUT.items():
        if settings.get(key):
            note(f"Facts left out: {settings[key]:,} ({why}).")
    for name in ("refinement", "baseline"):
        seen = settings.get(f"{name}_version")
        if seen is not None and seen != probe.version:
            note(f"{name.capitalize()} {settings[name]} is of version {seen}; probed was version {probe.version}.")
    if probe.kind != "activation" and settings["baseline"] is None:
        make = call("attribution.run", model=probe.model, method="activation", relations=settings.get("relations"))
        note(
            "Without the activation baseline: there is no refinement of it for this version. Make one with: "
            f"{make}, then: {call('attribution.refine', run=Placeholder('ID'))}"
        )
    note(f"Probe {probe.id} ({probe.kind}) of {refinement_of_probe(probe)}, in {seconds:.1f} s.")
