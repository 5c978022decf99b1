"""Stores with many refinements, made by hand: which facts each holds is known beside the store, to choose by it."""

from dataclasses import dataclass, field

from kndb.records.attribution import KnowledgeNeuron, PromptResult, RelationRefinement, ResultBatch
from kndb.records.facts import FactFile, FactRecord
from kndb.store import facts, models, refinements, runs

RELATIONS = {"P1": "capital", "P2": "language", "P3": None}
FACTS = {1: "P1", 2: "P1", 3: "P1", 4: "P2", 5: "P2", 6: "P3", 7: "P3"}
"""The facts, each with one prompt of its own number, and their relations."""


@dataclass
class Made:
    """A refinement as it was made.

    Attributes:
        held: the facts with an attributed prompt when it was made; `with_neurons`: those with knowledge neurons.
        attributed: the facts that its run has attributed prompts of; more are added to it as the run goes on.
        incomplete: whether its run was not complete when it was made.
    """

    id: int
    model: str
    method: str
    complete: bool
    negative: bool
    held: frozenset
    with_neurons: frozenset
    attributed: set = field(default_factory=set)
    incomplete: bool = False


class World:
    """A store, and what was put into it."""

    def __init__(self, store):
        self.store = store
        self.made, self._runs, self._models = [], {}, {}
        listed = [FactRecord(key, f"s{fact}", f"o{fact}", None, (f"s{fact} is [Y].",)) for fact, key in FACTS.items()]
        with self.store.writing() as connection:
            facts.ingest(connection, [FactFile("f", RELATIONS, (), tuple(listed))])

    def run(self, attributed=(), *, method="integrated-gradients", model="m", complete=True, again=None, skipped=()):
        """Attributes facts in a new run, or goes on with one, and skips others; gives the run's number."""
        with self.store.writing() as connection:
            if again is None:
                if model not in self._models:
                    added = models.add_imported_model(connection, name=model, layers=2, neurons=9)
                    self._models[model] = added.id
                settings = {"nth": len(self._runs)}
                again = runs.start_run(connection, self._models[model], f"v-{model}", method, settings)[0].id
                self._runs[again] = (model, method, set())
            results = [PromptResult(fact, 0.5, max_score=1.0) for fact in attributed]
            passed = [fact for fact in skipped if fact not in {*attributed, *self._runs[again][2]}]
            results += [PromptResult(fact, skipped="unknown") for fact in passed]
            runs.save_results(connection, again, ResultBatch(tuple(results)))
            runs.choose_facts(connection, again, [*attributed, *skipped])
            self._runs[again][2].update(attributed)
            state = "complete" if complete else "running"
            connection.exec_driver_sql("UPDATE run SET status = ? WHERE id = ?", (state, again))
        self._complete(again, complete)
        return again

    def _complete(self, run, complete):
        for made, of in self.made:
            if of == run:
                made.complete = complete and not made.incomplete

    def refine(self, run, with_neurons=None, **settings):
        """Refines a run: some of its facts get knowledge neurons (None: all); gives the refinement's number."""
        model, method, attributed = self._runs[run]
        chosen = attributed if with_neurons is None else attributed & set(with_neurons)
        outcomes = []
        for number, key in enumerate(RELATIONS, 1):
            own = sorted(fact for fact in attributed if FACTS[fact] == key)
            rows = [KnowledgeNeuron(fact, 0, fact, 1, 0.5) for fact in own if fact in chosen]
            if own:
                outcome = RelationRefinement(key, 0.7, 0, len(own), len(rows), len(rows) / len(own))
                outcomes.append((number, outcome, rows))
        with self.store.writing() as connection:
            status = runs.run(connection, run).status
            id_ = refinements.add_refinement(connection, run, settings, outcomes)
        made = Made(
            id_, model, method, status == "complete" and not settings.get("incomplete"),
            bool(settings.get("negative")), frozenset(attributed), frozenset(chosen), attributed,
            bool(settings.get("incomplete")),
        )  # fmt: skip
        self.made.append((made, run))
        return id_

    def imports(self, held, *, model="m", with_neurons=None):
        """A refinement of imported sets: a run without results."""
        run = self.run((), method="imported", model=model)
        self._runs[run][2].update(held)
        number = self.refine(run, with_neurons)
        self.made[-1][0].attributed = set()  # Nobody attributed any of their prompts here.
        return number


def rank(made):
    """The kinds of refinements, the best first."""
    kinds = [
        made.method == "integrated-gradients" and not made.negative,
        made.method != "integrated-gradients" and not made.negative,
        made.negative,
    ]
    return kinds.index(True), not made.complete


def holds(made, fact):
    """Whether a refinement is known to hold a fact: by its neurons, or because all facts that it may hold are held."""
    if fact not in made.held:
        return False
    own = {other for other, key in FACTS.items() if key == FACTS[fact]}
    held = made.held & own
    return (
        fact in made.with_neurons
        or held == own
        or (fact in made.attributed and len(held) >= len(made.attributed & own))
    )


def chosen(world, relations=(), asked=(), model=None, method=None):
    """The number of the refinement that answers, by reading the rule aloud; None if there is none."""
    there = [one for one, _ in world.made if model in (None, one.model) and method in (None, one.method)]

    def held(one):
        if not relations and not asked:
            return len(one.held)
        of_relations = {fact for fact in FACTS if FACTS[fact] in relations}
        others = [fact for fact in set(asked) - of_relations if holds(one, fact)]
        return len(one.held & of_relations) + len(others)

    for kind in sorted({rank(one) for one in there}):
        alike = [one for one in there if rank(one) == kind and held(one)]
        if alike:
            most = max(held(one) for one in alike)
            return max(one.id for one in alike if held(one) == most)
    best = min((rank(one) for one in there), default=None)
    return max((one.id for one in there if rank(one) == best), default=None)
