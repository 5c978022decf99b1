"""The sums over relations against the sets they follow from."""

import pytest
from backends import BOTH

from kndb.records.attribution import KnowledgeNeuron, RelationRefinement
from kndb.records.facts import FactFile, FactRecord
from kndb.records.models import UNKNOWN
from kndb.store import facts, maintenance, models, refinements, runs

BACKENDS = BOTH

FACTS = FactFile("f", {"P1": None}, (), (FactRecord("P1", "a", "b"), FactRecord("P1", "c", "d")))


@pytest.fixture
def store(db_places):
    with db_places.new().store() as opened:
        with opened.writing() as connection:
            facts.ingest(connection, [FACTS])
            model = models.add_imported_model(connection, name="m", layers=2, neurons=4)
            run = runs.start_run(connection, model.id, UNKNOWN, "imported", {})[0]
            held = [KnowledgeNeuron(1, 0, 3, None, None), KnowledgeNeuron(2, 0, 3, None, None)]
            outcome = RelationRefinement("P1", None, None, 2, 2, 1.0)
            refinements.add_refinement(connection, run.id, {}, [(1, outcome, held)])
        yield opened


def test_a_refinement_is_summed_up(store):
    with store.reading() as connection:
        assert connection.exec_driver_sql("SELECT * FROM relation_neuron").all() == [(1, 1, 0, 3, 2)]
    assert maintenance.check(store).problems == ()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE relation_neuron SET facts = 1",
        "DELETE FROM relation_neuron",
        "UPDATE relation_neuron SET neuron = 2",
        "DELETE FROM knowledge_neuron WHERE fact_id = 2",
    ],
)
def test_sums_that_differ_from_the_sets_are_found(store, damage):
    with store.writing() as connection:
        connection.exec_driver_sql(damage)
    (problem,) = maintenance.check(store).problems
    assert problem.startswith("refinement 1: relation_neuron")
