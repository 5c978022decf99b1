"""No question reads every score: SQLite's plans of all statements that queries and refinements run."""

import re

import pytest
from sqlalchemy import event

from kndb.records.models import Neuron

FULL_SCAN = re.compile(r"SCAN (score|prompt_result|prompt)\b|SEARCH (score|prompt_result) .*\(run_id=\?\)")
"""A step that reads every row, or every row of a run, of the largest tables."""

QUESTIONS = {
    "shared": lambda query: query.shared(["P36"], refinement=1),
    "shared across": lambda query: query.shared([], refinement=1, across=2),
    "overlap": lambda query: query.overlap(refinement=1),
    "layers": lambda query: query.layers(refinement=1),
    "counts": lambda query: query.counts(refinement=1),
    "neuron": lambda query: query.neuron(Neuron(1, 5), refinement=1),
    "fact": lambda query: query.fact(1, refinement=1),
    "neurons of a fact": lambda query: query.neurons_of_fact(1, refinement=1),
    "consistency": lambda query: query.consistency(refinement=1),
    "collateral": lambda query: query.collateral([Neuron(1, 5)], refinement=1),
    "compare": lambda query: query.compare(1, 2),
}


@pytest.fixture(scope="module")
def refined(ready, tmp_path_factory):
    """A database with two refinements; ready has the attribution alone."""
    import shutil

    from kndb.database import open_database

    folder = tmp_path_factory.mktemp("plans")
    shutil.copytree(ready["bert"], folder, dirs_exist_ok=True)
    with open_database(folder / "kndb.db") as database:
        database.attribution.refine()
        database.attribution.refine(threshold=0.3)
        yield database


def scans(database, ask):
    """The steps of the question's statements that read far more than was asked for; and all steps."""
    statements = {}
    engine = database.store._engine

    def remember(_connection, _cursor, statement, parameters, *_rest):
        statements[statement] = parameters

    event.listen(engine, "before_cursor_execute", remember)
    try:
        ask()
    finally:
        event.remove(engine, "before_cursor_execute", remember)
    steps = []
    with database.store.reading() as connection:
        for statement, parameters in statements.items():
            if re.match(r"\s*(SELECT|WITH)\b", statement) and not statement.endswith("LIMIT 1"):
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                steps += [str(row[3]) for row in rows]
    return [step for step in steps if FULL_SCAN.match(step)], steps


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_reads_no_whole_run(refined, name):
    found, steps = scans(refined, lambda: QUESTIONS[name](refined.query))
    assert found == []
    assert steps


def test_refining_reads_the_scores_of_one_relation_at_a_time(refined):
    from kndb.store.refinements import candidates

    def ask():
        with refined.store.reading() as connection:
            candidates(connection, 1, 1, 0.2)

    found, steps = scans(refined, ask)
    assert found == []
    assert any(step.startswith("SEARCH score USING PRIMARY KEY (run_id=? AND prompt_id=?") for step in steps)


def test_refining_one_relation_looks_up_its_facts_alone(refined):
    found, steps = scans(refined, lambda: refined.attribution.refine(1, relations=["P36"]))
    assert found == []
    assert any(step.startswith("SEARCH result USING PRIMARY KEY (run_id=? AND prompt_id=?)") for step in steps)


def test_who_shares_a_neuron_is_read_from_an_index_alone(refined):
    _, steps = scans(refined, lambda: refined.query.shared(["P36"], refinement=1))
    index = "ix_relation_neuron_refinement_id_layer_neuron_relation_id_facts"
    assert any(step.startswith(f"SEARCH holder USING COVERING INDEX {index}") for step in steps), steps


def test_a_full_scan_is_seen(refined):
    found, _ = scans(refined, lambda: ask_everything(refined))
    assert len(found) == 2


def ask_everything(database):
    with database.store.reading() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM score WHERE score > 0.5").all()
        connection.exec_driver_sql("SELECT count(*) FROM prompt_result WHERE run_id = 1 AND correct").all()
