"""`kndb bench`: how fast and how exact kndb is on this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from kndb.errors import UsageError

from .attribute import batch_size_option
from .options import DeviceOption, FormatOption
from .output import OutputFormat, print_record, progress_bar

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

    Example: kndb bench attribution --family gpt2 --size tiny --prompts 32
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


def _short(value: float | int | None) -> float | int | None:
    return float(f"{value:.4g}") if isinstance(value, float) else value
