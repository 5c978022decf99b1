"""`kndb attribute` and `kndb refine`: from prompts to scores to knowledge neurons."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.errors import UsageError
from kndb.records.models import LAB_MODELS, Neuron

from .options import (
    DatabaseOption,
    DeviceOption,
    FormatOption,
    ModelOption,
    OptionalModelOption,
    RelationsOption,
    ThreadsOption,
    computing,
    open_existing,
    open_or_create,
)
from .output import OutputFormat, as_row, note, print_record, print_rows, print_text, progress_bar

if TYPE_CHECKING:
    from kndb.database.attribution import AttributionReport
    from kndb.records.attribution import KnowledgeNeuron

TOP = 10
"""Neurons that are shown for free prompts."""


def attribute(
    model: ModelOption,
    relation: RelationsOption = None,
    facts: Annotated[
        int | None,
        typer.Option("--facts", metavar="N", help="Only the first N facts, in the store's order.", show_default=False),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", metavar="N", help="Only N facts, drawn at random by --seed.", show_default=False),
    ] = None,
    subject: Annotated[
        list[str] | None,
        typer.Option(
            "--subject",
            metavar="TEXT",
            help="Only facts of this subject, its exact text; repeatable.",
            show_default=False,
        ),
    ] = None,
    fact: Annotated[
        list[int] | None,
        typer.Option("--fact", metavar="FACT", help="Only the fact of this number; repeatable.", show_default=False),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt",
            metavar="TEXT",
            help="In place of stored facts, a sentence with one [Y] or [MASK]; repeatable: all with the same --answer.",
            show_default=False,
        ),
    ] = None,
    answer: Annotated[
        str | None, typer.Option("--answer", metavar="TEXT", help="The answer to --prompt.", show_default=False)
    ] = None,
    method: Annotated[
        str, typer.Option("--method", help="The kind of score; `kndb methods` lists them.")
    ] = "integrated-gradients",
    target: Annotated[
        str,
        typer.Option(
            "--target",
            metavar="gold|predicted|TEXT",
            help="The answer that scores are for: the fact's, the model's own first one, or a text.",
        ),
    ] = "gold",
    quadrature: Annotated[
        str,
        typer.Option(
            "--quadrature",
            help="bisection; or lobatto, radau, gauss-legendre, riemann-left, riemann-right, linspace.",
        ),
    ] = "bisection",
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", help="The number of nodes of a fixed rule. Default: 20 for the Riemann sums and linspace."
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", help="Relative error wanted of each layer's integral, where nodes are adaptive."),
    ] = 1e-3,
    most_evaluations: Annotated[
        int | None,
        typer.Option(
            "--most-evaluations",
            metavar="N",
            help="Gradient evaluations of a prompt and layer at most, where nodes are adaptive.",
            show_default=False,
        ),
    ] = None,
    floor: Annotated[
        float, typer.Option("--floor", help="Keep scores of at least this share of a prompt's largest.")
    ] = 0.1,
    negative: Annotated[
        bool, typer.Option("--negative/--no-negative", help="Keep strongly negative scores too.")
    ] = False,
    known_only: Annotated[
        bool, typer.Option("--known-only", help="Leave out prompts that the model answers otherwise.")
    ] = False,
    held_out: Annotated[
        bool, typer.Option("--held-out/--no-held-out", help="Attribute prompts of held-out templates too.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of --sample and of the method random.")] = 0,
    dtype: Annotated[
        str, typer.Option("--dtype", help="What is computed in: float32, tf32, bfloat16 or float64.")
    ] = "float32",
    device: DeviceOption = "auto",
    batch_size: Annotated[str, typer.Option("--batch-size", help="Prompts at once; auto goes by the memory.")] = "auto",
    threads: ThreadsOption = None,
    version: Annotated[
        str, typer.Option("--version", help="A version of the model: an id, a snapshot's name, base or current.")
    ] = "current",
    run: Annotated[
        int | None,
        typer.Option(
            "--run", metavar="ID", help="Go on with this run; refused if version or settings differ from its own."
        ),
    ] = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Attribute the prompts that have no result yet; killed and run again, it goes on where it stopped.

    Example: kndb attribute --model lab-bert --relation P176
    """
    # A lab model's free prompts need nothing in the store.
    open_database = open_or_create if prompt and model in LAB_MODELS else open_existing
    with open_database(db) as database, computing(threads) as used, progress_bar(f"Attributing {model}") as tick:
        report = database.attribution.run(
            model,
            relations=relation or [],
            facts=facts,
            sample=sample,
            subjects=subject or [],
            fact_ids=fact or [],
            prompts=prompt or [],
            answer=answer,
            method=method,
            target=target,
            quadrature=quadrature,
            steps=steps,
            tolerance=tolerance,
            most_evaluations=most_evaluations,
            floor=floor,
            negative=negative,
            known_only=known_only,
            held_out=held_out,
            seed=seed,
            dtype=dtype,
            device=device,
            batch_size=batch_size_option(batch_size),
            version=version,
            run=run,
            progress=tick,
        )
        number = report.free_fact
        largest = None if number is None else database.attribution.top_scores(report.run.id, number, top=TOP)
    from kndb.models.prompting import SKIP_REASONS

    for reason, count in report.skipped.items():
        note(f"Skipped {count:,} prompts: {SKIP_REASONS.get(reason, reason)}.")
    if report.unfinished:
        left = ", ".join(f"{relation} ({count:,} prompts)" for relation, count in report.unfinished.items())
        note(f"Run {report.run.id} is not complete: an earlier command did not finish {left}. Attribute these too.")
    if report.held_out:
        note(f"Left out {report.held_out:,} prompts of held-out templates (--held-out takes them in).")
    limit = facts or sample
    if limit is not None and report.facts < limit:
        note(f"Only {report.facts:,} facts to choose from; all of them were taken.")
    _print_report(report, used, largest, output)
    _warn_of_errors(report)
    if report.free_fact is not None:
        place = "" if db is None else f" --db {shlex.quote(db)}"
        note(
            f"Stored as fact {report.free_fact}. Its knowledge neurons: kndb refine --run {report.run.id}{place}, "
            f"then: kndb query fact {report.free_fact}{place}"
        )


def _print_report(
    report: AttributionReport, threads: int, largest: list[KnowledgeNeuron] | None, output: OutputFormat
) -> None:
    record: dict[str, Any] = {
        "run": report.run.id,
        "model": report.run.model,
        "version": report.run.version,
        "device": report.device,
        "threads": threads,
        "facts": report.facts,
        "attributed": report.attributed,
        "already_done": report.already_done,
        "skipped": sum(report.skipped.values()),
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
        int | None, typer.Option("--run", metavar="ID", help="Which run. Default: the one finished last.")
    ] = None,
    model: OptionalModelOption = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Share of a prompt's largest score that its coarse set asks for. Default: 0.2; 0.5 for activations.",
        ),
    ] = None,
    share: Annotated[
        float, typer.Option("--share", help="Share of a fact's prompts whose coarse sets must hold a neuron.")
    ] = 0.7,
    min_prompts: Annotated[int, typer.Option("--min-prompts", help="The least number of those prompts.")] = 3,
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt/--no-adapt", help="Move the share per relation until sets have 2 to 5 neurons on average."
        ),
    ] = True,
    negative: Annotated[
        bool, typer.Option("--negative", help="Refine the lowest scores: neurons that speak against the answer.")
    ] = False,
    allow_incomplete: Annotated[
        bool, typer.Option("--allow-incomplete", help="Refine a run that was interrupted.")
    ] = False,
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
        )
        _, mean = database.query.neuron_counts(refinement.id)
        errors = database.attribution.errors(refinement.run_id)
    note(f"Refinement {refinement.id} of run {refinement.run_id}: {mean:.2f} neurons per fact.")
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
    from kndb.database.attribution import methods as all_methods

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
        raise UsageError(f"found batch size {text!r}; expected auto or a number from 1")
    return int(text)
