"""`kndb query`: questions to the store; a module for each command."""

from __future__ import annotations

from ..commands import command, group
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

NEURONS, FACTS, LISTS = "Neurons of many facts", "One fact or neuron", "What the store has"
app = group("Ask the store which knowledge neurons facts and relations share, and what else it knows.")
command(app, "shared", "Neurons that the facts of relations share.", NEURONS, table=True)(shared)
command(app, "overlap", "Neurons that two facts share on average.", NEURONS, table=True)(overlap)
command(app, "layers", "Knowledge neurons in each layer.", NEURONS, table=True)(layers)
command(app, "counts", "How many knowledge neurons facts have.", NEURONS, table=True)(counts)
command(app, "consistency", "How alike the neurons of a fact's paraphrases are.", NEURONS, table=True)(consistency)
command(app, "compare", "Two refinements side by side.", NEURONS, table=True)(compare)
command(app, "collateral", "Facts that hold the neurons of an edit.", NEURONS, table=True)(collateral)
command(app, "fact", "All that is known of one fact.", FACTS, table=True)(fact)
command(app, "neurons", "The knowledge neurons of one fact.", FACTS, table=True)(neurons)
command(app, "neuron", "All that is known of one neuron.", FACTS, table=True)(neuron)
command(app, "facts", "List facts with their numbers.", LISTS, table=True)(facts)
command(app, "relations", "List the relations.", LISTS, table=True)(relations)
command(app, "runs", "List the attribution runs.", LISTS, table=True)(runs)
command(app, "refinements", "List the refinements.", LISTS, table=True)(refinements)
command(app, "sql", "Run an SQL query of your own.", LISTS)(sql)
