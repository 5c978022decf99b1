"""`kndb query`: questions to the store; a module for each command."""

from __future__ import annotations

import typer

from .collateral import collateral
from .compare import compare
from .consistency import consistency
from .counts import counts
from .fact import fact
from .facts import facts
from .layers import layers
from .neuron import neuron
from .neurons import neurons
from .overlap import overlap
from .refinements import refinements
from .relations import relations
from .runs import runs
from .shared import shared
from .sql import sql

app = typer.Typer(no_args_is_help=True, help="Ask the store: which neurons facts and relations share, and more.")
app.command("shared")(shared)
app.command("overlap")(overlap)
app.command("layers")(layers)
app.command("counts")(counts)
app.command("compare")(compare)
app.command("collateral")(collateral)
app.command("neuron")(neuron)
app.command("fact")(fact)
app.command("consistency")(consistency)
app.command("sql")(sql)
app.command("facts")(facts)
app.command("neurons")(neurons)
app.command("relations")(relations)
app.command("runs")(runs)
app.command("refinements")(refinements)
