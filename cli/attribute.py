"""`kndb attribute` and `kndb refine`: from prompts to scores to knowledge neurons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.advice import call, option
from kndb.errors import UsageError
from kndb.records.models import LAB_MODELS, Neuron
from kndb.records.skip_reasons import skipped_in_words
from kndb.records.work import LOCAL, WorkEngine

from .answering import note_who_answers
from .failures import require_all_done
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
    RelationsOption,
    ThreadsOption,
    WorkersOption,
    computing,
    open_existing,
    open_or_create,
)
from .output import OutputFormat, as_row, note, print_record, print_rows, print_text, progress_bar

if TYPE_CHECKING:
    from kndb.records.attribution import AttributionReport, KnowledgeNeuron

TOP = 10
"""Neurons that are shown for free prompts."""


def attribute(
    model: ModelOption,
    relation: RelationsOption = None,
    facts: Annotated[
        int | None,
        typer.Option(
            "--facts",
            metavar="N",
            help="Attribute only the first N facts, in the store's order. Default: all.",
            show_default=False,
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample",
            metavar="N",
            help="Attribute only N facts, drawn at random by --seed. Default: all.",
            show_default=False,
        ),
    ] = None,
    subject: Annotated[
        list[str] | None,
        typer.Option(
            "--subject",
            metavar="TEXT",
            help="Attribute only facts of this subject, its exact text; repeatable. Default: all.",
            show_default=False,
        ),
    ] = None,
    fact: Annotated[
        list[int] | None,
        typer.Option(
            "--fact",
            metavar="FACT",
            help="Attribute only the fact of this number; repeatable. Default: all.",
            show_default=False,
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt",
            metavar="TEXT",
            help="Attribute this sentence with one [Y] or [MASK], not stored facts; repeatable, with one --answer "
            "for all.",
            show_default=False,
        ),
    ] = None,
    answer: Annotated[
        str | None,
        typer.Option("--answer", metavar="TEXT", help="Attribute this answer to --prompt.", show_default=False),
    ] = None,
    method: Annotated[
        str, typer.Option("--method", help="Compute this kind of score; see: kndb methods.")
    ] = "integrated-gradients",
    target: Annotated[
        str,
        typer.Option(
            "--target",
            metavar="gold|predicted|TEXT",
            help="Score neurons for this answer: the fact's own (gold), the model's most probable (predicted), or "
            "a text.",
        ),
    ] = "gold",
    quadrature: Annotated[
        str,
        typer.Option(
            "--quadrature",
            help="Integrate by this rule: bisection, which adapts its nodes; or lobatto, radau, gauss-legendre, "
            "riemann-left, riemann-right or linspace, with fixed ones.",
        ),
    ] = "bisection",
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", help="Use so many nodes of a fixed rule. Default: 20 for the Riemann sums and linspace."
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance",
            help="Refine the nodes of bisection until each layer's integral has at most this relative error.",
        ),
    ] = 1e-3,
    most_evaluations: Annotated[
        int | None,
        typer.Option(
            "--most-evaluations",
            metavar="N",
            help="Stop bisection after so many gradient evaluations of a prompt and layer. Default: 256.",
            show_default=False,
        ),
    ] = None,
    floor: Annotated[
        float, typer.Option("--floor", help="Store scores of at least this share (0 to 1) of a prompt's largest.")
    ] = 0.1,
    negative: Annotated[
        bool, typer.Option("--negative/--no-negative", help="Store strongly negative scores too.")
    ] = False,
    known_only: Annotated[
        bool, typer.Option("--known-only", help="Skip prompts that the model answers incorrectly.")
    ] = False,
    held_out: Annotated[
        bool, typer.Option("--held-out/--no-held-out", help="Attribute prompts of held-out templates too.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of --sample and of the method random.")] = 0,
    dtype: DtypeOption = "float32",
    device: DeviceOption = "auto",
    device_map: DeviceMapOption = None,
    batch_size: Annotated[
        str, typer.Option("--batch-size", help="Compute so many prompts at once. auto: as many as fit in memory.")
    ] = "auto",
    threads: ThreadsOption = None,
    engine: EngineOption = LOCAL,
    workers: WorkersOption = None,
    address: AddressOption = None,
    gpus_per_worker: GpusPerWorkerOption = None,
    version: Annotated[
        str, typer.Option("--version", help="Use this version: base, current, a version id, or a snapshot's name.")
    ] = "current",
    run: Annotated[
        int | None,
        typer.Option(
            "--run",
            metavar="ID",
            help="Resume this run; refused if its version or settings are others than asked for. Default: the run "
            "of that version and settings, else a new one.",
        ),
    ] = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Attribute prompts that have no result yet. It is safe to interrupt: run it again to resume.

    Example: kndb attribute --model lab-bert --relation P176
    """
    work = WorkEngine(engine, workers, address, gpus_per_worker, threads)
    # A lab model's free prompts need nothing in the store.
    open_database = open_or_create if prompt and model in LAB_MODELS else open_existing
    title = f"Attributing {model}"
    with open_database(db) as database, computing(work.own_threads) as used, progress_bar(title) as tick:
        from kndb import AttributionRequest, AttributionSettings, Quadrature

        request = AttributionRequest(
            model=model,
            version=version,
            relations=relation or [],
            facts=facts,
            sample=sample,
            subjects=subject or [],
            fact_ids=fact or [],
            prompts=prompt or [],
            answer=answer,
            target=target,
            held_out=held_out,
            run=run,
        )
        settings = AttributionSettings(
            quadrature=Quadrature.choose(quadrature, steps, tolerance, most_evaluations),
            floor=floor,
            known_only=known_only,
            method=method,
            negative=negative,
            seed=seed,
            dtype=dtype,
            device=device,
            batch_size=batch_size_option(batch_size),
            device_map=device_map,
        )
        report = database.attribution.run_request(request, settings, tick, engine=work)
        number = report.free_fact
        largest = None if number is None else database.attribution.top_scores(report.run.id, number, top=TOP)
    for said in skipped_in_words(report.skipped):
        note(said)
    if report.unfinished:
        left = ", ".join(f"{relation} ({count:,} prompts)" for relation, count in report.unfinished.items())
        note(f"Run {report.run.id} is not complete: an earlier command did not finish {left}. Attribute these too.")
    if report.held_out:
        left = "1 prompt" if report.held_out == 1 else f"{report.held_out:,} prompts"
        note(f"Left out {left} of held-out templates; --held-out attributes them too.")
    limit = facts or sample
    if limit is not None and report.facts < limit:
        note(f"Only {report.facts:,} facts to choose from; all of them were taken.")
    _print_report(report, used, largest, output)
    _warn_of_errors(report)
    if report.free_fact is not None:
        refine_it = call("attribution.refine", run=report.run.id)
        note(
            f"Stored as fact {report.free_fact}. Its knowledge neurons: {refine_it}, then: "
            f"{call('query.fact', report.free_fact)}"
        )
    require_all_done(report.failed, "prompt")


def _print_report(
    report: AttributionReport, threads: int, largest: list[KnowledgeNeuron] | None, output: OutputFormat
) -> None:
    record: dict[str, Any] = {
        "run": report.run.id,
        "model": report.run.model,
        "version": report.run.version,
        "device": report.device,
        **({"workers": report.workers} if report.workers else {}),
        "threads": report.threads or threads,
        "facts": report.facts,
        "attributed": report.attributed,
        "already_done": report.already_done,
        "skipped": sum(report.skipped.values()),
        **({"failed": len(report.failed)} if report.failed else {}),
        "seconds": round(report.seconds, 2),
        "seconds_writing": round(report.seconds_writing, 2),
        "prompts_per_second": report.rate and round(report.rate, 1),
        "known_answers": report.trust["correct"],
        "evaluations_per_prompt": report.trust["evaluations"],
        "completeness_error_mean": report.trust["completeness_error"],
        "completeness_error_max": report.trust["completeness_error_max"],
        "above_tolerance": report.errors.above if report.errors.prompts else None,
    }
    if largest is None:
        print_record(record, output)
        return
    record["fact"] = report.free_fact
    rows = [
        {"neuron": str(Neuron(one.layer, one.neuron)), "prompts": one.prompts, "mean_score": one.mean_score}
        for one in largest
    ]
    if output is OutputFormat.JSON:
        record["largest_scores"] = rows
    print_record(record, output)
    if output is OutputFormat.TABLE and rows:
        print_text("\nLargest scores", strong=True)
        print_rows(rows, ["neuron", "prompts", "mean_score"], output)


def _warn_of_errors(report: AttributionReport) -> None:
    """Says how many prompts of the run are less exact than was asked for, and what to do."""
    from kndb.database.error_words import errors_in_words, remedies

    said = errors_in_words(report.errors)
    if said is None:
        return
    if report.errors.asked:
        note(f"Warning: {said}. {remedies(report.errors, report.run.settings)}.")
    else:
        note(f"{said}.")


def refine(
    run: Annotated[
        int | None,
        typer.Option(
            "--run", metavar="ID", help="Refine this run; see: kndb query runs. Default: the one finished last."
        ),
    ] = None,
    model: OptionalModelOption = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Put neurons into a prompt's coarse set from this share (0 to 1) of its largest score. Default: "
            "0.2; 0.5 for activations.",
        ),
    ] = None,
    share: Annotated[
        float,
        typer.Option(
            "--share", help="Keep neurons that are in the coarse sets of this share (0 to 1) of a fact's prompts."
        ),
    ] = 0.7,
    min_prompts: Annotated[
        int, typer.Option("--min-prompts", help="Ask for at least so many of a fact's prompts.")
    ] = 3,
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt/--no-adapt", help="Move --share, relation by relation, until facts have 2 to 5 neurons on average."
        ),
    ] = True,
    negative: Annotated[
        bool, typer.Option("--negative", help="Refine the lowest scores: neurons that work against the answer.")
    ] = False,
    allow_incomplete: Annotated[
        bool, typer.Option("--allow-incomplete", help="Refine a run even if it was interrupted.")
    ] = False,
    relation: RelationsOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Turn a run's scores into knowledge neurons: one row per relation.

    Example: kndb refine --run 1 --threshold 0.2 --share 0.7
    """
    with open_existing(db) as database:
        refinement = database.attribution.refine(
            run,
            model=model,
            threshold=threshold,
            share=share,
            min_prompts=min_prompts,
            adapt=adapt,
            negative=negative,
            allow_incomplete=allow_incomplete,
            relations=relation or (),
        )
        _, mean = database.query.neuron_counts(refinement)
        errors = database.attribution.errors(refinement.run_id)
        note(f"Made {refinement.title}: {mean:.2f} neurons per fact.")
        note_who_answers(database, refinement)
    from kndb.database.error_words import errors_in_words

    said = errors_in_words(errors)
    if said is not None:
        share = 100 * errors.facts_above / errors.facts
        note(
            f"{'Warning: ' if errors.asked else ''}{said}. {errors.facts_above:,} of {errors.facts:,} facts "
            f"({share:.1f} %) have such prompts."
        )
    rows = [{"refinement": refinement.id, **as_row(outcome)} for outcome in refinement.relations]
    columns = ["refinement", "relation", "share", "passes", "facts", "facts_with_neurons", "mean_size"]
    print_rows(rows, columns, output)


def methods(output: FormatOption = OutputFormat.TABLE) -> None:
    """List the methods of attribution: what each costs and where it comes from.

    Example: kndb methods
    """
    from kndb.database.attribution.commands import methods as all_methods

    rows = [
        {
            "method": method.name,
            "cost_per_prompt": method.cost,
            "source": method.source,
            "threshold": method.threshold,
        }
        for method in all_methods()
    ]
    print_rows(rows, ["method", "cost_per_prompt", "source", "threshold"], output)


def batch_size_option(text: str) -> int | None:
    """The number that a --batch-size names; None for auto."""
    if text == "auto":
        return None
    if not text.isdecimal():
        raise UsageError(f"{option('batch_size')} must be auto or a number from 1 (got {text!r})")
    return int(text)
