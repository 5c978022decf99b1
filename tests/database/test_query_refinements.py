"""Every question takes a refinement as itself, its number, its method's name, or none; and a model that narrows it."""

import pytest

from kndb.errors import UsageError
from kndb.records.models import Neuron

QUESTIONS = {
    "shared": lambda query, **of: query.shared(["P36"], **of),
    "overlap": lambda query, **of: query.overlap(**of),
    "layers": lambda query, **of: query.layers(["P37"], **of),
    "counts": lambda query, **of: query.counts(**of),
    "consistency": lambda query, **of: query.consistency(["P36"], **of),
    "collateral": lambda query, **of: query.collateral([Neuron(1, 5)], **of),
    "neuron": lambda query, **of: query.neuron(Neuron(1, 5), **of),
    "fact": lambda query, **of: query.fact(1, **of),
    "neurons of a fact": lambda query, **of: query.neurons_of_fact(1, **of),
    "pairs": lambda query, **of: query.neuron_counts(**of),
}


@pytest.fixture(scope="module")
def crowded(ready, tmp_path_factory):
    """A database with the real refinement, 1, and a newer one of the activation baseline, 2."""
    import shutil

    from kndb.database import open_database

    folder = tmp_path_factory.mktemp("choices")
    shutil.copytree(ready["bert"], folder, dirs_exist_ok=True)
    with open_database(folder / "kndb.db") as database:
        database.attribution.refine()
        run = database.attribution.run("tiny", method="activation").run
        database.attribution.refine(run.id)
        yield database


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_refinement_is_named_in_any_way(crowded, name):
    query, ask = crowded.query, QUESTIONS[name]
    real, baseline = ask(query, refinement=1), ask(query, refinement=2)
    assert real != baseline
    for of in ({}, {"model": "tiny"}, {"refinement": query.refinement(1)}, {"refinement": "integrated-gradients"}):
        assert ask(query, **of) == real
    for of in ({"refinement": query.refinement(2)}, {"refinement": "activation", "model": "tiny"}):
        assert ask(query, **of) == baseline


def test_two_are_compared_by_their_methods(crowded):
    query = crowded.query
    assert query.compare("integrated-gradients", "activation") == query.compare(1, 2)
    assert query.compare(query.refinement(2), 1, ["P36"]) == query.compare(2, 1, ["P36"])


def test_the_default_of_each_model(crowded):
    assert crowded.query.default_refinements() == {"tiny": 1}
    assert [one.method for one in crowded.query.refinements()] == ["integrated-gradients", "activation"]
    with pytest.raises(UsageError, match=r"refinement=1 is by integrated-gradients, not activation"):
        crowded.query.choose(1, method="activation")
