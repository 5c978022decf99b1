"""`kndb query`: questions to the store; a module for each command."""

from __future__ import annotations

from ..commands import Place, Places

NEURONS, FACTS, LISTS = "Neurons of many facts", "One fact, neuron, run or refinement", "What the store has"
PLACES = Places(
    "Ask the store which knowledge neurons facts and relations share, and what else it knows.",
    "kndb.cli.query",
    {
        "shared": Place("shared:shared", "Neurons that the facts of relations share.", NEURONS, table=True),
        "overlap": Place("overlap:overlap", "Neurons that two facts share on average.", NEURONS, table=True),
        "layers": Place("layers:layers", "Knowledge neurons in each layer.", NEURONS, table=True),
        "counts": Place("counts:counts", "How many knowledge neurons facts have.", NEURONS, table=True),
        "consistency": Place(
            "consistency:consistency", "How alike the neurons of a fact's paraphrases are.", NEURONS, table=True
        ),
        "compare": Place("compare:compare", "Two refinements side by side.", NEURONS, table=True),
        "collateral": Place("collateral:collateral", "Facts that hold the neurons of an edit.", NEURONS, table=True),
        "fact": Place("fact:fact", "All that is known of one fact.", FACTS, table=True),
        "neurons": Place("neurons:neurons", "List the knowledge neurons of one fact.", FACTS, table=True),
        "neuron": Place("neuron:neuron", "All that is known of one neuron.", FACTS, table=True),
        "run": Place("run:run", "All that is known of one attribution run.", FACTS, table=True),
        "refinement": Place("refinement:refinement", "All that is known of one refinement.", FACTS, table=True),
        "facts": Place("facts:facts", "List facts with their numbers.", LISTS, table=True),
        "relations": Place("relations:relations", "List the relations.", LISTS, table=True),
        "runs": Place("runs:runs", "List the attribution runs.", LISTS, table=True),
        "refinements": Place("refinements:refinements", "List the refinements.", LISTS, table=True),
        "sql": Place("sql:sql", "Run an SQL query of your own.", LISTS),
    },
)
