"""`kndb bench`: how fast and how exact kndb is on this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from kndb.errors import UsageError

from .attribute import batch_size_option
from .options import DeviceOption, FormatOption, RelationsOption
from .output import OutputFormat, note, print_record, print_rows, progress_bar

app = typer.Typer(help="Measure kndb on this machine.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure kndb on this machine."""


@app.command()
def attribution(
    family: Annotated[str, typer.Option("--family", help="bert, roberta, gpt2, gpt_neox, llama or t5.")] = "bert",
    size: Annotated[str, typer.Option("--size", help="tiny, base or 7b (llama).")] = "base",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Take random weights: the default without --checkpoint.")
    ] = False,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", metavar="PATH", help="A checkpoint in place of family and size.")
    ] = None,
    prompts: Annotated[int, typer.Option("--prompts", help="How many prompts.")] = 64,
    tokens: Annotated[int, typer.Option("--tokens", help="The length of each prompt.")] = 8,
    method: Annotated[str, typer.Option("--method", help="The kind of score.")] = "integrated-gradients",
    quadrature: Annotated[str, typer.Option("--quadrature", help="The integration rule.")] = "bisection",
    steps: Annotated[int | None, typer.Option("--steps", help="A fixed number of nodes.")] = None,
    tolerance: Annotated[float, typer.Option("--tolerance", help="Error wanted of each integral.")] = 1e-3,
    dtype: Annotated[str, typer.Option("--dtype", help="float32, tf32, bfloat16 or float64.")] = "float32",
    device: DeviceOption = "auto",
    batch_size: Annotated[str, typer.Option("--batch-size", help="Prompts at once; auto goes by the memory.")] = "auto",
    baseline_prompts: Annotated[
        int, typer.Option("--baseline-prompts", help="Prompts that the baseline attributes; 0 leaves it out.")
    ] = 1,
    store: Annotated[bool, typer.Option("--store", help="Write the results into a temporary database too.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of weights and prompts.")] = 0,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Keep settings and measures as JSON.")
    ] = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Measure the attribution engine beside a large matrix product and the way published tools work.

    Example: kndb bench attribution --family gpt2 --size tiny --prompts 32 --baseline-prompts 0
    """
    from kndb.database.bench import bench_attribution, save_benchmark

    if random_weights and checkpoint is not None:
        raise UsageError("found --random-weights and --checkpoint; expected one of them")
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


@app.command()
def localisation(
    model: Annotated[
        str,
        typer.Option("--model", metavar="NAME-or-DIR", help="lab-bert, or a folder from kndb lab train --planted."),
    ] = "lab-bert",
    facts: Annotated[
        list[Path] | None,
        typer.Option(
            "--facts",
            metavar="PATH",
            help="The fact lists that the model was planted with; repeatable. Default: kndb's own.",
            show_default=False,
        ),
    ] = None,
    relation: RelationsOption = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method", metavar="METHOD", help="Only this kind of score; repeatable. Default: all.", show_default=False
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Also draw the scores (.png, .svg or .pdf).")
    ] = None,
    wide: Annotated[
        bool, typer.Option("--wide", help="Show whose neurons the refined sets hold, too; JSON and CSV always do.")
    ] = False,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Score each method's knowledge neurons against the neurons in which a lab model's facts were planted.

    Example: kndb bench localisation --model lab-bert --relation P36 --method activation --plot found.svg
    """
    from kndb.database.localisation import bench_localisation, check_plot, plot_localisation

    if plot is not None:
        check_plot(plot)
    with progress_bar("Attributing") as tick:
        scores = bench_localisation(
            model, facts=facts or [], relations=relation or [], methods=method or [], progress=tick
        )
    if plot is not None:
        note(f"Wrote {plot_localisation(scores, plot, Path(model).name)}")
    columns = LOCALISATION_COLUMNS
    if wide or output is not OutputFormat.TABLE:
        columns = (*columns[:3], "planted_per_fact", *columns[3:], *SHARE_COLUMNS)
    print_rows([asdict(score) for score in scores], columns, output)


def _short(value: float | int | None) -> float | int | None:
    return float(f"{value:.4g}") if isinstance(value, float) else value
