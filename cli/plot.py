"""`kndb plot`: figures of what queries and probes find."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kndb.records.figures import PLAIN, FigureOptions

from .commands import command, group
from .option_groups import ANY, Which, takes_figure_options, takes_which
from .options import (
    DatabaseOption,
    FactArgument,
    FormatOption,
    OptionalModelOption,
    RelationsOption,
    open_existing,
)
from .output import OutputFormat, print_record

FOUND, PROBED = "What queries find", "What probes find"
app = group("Draw what queries and probes find. This needs the extra `plot`: pip install 'kndb[plot]'.")
OutOption = Annotated[
    Path, typer.Option("--out", metavar="FILE", help="Write this file, which ends in .png, .svg or .pdf.")
]
ProbeOption = Annotated[
    int | None,
    typer.Option(
        "--probe",
        metavar="ID",
        help="Draw this probe; see: kndb probe list. Default: the newest of this kind.",
        show_default=False,
    ),
]


@command(app, "layers", "Knowledge neurons in each layer.", FOUND)
@takes_figure_options
@takes_which
def layers(
    out: OutOption,
    relation: RelationsOption = None,
    by_relation: Annotated[
        bool,
        typer.Option("--by-relation", help="Draw a heat map with a row for each relation, not bars of all together."),
    ] = False,
    which: Which = ANY,
    figure: FigureOptions = PLAIN,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Draw the percentage of knowledge neurons in each layer.

    Example: kndb plot layers --out layers.pdf
    """
    with open_existing(db) as database:
        database.plots.check(out)
        chosen = which.choose(database, relations=relation or [])
        database.plots.layers(out, relations=relation or [], by_relation=by_relation, refinement=chosen, options=figure)
    _print(out, output)


@command(app, "overlap", "Neurons that two facts share on average.", FOUND)
@takes_figure_options
@takes_which
def overlap(
    out: OutOption,
    relation: RelationsOption = None,
    which: Which = ANY,
    figure: FigureOptions = PLAIN,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Draw how many neurons two facts share on average, relation by relation, as a heat map.

    Example: kndb plot overlap --out overlap.pdf
    """
    with open_existing(db) as database:
        database.plots.check(out)
        chosen = which.choose(database, relations=relation or [])
        database.plots.overlap(out, relations=relation or [], refinement=chosen, options=figure)
    _print(out, output)


@command(app, "counts", "How many knowledge neurons facts have.", FOUND)
@takes_figure_options
@takes_which
def counts(
    out: OutOption,
    relation: RelationsOption = None,
    which: Which = ANY,
    figure: FigureOptions = PLAIN,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Draw how many knowledge neurons facts have: quartiles, median and mean by relation.

    Example: kndb plot counts --out counts.pdf
    """
    with open_existing(db) as database:
        database.plots.check(out)
        chosen = which.choose(database, relations=relation or [])
        database.plots.counts(out, relations=relation or [], refinement=chosen, options=figure)
    _print(out, output)


@command(app, "consistency", "How alike paraphrases' neurons are.", FOUND)
@takes_figure_options
@takes_which
def consistency(
    out: OutOption,
    relation: RelationsOption = None,
    which: Which = ANY,
    figure: FigureOptions = PLAIN,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Draw how alike the coarse sets of facts' paraphrases are: quartiles, median and mean by relation.

    Example: kndb plot consistency --out consistency.pdf
    """
    with open_existing(db) as database:
        database.plots.check(out)
        chosen = which.choose(database, relations=relation or [])
        database.plots.consistency(out, relations=relation or [], refinement=chosen, options=figure)
    _print(out, output)


@command(app, "fact", "The votes for the neurons of one fact.", FOUND)
@takes_figure_options
@takes_which
def fact(
    fact: FactArgument,
    out: OutOption,
    which: Which = ANY,
    figure: FigureOptions = PLAIN,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Draw which neurons one fact's prompts vote for and how they score: those kept, and the nearest of those left out.

    Example: kndb plot fact 588 --out fact.pdf
    """
    with open_existing(db) as database:
        database.plots.check(out)
        database.facts.get(fact)
        chosen = which.choose(database, facts=[fact])
        database.plots.fact(fact, out, refinement=chosen, options=figure)
    _print(out, output)


@command(app, "suppress", "What suppressing neurons does.", PROBED)
@takes_figure_options
def suppress(
    out: OutOption,
    relation: RelationsOption = None,
    model: OptionalModelOption = None,
    probe: ProbeOption = None,
    figure: FigureOptions = PLAIN,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Draw what suppressing neurons does to answers, beside random neurons and the activation baseline.

    Example: kndb plot suppress --out suppress.pdf
    """
    with open_existing(db) as database:
        database.plots.suppress(out, probe=probe, model=model, relations=relation or [], options=figure)
    _print(out, output)


@command(app, "amplify", "What amplifying neurons does.", PROBED)
@takes_figure_options
def amplify(
    out: OutOption,
    relation: RelationsOption = None,
    model: OptionalModelOption = None,
    probe: ProbeOption = None,
    figure: FigureOptions = PLAIN,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Draw what amplifying neurons does to answers, beside random neurons and the activation baseline.

    Example: kndb plot amplify --out amplify.pdf
    """
    with open_existing(db) as database:
        database.plots.amplify(out, probe=probe, model=model, relations=relation or [], options=figure)
    _print(out, output)


@command(app, "activation", "How active neurons are in texts.", PROBED)
@takes_figure_options
def activation(
    out: OutOption,
    relation: RelationsOption = None,
    model: OptionalModelOption = None,
    probe: ProbeOption = None,
    figure: FigureOptions = PLAIN,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Draw how active knowledge neurons are in texts that name a fact's head and tail, its head alone, or neither.

    Example: kndb plot activation --out activation.pdf
    """
    with open_existing(db) as database:
        database.plots.activation(out, probe=probe, model=model, relations=relation or [], options=figure)
    _print(out, output)


def _print(path: Path, output: OutputFormat) -> None:
    print_record({"out": str(path)}, output)
