"""`kndb edit statistics`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from kndb.advice import Placeholder, call, option
from kndb.errors import UsageError
from kndb.records.statistics import TOKENS_PER_NEURON, LayerStatistics, StatisticsSettings

from ..options import DatabaseOption, FormatOption, ThreadsOption, computing, open_existing
from ..output import OutputFormat, as_row, note, print_rows, progress_bar
from .together import given, parse_layers

_COLUMNS = [
    "model",
    "layer",
    "version",
    "state",
    "source",
    "texts",
    "done",
    "tokens",
    "neurons",
    "rank",
    "condition",
    "size",
    "digest",
    "file",
    "problem",
]
_SHORT = ["model", "layer", "state", "source", "texts", "tokens", "rank", "condition", "size"]
_FEW = 2
"""Tokens for each neuron under which more of them are advised."""


def statistics(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Use this registered model; see: kndb model list. With --list, default: any.",
            show_default=False,
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            metavar="LAYERS",
            help="Count the keys of these layers, such as 3-7 or 0,2, or of all. Default: those that edits of many "
            "facts change.",
            show_default=False,
        ),
    ] = None,
    from_facts: Annotated[
        bool, typer.Option("--from-facts", help="Take the prompts of the database's facts; so it is by default.")
    ] = False,
    texts: Annotated[
        Path | None,
        typer.Option(
            "--texts",
            metavar="FILE",
            help='Take the lines of this file: plain text, or JSON lines such as {"text": "…"}.',
            show_default=False,
        ),
    ] = None,
    self_sampled: Annotated[
        int | None,
        typer.Option(
            "--self-sampled",
            metavar="N",
            help="Take N texts that the model, a causal one, says from nothing.",
            show_default=False,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens",
            metavar="N",
            help="Count at most so many tokens. Default: twenty times the neurons of a layer.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            help="Random seed, of the prompts' order or of what the model says. Default: 0.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(
            "--version",
            metavar="VERSION",
            help="Count on this version: base, current, a version id, or a snapshot's name. Default: current.",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace what is kept of other texts, once the new count is done.")
    ] = False,
    most_memory: Annotated[
        int | None,
        typer.Option(
            "--most-memory",
            metavar="BYTES",
            help="Refuse to hold more than this in memory: 8 bytes for each pair of neurons, for each layer and three "
            "more. Default: 4 GiB.",
            show_default=False,
        ),
    ] = None,
    most_bytes: Annotated[
        int | None,
        typer.Option(
            "--most-bytes",
            metavar="BYTES",
            help="Refuse a file of texts with more than this, unpacked. Default: 1 GiB.",
            show_default=False,
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Count nothing; list what is kept.")] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="Count nothing; delete what is kept of the model, or of --layers.")
    ] = False,
    threads: ThreadsOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Count, layer by layer, how the inputs of down projections vary together, and keep it for edits of many facts.

    Safe to interrupt: run it again to resume. Kept beside the database, in a folder that ends in .statistics.

    Example: kndb edit statistics --model lab-bert
    """
    counting: dict[str, Any] = {
        "texts": texts,
        "self_sampled": self_sampled,
        "max_tokens": max_tokens,
        "seed": seed,
        "version": version,
        "from_facts": from_facts or None,
        "replace": replace or None,
        "most_memory": most_memory,
        "most_bytes": most_bytes,
    }
    if listed or delete:
        _refuse_counting(counting, listed=listed, delete=delete)
    if listed:
        _list(model, layers, db, output)
        return
    if model is None:
        raise UsageError("--model must name a registered model; see: kndb model list")
    if delete:
        with open_existing(db) as database:
            deleted = database.edits.delete_statistics(model, parse_layers(layers))
        note(f"Deleted statistics in {len(deleted)} file{'' if len(deleted) == 1 else 's'}.")
        _print(deleted, output)
        return
    if from_facts and (texts is not None or self_sampled is not None):
        raise UsageError("--from-facts, --texts and --self-sampled are three sources of texts; take one of them")
    _count(model, layers, counting, threads, db, output)


def _refuse_counting(counting: Mapping[str, Any], *, listed: bool, delete: bool) -> None:
    if listed and delete:
        raise UsageError("--list and --delete can't both be given; take one of them")
    for name in given(counting):
        what = "--list" if listed else "--delete"
        raise UsageError(f"--{name.replace('_', '-')} is of a count, and {what} counts nothing; leave one of them out")


def _count(
    model: str,
    layers: str | None,
    counting: Mapping[str, Any],
    threads: int | None,
    db: str | None,
    output: OutputFormat,
) -> None:
    chosen = None if layers is None else "all" if layers.strip() == "all" else parse_layers(layers)
    told = given({name: value for name, value in counting.items() if name not in ("version", "from_facts", "replace")})
    settings = StatisticsSettings(layers=chosen, **told)  # type: ignore[arg-type]
    with open_existing(db) as database, computing(threads), progress_bar("Counting", "texts") as tick:
        kept = database.edits.statistics(
            model,
            settings,
            version=counting["version"] or "current",
            replace=bool(counting["replace"]),
            progress=tick,
        )
    for text in _warnings(kept):
        note(text)
    _print(kept, output)


def _warnings(kept: Sequence[LayerStatistics]) -> list[str]:
    """What makes edits by these keys harm other facts more than they need to."""
    found = []
    for one in kept:
        span = f"Layer {one.layer}: {one.tokens:,} tokens span {one.rank} of {one.neurons} dimensions"
        if one.tokens < _FEW * one.neurons:
            more = f"{option('max_tokens', TOKENS_PER_NEURON * one.neurons)} {option('replace', True)}"
            found.append(f"{span}; edits by so few harm other facts more. Count more texts: {more}.")
        elif one.rank is not None and one.rank < one.neurons:
            found.append(f"{span}: the others are of neurons that are idle in these texts, or active alike.")
    return found


def _list(model: str | None, layers: str | None, db: str | None, output: OutputFormat) -> None:
    chosen = parse_layers(layers)
    with open_existing(db) as database:
        kept = [one for one in database.edits.kept_statistics(model) if not chosen or one.layer in chosen]
    if not kept:
        count = call("edits.statistics", model=Placeholder("NAME") if model is None else model)
        note(f"No statistics are kept; count some with: {count}")
    for one in kept:
        if one.state == "interrupted":
            note(
                f"Layer {one.layer} of {one.model} was interrupted after {one.done:,} of {one.texts:,} texts; run its "
                "count again to resume."
            )
        elif one.problem is not None:
            note(f"Layer {one.layer} of {one.model} is damaged: {one.problem}")
    _print(kept, output)


def _print(kept: Sequence[LayerStatistics], output: OutputFormat) -> None:
    rows = [{**as_row(one), "state": one.state} for one in kept]
    print_rows(rows, _COLUMNS, output, short=_SHORT)
