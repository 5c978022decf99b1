"""`query fact` and `query consistency` against the definitions, in plain Python over the tables' rows."""

import statistics

import numpy as np
import pytest
from coarse_sets import Rows

from kndb.database import open_database
from kndb.errors import AttributionError, NotFoundError, UsageError


@pytest.fixture(params=["bert", "gpt2", "negative"])
def refined(request, attributed):
    """A database and its refinement: of each family, and of scores below zero."""
    negative = request.param == "negative"
    database = attributed("bert" if negative else request.param)
    if negative:
        database.attribution.run("tiny", negative=True, relations=["P36"])
    refinement = database.attribution.refine(threshold=0.3, negative=negative)
    assert refinement.settings["negative"] == negative
    return database, refinement.id, Rows(database.store.path, refinement.id)


def test_prompts(refined, sql):
    database, refinement, rows = refined
    run = database.query.refinement(refinement).run_id
    for fact in database.facts.find():
        found = database.query.fact(fact.id, refinement=refinement)
        expected = sql(
            database,
            "SELECT id, text, probability, predicted, correct, completeness_error FROM prompt"
            " LEFT JOIN prompt_result ON prompt_id = prompt.id AND run_id = ? WHERE fact_id = ? ORDER BY id",
            run,
            fact.id,
        )
        assert found.fact == fact
        assert [
            (row.prompt, row.text, row.probability, row.predicted, row.correct, row.completeness_error)
            for row in found.prompts
        ] == expected
        sizes = {prompt: len(members) for prompt, members in rows.coarse.get(fact.id, {}).items()}
        assert {row.prompt: row.coarse_set for row in found.prompts if row.coarse_set is not None} == sizes
        held_out = [row for row in found.prompts if row.held_out]
        assert len(held_out) == 1
        assert held_out[0].probability is None


def test_votes(refined):
    database, refinement, rows = refined
    kept_somewhere = 0
    for fact, relation in rows.relation.items():
        found = database.query.fact(fact, refinement=refinement)
        coarse = rows.coarse.get(fact, {})
        scores = {}
        for members in coarse.values():
            for place, score in members.items():
                scores.setdefault(place, []).append(score)
        assert {(row.layer, row.neuron): row.prompts for row in found.votes} == {
            place: len(some) for place, some in scores.items()
        }
        assert found.neurons == len(rows.refined[fact]) == sum(row.kept for row in found.votes)
        assert found.share == rows.share.get(relation)
        for row in found.votes:
            assert row.mean_score == pytest.approx(statistics.fmean(scores[row.layer, row.neuron]))
            assert row.needed == pytest.approx(max(found.share * len(coarse), min(3, len(coarse))))
            assert row.kept == ((row.layer, row.neuron) in rows.refined[fact]) == (row.prompts >= row.needed)
        votes = [row.prompts for row in found.votes]
        assert votes == sorted(votes, reverse=True)
        kept_somewhere += found.neurons
    assert kept_somewhere > 10


def test_nearest_facts(refined):
    database, refinement, rows = refined
    refined_sets = rows.refined
    for fact, own in refined_sets.items():
        expected = sorted(
            (-len(own & other), -len(own & other) / len(own | other), number)
            for number, other in refined_sets.items()
            if number != fact and own & other
        )
        for nearest in (1, 3, 100):
            found = database.query.fact(fact, refinement=refinement, nearest=nearest).nearest
            assert [(-row.shared, -row.jaccard, row.fact) for row in found] == expected[:nearest]
        assert all((row.relation, row.subject) == naming(database, row.fact) for row in found)


def naming(database, number):
    fact = database.facts.get(number)
    return fact.relation, fact.subject


def test_consistency_of_each_fact_and_relation(refined):
    database, refinement, rows = refined
    values = {}
    for fact, relation in rows.relation.items():
        expected = rows.consistency(fact)
        assert database.query.fact(fact, refinement=refinement).consistency == pytest.approx(expected)
        if expected is not None:
            values.setdefault(relation, []).append(expected)
    told = []
    found = database.query.consistency(refinement=refinement, progress=lambda done, total: told.append((done, total)))
    everything = [value for some in values.values() for value in some]
    assert [row.relation for row in found] == [*sorted(values), None]
    for row, some in zip(found, [*(values[key] for key in sorted(values)), everything], strict=True):
        quartiles = np.quantile(some, [0.25, 0.5, 0.75])
        assert row.facts == len(some)
        assert (row.first_quartile, row.median, row.third_quartile) == pytest.approx(tuple(quartiles))
        assert row.mean == pytest.approx(np.mean(some))
    assert told[-1] == (len(rows.share), len(rows.share))
    one = database.query.consistency(["P36", "P36"], refinement=refinement)
    assert one[0] == found[0]
    assert [row.relation for row in one] == ["P36", None]


@pytest.fixture
def small(tmp_path):
    """A database made by hand: facts of three prompts, two prompts and one, with known coarse sets; and an import."""
    database = open_database(tmp_path / "small.db")
    with database.store.writing() as connection:
        execute = connection.exec_driver_sql
        execute("INSERT INTO model VALUES (1, 'other', '', '', 'unknown', 4, 20, 'unknown', 'now', NULL)")
        execute("INSERT INTO relation VALUES (1, 'P1', NULL), (2, 'P2', 'second'), (3, 'P3', NULL)")
        for fact, relation in ((1, 1), (2, 1), (3, 1), (4, 2), (7, 3)):
            execute("INSERT INTO fact VALUES (?, ?, ?, 'o', NULL, 's')", (fact, relation, f"s{fact}"))
        for run in (1, 2):
            execute("INSERT INTO run VALUES (?, 1, 'unknown', 'x', '{}', 'complete', 'now', 'now')", (run,))
        settings = '{"threshold": 0.5, "min_prompts": 3, "negative": false}'
        execute(
            "INSERT INTO refinement VALUES (1, 1, ?, 'now'), (2, 2, '{\"source\": \"elsewhere\"}', 'now')", (settings,)
        )
        execute("INSERT INTO refinement_relation VALUES (1, 1, 0.7, 0, 3, 1, 1), (1, 2, 0.7, 0, 1, 0, 0)")
        execute("INSERT INTO refinement_relation VALUES (2, 1, NULL, NULL, 2, 2, 1)")
        execute(
            "INSERT INTO knowledge_neuron VALUES (1, 1, 0, 5, 3, 1), (2, 1, 0, 5, NULL, NULL), (2, 2, 3, 1, 4, 0.5)"
        )
        # Fact 1 has the sets {5, 6}, {5}, {5, 7}; fact 2 empty ones; fact 3 one prompt; fact 4 {5} and an empty one.
        sets = {11: (5, 6), 12: (5,), 13: (5, 7), 21: (), 22: (), 31: (9,), 41: (5,), 42: ()}
        for prompt, members in sets.items():
            execute("INSERT INTO prompt VALUES (?, ?, NULL, ?)", (prompt, prompt // 10, f"{prompt} [Y]"))
            execute(
                "INSERT INTO prompt_result (run_id, prompt_id, max_score) VALUES (1, ?, ?)",
                (prompt, 1.0 if members else -1.0),
            )
            for neuron in members:
                execute("INSERT INTO score VALUES (1, ?, 0, ?, 1.0), (1, ?, 1, ?, 0.4)", (prompt, neuron) * 2)
        execute("INSERT INTO prompt VALUES (43, 4, NULL, 'skipped [Y]')")
        execute("INSERT INTO prompt_result (run_id, prompt_id, skipped) VALUES (1, 43, 'unknown-answer')")
    yield database
    database.close()


def test_sets_that_are_empty_or_alone(small):
    consistency = {fact: small.query.fact(fact, refinement=1).consistency for fact in (1, 2, 3, 4, 7)}
    assert consistency[1] == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 3)
    assert (consistency[2], consistency[3], consistency[4], consistency[7]) == (None, None, 0, None)
    found = small.query.consistency(refinement=1)
    assert [(row.relation, row.facts) for row in found] == [("P1", 1), ("P2", 1), (None, 2)]
    assert found[0].first_quartile == found[0].third_quartile == pytest.approx(consistency[1])
    assert small.query.consistency(["P3"], refinement=1) == []
    prompts = {row.prompt: row for row in small.query.fact(4, refinement=1).prompts}
    assert {number: row.coarse_set for number, row in prompts.items()} == {41: 1, 42: 0, 43: None}
    assert prompts[43].skipped == "unknown-answer"
    votes = small.query.fact(4, refinement=1).votes
    assert [(row.neuron, row.prompts, row.needed, row.kept) for row in votes] == [(5, 1, 2, False)]


def test_an_imported_refinement_without_scores(small):
    found = small.query.fact(1, refinement=2)
    assert (found.share, found.consistency, found.neurons) == (None, None, 1)
    assert [(row.layer, row.neuron, row.prompts, row.needed, row.kept) for row in found.votes] == [
        (0, 5, None, None, True)
    ]
    assert [row.coarse_set for row in found.prompts] == [None, None, None]
    assert small.query.fact(2, refinement=2).votes[0].mean_score == 0.5
    with pytest.raises(AttributionError, match="imported without the scores"):
        small.query.consistency(refinement=2)


def test_a_run_that_went_on_after_its_refinement(small):
    with small.store.writing() as connection:
        connection.exec_driver_sql("DELETE FROM score WHERE run_id = 1 AND neuron = 5")
    found = small.query.fact(1, refinement=1)
    assert [(row.neuron, row.prompts, row.kept) for row in found.votes] == [(5, 3, True), (6, 1, False), (7, 1, False)]


def test_what_can_not_be_asked(small):
    with pytest.raises(NotFoundError, match=r"no fact has the number 9; there are 1, 2, 3, 4 and 7"):
        small.query.fact(9, refinement=1)
    with pytest.raises(NotFoundError, match="refinement 9"):
        small.query.fact(1, refinement=9)
    with pytest.raises(NotFoundError, match="refinement 9"):
        small.query.consistency(refinement=9)
    with pytest.raises(NotFoundError, match="'P9'"):
        small.query.consistency(["P9"], refinement=1)
    with pytest.raises(UsageError, match="nearest must be at least 1"):
        small.query.fact(1, refinement=1, nearest=0)
    with pytest.raises(UsageError, match="larger than SQLite"):
        small.query.fact(2**70, refinement=1)
