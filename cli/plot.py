"""`kndb plot`: figures of what queries and probes find."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    DatabaseOption,
    FormatOption,
    OptionalModelOption,
    RefinementOption,
    RelationsOption,
    open_existing,
)
from .output import OutputFormat, print_record

app = typer.Typer(no_args_is_help=True, help="Draw figures of what queries and probes find; needs the extra `plot`.")
OutOption = Annotated[
    Path, typer.Option("--out", metavar="FILE", help="The file to write; it ends in .png, .svg or .pdf.")
]
ProbeOption = Annotated[
    int | None,
    typer.Option("--probe", metavar="ID", help="Which probe. Default: the newest of this kind.", show_default=False),
]


@app.command()
def layers(
    out: OutOption,
    relation: RelationsOption = None,
    by_relation: Annotated[
        bool, typer.Option("--by-relation", help="A line for each relation, 7 at most, not bars of all together.")
    ] = False,
    model: OptionalModelOption = None,
    refinement: RefinementOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """The percentage of knowledge neurons in each layer.

    Example: kndb plot layers --out layers.pdf
    """
    with open_existing(db) as database:
        path = database.plots.layers(
            out, relations=relation or [], by_relation=by_relation, refinement=refinement, model=model
        )
    _print(path, output)


@app.command()
def overlap(
    out: OutOption,
    relation: RelationsOption = None,
    model: OptionalModelOption = None,
    refinement: RefinementOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """How many neurons two facts share on average, relation by relation: a heat map.

    Example: kndb plot overlap --out overlap.pdf
    """
    with open_existing(db) as database:
        path = database.plots.overlap(out, relations=relation or [], refinement=refinement, model=model)
    _print(path, output)


@app.command()
def counts(
    out: OutOption,
    relation: RelationsOption = None,
    model: OptionalModelOption = None,
    refinement: RefinementOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """How many knowledge neurons facts have: quartiles, median and mean by relation.

    Example: kndb plot counts --out counts.pdf
    """
    with open_existing(db) as database:
        path = database.plots.counts(out, relations=relation or [], refinement=refinement, model=model)
    _print(path, output)


@app.command()
def consistency(
    out: OutOption,
    relation: RelationsOption = None,
    model: OptionalModelOption = None,
    refinement: RefinementOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """How alike the coarse sets of facts' paraphrases are: quartiles, median and mean by relation.

    Example: kndb plot consistency --out consistency.pdf
    """
    with open_existing(db) as database:
        path = database.plots.consistency(out, relations=relation or [], refinement=refinement, model=model)
    _print(path, output)


@app.command()
def fact(
    fact: Annotated[int, typer.Argument(help="A fact's number; see: kndb query facts.")],
    out: OutOption,
    model: OptionalModelOption = None,
    refinement: RefinementOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Which neurons one fact's prompts vote for, against the number of votes that the refinement needed.

    Example: kndb plot fact 588 --out fact.pdf
    """
    with open_existing(db) as database:
        path = database.plots.fact(out, fact, refinement=refinement, model=model)
    _print(path, output)


@app.command()
def suppress(
    out: OutOption,
    relation: RelationsOption = None,
    model: OptionalModelOption = None,
    probe: ProbeOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """What suppressing neurons does to answers, beside random neurons and the activation baseline.

    Example: kndb plot suppress --out suppress.pdf
    """
    with open_existing(db) as database:
        path = database.plots.suppress(out, probe=probe, model=model, relations=relation or [])
    _print(path, output)


@app.command()
def amplify(
    out: OutOption,
    relation: RelationsOption = None,
    model: OptionalModelOption = None,
    probe: ProbeOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """What amplifying neurons does to answers, beside random neurons and the activation baseline.

    Example: kndb plot amplify --out amplify.pdf
    """
    with open_existing(db) as database:
        path = database.plots.amplify(out, probe=probe, model=model, relations=relation or [])
    _print(path, output)


@app.command()
def activation(
    out: OutOption,
    relation: RelationsOption = None,
    model: OptionalModelOption = None,
    probe: ProbeOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """How active knowledge neurons are in texts that name head and tail of a fact, its head alone, or neither.

    Example: kndb plot activation --out activation.pdf
    """
    with open_existing(db) as database:
        path = database.plots.activation(out, probe=probe, model=model, relations=relation or [])
    _print(path, output)


def _print(path: Path, output: OutputFormat) -> None:
    print_record({"out": str(path)}, output)
