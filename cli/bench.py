"""`kndb bench`: how fast and how exact kndb is on this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from kndb.errors import UsageError
from kndb.records.figures import PLAIN, FigureOptions

from .attribute import batch_size_option
from .commands import command, group
from .option_groups import require_plot, takes_figure_options
from .options import DeviceOption, DtypeOption, FormatOption, RelationsOption
from .output import OutputFormat, note, print_record, print_rows, progress_bar

app = group("Measure how fast and how exact kndb is on this machine.")


@command(app, "attribution", "Measure how fast and exact attribution is.")
def attribution(
    family: Annotated[
        str,
        typer.Option("--family", help="Measure a model of this family: bert, roberta, gpt2, gpt_neox, llama or t5."),
    ] = "bert",
    size: Annotated[
        str, typer.Option("--size", help="Measure a model of this size: tiny, base or 7b (llama only).")
    ] = "base",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Take random weights, as without --checkpoint.")
    ] = False,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", metavar="PATH", help="Measure this checkpoint, not a family and size.")
    ] = None,
    prompts: Annotated[int, typer.Option("--prompts", help="Attribute so many prompts.")] = 64,
    tokens: Annotated[int, typer.Option("--tokens", help="Make each prompt so many tokens long.")] = 8,
    method: Annotated[
        str, typer.Option("--method", help="Compute this kind of score; see: kndb methods.")
    ] = "integrated-gradients",
    quadrature: Annotated[
        str, typer.Option("--quadrature", help="Integrate by this rule, as kndb attribute does.")
    ] = "bisection",
    steps: Annotated[int | None, typer.Option("--steps", help="Use so many nodes of a fixed rule.")] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance", help="Refine the nodes of bisection until each integral has at most this relative error."
        ),
    ] = 1e-3,
    dtype: DtypeOption = "float32",
    device: DeviceOption = "auto",
    batch_size: Annotated[
        str, typer.Option("--batch-size", help="Compute so many prompts at once. auto: as many as fit in memory.")
    ] = "auto",
    baseline_prompts: Annotated[
        int, typer.Option("--baseline-prompts", help="Let the baseline attribute so many prompts; 0 leaves it out.")
    ] = 1,
    store: Annotated[bool, typer.Option("--store", help="Write the results into a temporary database too.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Random seed.")] = 0,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Write settings and measures to this file, as JSON.")
    ] = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Measure the attribution engine beside a large matrix product and the way published tools work.

    Example: kndb bench attribution --family gpt2 --size tiny --prompts 32 --baseline-prompts 0
    """
    from kndb.database.bench import bench_attribution, save_benchmark

    if random_weights and checkpoint is not None:
        raise UsageError("--random-weights and --checkpoint exclude each other; give one of them")
    settings: dict[str, Any] = {
        "family": family,
        "size": size,
        "checkpoint": checkpoint,
        "prompts": prompts,
        "tokens": tokens,
        "method": method,
        "quadrature": quadrature,
        "steps": steps,
        "tolerance": tolerance,
        "dtype": dtype,
        "device": device,
        "batch_size": batch_size_option(batch_size),
        "baseline_prompts": baseline_prompts,
        "to_store": store,
        "seed": seed,
    }
    with progress_bar("Measuring") as tick:
        found = bench_attribution(**settings, progress=tick)
    exact = asdict(found)
    record = {name: _short(value) for name, value in exact.items()} if output is OutputFormat.TABLE else exact
    if save is not None:
        save_benchmark(save, settings, found)
    print_record(record, output)


LOCALISATION_COLUMNS: tuple[str, ...] = (
    "method",
    "facts",
    "neurons_per_fact",
    "precision",
    "precision_by_chance",
    "recall",
    "recall_by_chance",
)
SHARE_COLUMNS = ("own", "relation", "block", "foreign", "free")


@command(app, "localisation", "Score methods against planted neurons.")
@app.command()
@takes_figure_options
def localisation(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="NAME-or-DIR",
            help="Score this model: lab-bert, or a folder from kndb lab train --planted.",
        ),
    ] = "lab-bert",
    facts: Annotated[
        list[Path] | None,
        typer.Option(
            "--facts",
            metavar="PATH",
            help="Use this fact list, which the model was planted with; repeatable. Default: kndb's own.",
            show_default=False,
        ),
    ] = None,
    relation: RelationsOption = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="METHOD",
            help="Try only this kind of score; repeatable. Default: all.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the scores too, into this .png, .svg or .pdf file."),
    ] = None,
    figure: FigureOptions = PLAIN,
    wide: Annotated[
        bool, typer.Option("--wide", help="Show whose neurons the refined sets hold, too; JSON and CSV always do.")
    ] = False,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Score each method's knowledge neurons against the neurons in which a lab model's facts were planted.

    Example: kndb bench localisation --model lab-bert --relation P36 --method activation --plot found.svg
    """
    from kndb.database.localisation import bench_localisation, check_plot, plot_localisation

    require_plot(plot, figure)
    if plot is not None:
        check_plot(plot)
    with progress_bar("Attributing") as tick:
        scores = bench_localisation(
            model, facts=facts or [], relations=relation or [], methods=method or [], progress=tick
        )
    if plot is not None:
        plot_localisation(scores, plot, Path(model).name, figure)
        note(f"Wrote {plot}")
    columns = LOCALISATION_COLUMNS
    if wide or output is not OutputFormat.TABLE:
        columns = (*columns[:3], "planted_per_fact", *columns[3:], *SHARE_COLUMNS)
    print_rows([asdict(score) for score in scores], columns, output)


def _short(value: float | int | None) -> float | int | None:
    return float(f"{value:.4g}") if isinstance(value, float) else value
