"""The benchmark of localisation: what each method of attribution finds of a lab model's planted storage."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ..advice import option
from ..analysis.refinement import RefinementSettings
from ..attribution.methods import METHODS, find_method
from ..bench.localisation import PlantedNeurons, score_sets
from ..errors import UsageError
from ..lab.planting import FactKey, PlantingPlan, read_plan
from ..models import loading
from ..plots import require_matplotlib
from ..records.attribution import LocalisationScore
from ..records.facts import Fact
from ..records.figures import PLAIN, FigureOptions
from ..records.models import Neuron
from ..records.progress import Progress
from ..store.queries import neurons as queries
from .database import Database, open_database
from .lab import own_facts

if TYPE_CHECKING:
    from ..plots.style import NotebookFigure


def bench_localisation(
    model: str = "lab-bert",
    *,
    facts: Sequence[str | Path] = (),
    relations: Sequence[str] = (),
    methods: Sequence[str] = (),
    progress: Progress | None = None,
) -> list[LocalisationScore]:
    """Attributes and refines the facts of a planted model by several methods, and scores the refined sets.

    All is done in a temporary store, with the default settings of every method and of refinement.

    Args:
        model: `lab-bert`, or the folder of a model made by `kndb lab train --planted`.
        facts: the fact lists that it was planted with; none takes kndb's own.
        relations: only facts of these; none named means all.
        methods: names of `kndb.attribution.methods.METHODS`; none named means all.
        progress: told of the prompts done, of those of all methods.

    Returns:
        One score for each method, in the order named.

    Raises:
        ModelError: if nothing is known to be planted in the model.
        NotFoundError: for an unknown relation.
        UsageError: for an unknown method, or facts that were not planted.
    """
    for method in methods:
        find_method(method)
    chosen = list(dict.fromkeys(methods)) or list(METHODS)
    folder = loading.locate(model)
    plan = read_plan(folder)
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="kndb-bench-"))
        database = stack.enter_context(open_database(Path(scratch, "bench.db")))
        database.facts.ingest(list(facts) or [own_facts()])
        record = database.models.add(str(folder), name="planted")
        places = {fact.id: _places(plan, fact) for fact in _planted_facts(database, plan, relations)}
        return [
            score_sets(
                method,
                _refined(database, method, relations, _part(progress, number, len(chosen))),
                places,
                record.layers * record.neurons,
            )
            for number, method in enumerate(chosen)
        ]


def plot_localisation(
    rows: Sequence[LocalisationScore], path: str | Path, model: str, options: FigureOptions = PLAIN
) -> NotebookFigure:
    """Draws the scores of a model's methods into a file: whose neurons they find, and how many of those planted.

    Raises:
        UsageError: if the file's name ends in no format that there is.
        OutputError: if it can't be written.
    """
    from ..plots.localisation import localisation_figure
    from ..plots.style import save

    settings = RefinementSettings()
    caption = (
        f"{model} · {rows[0].facts:,} facts, {rows[0].planted_per_fact:.0f} neurons planted for each · default "
        f"settings of every method · refinement: share {settings.share}, at least {settings.min_prompts} prompts"
    )
    figure = localisation_figure(rows, caption, options)
    save(figure, path)
    return figure


def check_plot(path: str | Path) -> None:
    """Refuses a figure's file name before any work is done for it; see `kndb.plots.style.check_target`."""
    require_matplotlib()
    from ..plots.style import check_target

    check_target(path)


def _planted_facts(database: Database, plan: PlantingPlan, relations: Sequence[str]) -> list[Fact]:
    found = database.facts.find(relations)
    missing = next((fact for fact in found if _key(fact) not in plan.facts), None)
    if missing is not None:
        raise UsageError(
            f"fact {missing.title} was not planted in this model; name the list that it was trained on with "
            f"{option('facts')}"
        )
    return found


def _key(fact: Fact) -> FactKey:
    return fact.relation, fact.subject or "", fact.object


def _places(plan: PlantingPlan, fact: Fact) -> PlantedNeurons:
    relation = plan.relations[fact.relation]
    return PlantedNeurons(
        own=frozenset(plan.facts[_key(fact)]),
        relation=frozenset(relation),
        block=frozenset((*relation, *plan.blocks[fact.relation])),
    )


def _refined(
    database: Database, method: str, relations: Sequence[str], progress: Progress | None
) -> dict[int, set[Neuron]]:
    """The refined set of each attributed fact, empty ones included."""
    run = database.attribution.run("planted", relations=relations, method=method, progress=progress).run.id
    refinement = database.attribution.refine(run)
    sets: dict[int, set[Neuron]] = defaultdict(set)
    with database.store.reading() as connection:
        for fact in database.facts.find(relations):
            held = queries.neurons_of_fact(connection, refinement.id, fact.id)
            sets[fact.id] = {Neuron(row.layer, row.neuron) for row in held}
    return dict(sets)


def _part(progress: Progress | None, number: int, parts: int) -> Progress | None:
    """The progress of one of several equal parts of the work."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, parts * total)
