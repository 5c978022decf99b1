"""`refine` against the definition, recomputed in plain Python from the stored scores."""

import json
import random
from collections import defaultdict
from decimal import Decimal

import pytest

from kndb.database import open_database
from kndb.errors import AttributionError

STEP, SMALLEST, LARGEST = Decimal("0.05"), 2, 5


def by_definition(database, sql, run, *, threshold, share, min_prompts, adapt, negative=False):
    """For each relation: the share used, passes, and {(fact, layer, neuron): (prompts, mean score)}."""
    prompts = sql(
        database,
        f"SELECT relation.key, fact.id, prompt.id, {'-min_score' if negative else 'max_score'} FROM prompt_result"
        " JOIN prompt ON prompt.id = prompt_id JOIN fact ON fact.id = fact_id"
        " JOIN relation ON relation.id = relation_id"
        " WHERE run_id = ? AND max_score IS NOT NULL",
        run,
    )
    scores = defaultdict(list)
    for prompt, layer, neuron, score in sql(
        database, "SELECT prompt_id, layer, neuron, score FROM score WHERE run_id = ?", run
    ):
        scores[prompt].append((layer, neuron, score))
    sign = -1 if negative else 1
    relations = defaultdict(lambda: defaultdict(list))
    for key, fact, prompt, largest in prompts:
        coarse = {
            (layer, neuron): score for layer, neuron, score in scores[prompt] if sign * score >= threshold * largest > 0
        }
        relations[key][fact].append(coarse)
    return {key: adapted(facts, Decimal(str(share)), min_prompts, adapt) for key, facts in sorted(relations.items())}


def adapted(facts, share, min_prompts, adapt):
    passes = 0
    kept = refined(facts, share, min_prompts)
    while adapt and passes < 6:
        mean = len(kept) / len(facts)
        moved = share
        if mean < SMALLEST:
            moved = max(STEP, share - STEP)
        elif mean > LARGEST:
            moved = min(Decimal(1), share + STEP)
        if moved == share:
            break
        share, passes = moved, passes + 1
        kept = refined(facts, share, min_prompts)
    return share, passes, kept


def refined(facts, share, min_prompts):
    kept = {}
    for fact, coarse_sets in facts.items():
        found = defaultdict(list)
        for coarse in coarse_sets:
            for neuron, score in coarse.items():
                found[neuron].append(score)
        needed = max(share * len(coarse_sets), min(min_prompts, len(coarse_sets)))
        for neuron, held in found.items():
            if len(held) >= needed:
                kept[(fact, *neuron)] = (len(held), sum(held) / len(held))
    return kept


def check(database, sql, run, settings):
    expected = by_definition(database, sql, run, **settings)
    refinement = database.attribution.refine(run, **settings)
    assert refinement.run_id == run
    assert dict(refinement.settings) == {"negative": False, **settings}
    assert [outcome.relation for outcome in refinement.relations] == list(expected)
    rows = sql(
        database,
        "SELECT fact_id, layer, neuron, prompts, mean_score FROM knowledge_neuron WHERE refinement_id = ?",
        refinement.id,
    )
    found = {(fact, layer, neuron): (prompts, mean) for fact, layer, neuron, prompts, mean in rows}
    every = {}
    for outcome in refinement.relations:
        share, passes, kept = expected[outcome.relation]
        every |= kept
        assert (outcome.share, outcome.passes) == (float(share), passes)
        assert outcome.facts_with_neurons == len({fact for fact, _, _ in kept})
        assert outcome.mean_size == pytest.approx(len(kept) / outcome.facts)
    assert found.keys() == every.keys()
    assert {place: prompts for place, (prompts, _) in found.items()} == {
        place: prompts for place, (prompts, _) in every.items()
    }
    for place, (_, mean) in found.items():
        assert mean == pytest.approx(every[place][1], rel=1e-12)
    facts = sum(outcome.facts for outcome in refinement.relations)
    count, mean_count = database.query.neuron_counts(refinement.id)
    assert (count, mean_count) == (len(every), pytest.approx(len(every) / facts))
    return refinement


@pytest.mark.parametrize("adapt", [True, False])
@pytest.mark.parametrize(
    ("threshold", "share", "min_prompts"), [(0.2, 0.7, 3), (0.1, 0.05, 1), (0.5, 0.4, 2), (1.0, 1.0, 5), (0.3, 0.6, 9)]
)
def test_refine_a_run(attributed, sql, family, threshold, share, min_prompts, adapt):
    settings = {"threshold": threshold, "share": share, "min_prompts": min_prompts, "adapt": adapt}
    check(attributed(family), sql, 1, settings)


@pytest.mark.parametrize("threshold", [0.1, 0.2, 1.0])
def test_refine_the_lowest_scores(attributed, sql, family, threshold):
    database = attributed(family)
    run = database.attribution.run("tiny", negative=True).run.id
    settings = {"threshold": threshold, "share": 0.7, "min_prompts": 3, "adapt": True, "negative": True}
    refinement = check(database, sql, run, settings)
    means = sql(database, "SELECT max(mean_score) FROM knowledge_neuron WHERE refinement_id = ?", refinement.id)
    assert means[0][0] < 0
    check(database, sql, run, {**settings, "negative": False})


def test_refine_one_relation(attributed, sql):
    """Its sets are those of the refinement of all; of other relations there are none."""
    database = attributed()
    query = (
        "SELECT relation.key, fact_id, layer, neuron, prompts, mean_score FROM knowledge_neuron"
        " JOIN fact ON fact.id = fact_id JOIN relation ON relation.id = relation_id WHERE refinement_id = ?"
    )
    whole = database.attribution.refine()
    keys = [outcome.relation for outcome in whole.relations]
    assert len(keys) > 1
    for key in keys:
        one = database.attribution.refine(relations=[key])
        assert one.relations == tuple(outcome for outcome in whole.relations if outcome.relation == key)
        assert sql(database, query, one.id) == [row for row in sql(database, query, whole.id) if row[0] == key]
    assert database.attribution.refine(relations=keys).relations == whole.relations


def test_a_relation_that_was_not_attributed_can_not_be_refined(attributed):
    database = attributed()
    with database.store.writing() as connection:
        connection.exec_driver_sql("INSERT INTO relation (key) VALUES ('P9')")
    with pytest.raises(AttributionError, match="run 1 has no attributed prompts of P9 to refine"):
        database.attribution.refine(relations=["P9"])


def test_lowest_scores_that_were_not_kept_can_not_be_refined(attributed, sql):
    database = attributed()
    with pytest.raises(AttributionError, match=r"run 1 kept no scores below zero.*negative=True"):
        database.attribution.refine(1, negative=True)
    assert database.query.refinements() == []


@pytest.fixture
def drawn(tmp_path):
    """A database whose scores are drawn at random: facts of 1 to 12 prompts, prompts without scores, skipped ones."""
    databases = []

    def draw(seed, neurons):
        chance = random.Random(seed)
        database = open_database(tmp_path / f"{seed}-{neurons}.db")
        databases.append(database)
        with database.store.writing() as connection:
            execute = connection.exec_driver_sql
            execute("INSERT INTO model VALUES (1, 'tiny', 'x', 'f', 'bert', 2, 20, 'v', 'now', NULL)")
            run = "(1, 1, 'v', 'integrated-gradients', ?, 'complete', 'now', 'now')"
            execute(f"INSERT INTO run VALUES {run}", (json.dumps({"floor": 0.1, "negative": True}),))
            for number in (1, 2):
                execute("INSERT INTO relation VALUES (?, ?, NULL)", (number, f"P{number}"))
            prompt = 0
            for fact in range(1, 25):
                execute("INSERT INTO fact VALUES (?, ?, ?, 'o', NULL, 's')", (fact, 1 + fact % 2, f"s{fact}"))
                for _ in range(chance.choice([1, 2, 3, 10, 12])):
                    prompt += 1
                    execute("INSERT INTO prompt VALUES (?, ?, NULL, ?)", (prompt, fact, f"t{prompt}"))
                    skipped = chance.random() < 0.1
                    largest = None if skipped else chance.choice([0.0, 0.5, 1.0, 1.0, 1.0])
                    lowest = None if skipped else chance.choice([0.0, -0.25, -1.0, -1.0])
                    values = "(1, ?, 0.5, 'x', 0.5, 1, 0, 0, ?, 4, 5, ?, 1, ?, NULL, NULL)"
                    row = (prompt, largest, "no" if skipped else None, lowest)
                    execute(f"INSERT INTO prompt_result VALUES {values}", row)
                    for neuron in chance.sample(range(neurons), neurons // 2):
                        extreme = lowest if neuron % 4 > 1 else largest
                        if extreme:
                            # Grid values: thresholds and shares are met exactly, too.
                            score = extreme * chance.randint(2, 20) / 20
                            execute("INSERT INTO score VALUES (1, ?, ?, ?, ?)", (prompt, neuron % 2, neuron, score))
        return database

    yield draw
    for database in databases:
        database.close()


@pytest.mark.parametrize("neurons", [4, 12, 40])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("negative", [False, True])
def test_refine_random_scores(drawn, sql, neurons, seed, negative):
    database = drawn(seed, neurons)
    ways = set()
    for threshold in (0.1, 0.2, 0.5):
        for share in (0.7, 0.3):
            for adapt in (True, False):
                settings = {
                    "threshold": threshold,
                    "share": share,
                    "min_prompts": 3,
                    "adapt": adapt,
                    "negative": negative,
                }
                refinement = check(database, sql, 1, settings)
                ways |= {outcome.share > share for outcome in refinement.relations if outcome.passes}
    assert ways  # the share had to be moved somewhere
    numbers = [refinement.id for refinement in database.query.refinements()]
    assert numbers == list(range(1, 13))  # refinements of one run live side by side


def test_the_newest_run_is_refined(attributed, sql):
    database = attributed()
    database.attribution.run("tiny", floor=0.3)
    assert database.attribution.refine(threshold=0.3).run_id == 2
    assert database.attribution.refine(1).run_id == 1
    assert database.attribution.refine(model="tiny", threshold=0.5).run_id == 2
