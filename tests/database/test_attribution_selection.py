"""Which facts an attribution takes: the first, random ones, those of subjects and numbers, and free prompts."""

import json

import pytest

from kndb.cli.main import exit_code
from kndb.database import check_database, open_database
from kndb.errors import AttributionError, NotFoundError, UsageError
from kndb.store import runs as store_runs
from kndb.store.selection import Selection, select_facts

PROMPTS = """
SELECT fact_id, COUNT(*) FROM prompt_result JOIN prompt ON prompt.id = prompt_id WHERE run_id = ? GROUP BY fact_id
"""
CHOSEN = "SELECT fact_id FROM run_fact WHERE run_id = ? ORDER BY 1"


def attributed_facts(database, sql, run=1):
    return dict(sql(database, PROMPTS, run))


# --- chosen facts ------------------------------------------------------------------------------------------------


def test_the_first_facts_are_taken_whole_and_can_be_refined(fresh, sql):
    database = fresh()
    report = database.attribution.run("tiny", facts=3)
    assert (report.facts, report.attributed, report.run.status) == (3, 15, "complete")
    assert attributed_facts(database, sql) == {1: 5, 2: 5, 3: 5}
    refinement = database.attribution.refine()
    assert [(one.relation, one.facts) for one in refinement.relations] == [("P36", 3)]


def test_a_full_command_goes_on_with_what_was_chosen_before(fresh, attributed, sql):
    database = fresh()
    database.attribution.run("tiny", facts=3)
    report = database.attribution.run("tiny")
    assert (report.run.id, report.attributed, report.already_done, report.run.status) == (1, 65, 15, "complete")
    keys = "SELECT run_id, prompt_id, layer, neuron FROM score ORDER BY 1, 2, 3, 4"
    assert sql(database, keys) == sql(attributed(), keys)


def test_the_first_facts_of_a_relation(fresh, sql):
    database = fresh()
    assert database.attribution.run("tiny", relations=["P37"], facts=2).attributed == 10
    numbers = [fact.id for fact in database.facts.find(["P37"])]
    assert list(attributed_facts(database, sql)) == numbers[:2]
    # Fewer than asked for are all.
    assert database.attribution.run("tiny", relations=["P37"], facts=100).facts == len(numbers) == 8


def test_samples_are_seeded_and_a_larger_one_holds_the_smaller(fresh, sql):
    database = fresh()

    def drawn(number, seed):
        with database.store.reading() as connection:
            return set(select_facts(connection, Selection(sample=number, seed=seed), held_out=False))

    assert len(drawn(5, 0)) == 5
    assert drawn(5, 0) == drawn(5, 0) < drawn(9, 0) < drawn(16, 0) == drawn(99, 0)
    assert len({frozenset(drawn(5, seed)) for seed in range(20)}) > 10
    every = [fact for seed in range(200) for fact in drawn(4, seed)]
    assert all(20 < every.count(fact) < 90 for fact in range(1, 17))  # 50 each, were it exactly even
    assert database.attribution.run("tiny", sample=5, seed=3).run.status == "complete"
    assert set(attributed_facts(database, sql)) == drawn(5, 3)


def test_the_choice_is_no_setting(fresh):
    database = fresh()
    for choice in ({"facts": 1}, {"sample": 2, "seed": 4}, {"subjects": ["Peru"]}, {"fact_ids": [3]}):
        report = database.attribution.run("tiny", **choice, batch_size=2)
        assert report.run.id == 1
        assert report.run.status == "complete"


def test_subjects_and_numbers(fresh, sql):
    database = fresh()
    report = database.attribution.run("tiny", subjects=["Peru", "Cuba"])
    assert (report.facts, report.attributed) == (4, 20)
    subjects = {database.facts.get(fact).subject for fact in attributed_facts(database, sql)}
    assert subjects == {"Peru", "Cuba"}
    report = database.attribution.run("tiny", subjects=["Peru"], relations=["P37"])
    assert (report.facts, report.already_done) == (1, 5)
    report = database.attribution.run("tiny", fact_ids=[1, 2])
    assert (report.facts, report.attributed) == (2, 10)


def test_choices_that_choose_nothing_say_what_there_is(fresh):
    run = fresh().attribution.run
    with pytest.raises(NotFoundError, match=r"subjects=\['peru'\]: .*the nearest are 'Peru'"):
        run("tiny", subjects=["peru"])
    with pytest.raises(NotFoundError, match=r"subjects=\['Atlantis'\]: .*none is near"):
        run("tiny", subjects=["Atlantis"])
    with pytest.raises(NotFoundError, match=r"fact_ids=\[99\]: no fact has this number; the nearest are 14, 15 and 16"):
        run("tiny", fact_ids=[99])
    with pytest.raises(UsageError, match=r"fact_ids=\[1\] is of relation P36, and relations names P37"):
        run("tiny", fact_ids=[1], relations=["P37"])
    with pytest.raises(UsageError, match=r"facts must be at least 1 \(got 0\)"):
        run("tiny", facts=0)
    with pytest.raises(UsageError, match="facts takes the first facts and sample random ones"):
        run("tiny", facts=1, sample=1)
    with pytest.raises(AttributionError, match="none of the chosen facts has prompts"):
        run("tiny", subjects=["Peru"], fact_ids=[1])


def test_a_stopped_choice_leaves_the_run_open_until_it_is_done(fresh, sql, monkeypatch):
    database = fresh()
    save, left = store_runs.save_results, [2]

    def saving(*arguments):
        if not left[0]:
            raise AttributionError("stopped")
        left[0] -= 1
        save(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(store_runs, "save_results", saving)
        with pytest.raises(AttributionError, match="stopped"):
            database.attribution.run("tiny", facts=4, batch_size=3)
    done = sum(attributed_facts(database, sql).values())
    assert 0 < done < 20
    assert sql(database, CHOSEN, 1) == [(1,), (2,), (3,), (4,)]
    # Other facts are done; those that were chosen first are not, even where nothing of them was begun.
    report = database.attribution.run("tiny", fact_ids=[16])
    assert report.run.status == "running"
    assert report.unfinished == {"P36": 20 - done}
    with pytest.raises(AttributionError, match="not complete"):
        database.attribution.refine()
    report = database.attribution.run("tiny", facts=4)
    assert (report.attributed, report.already_done, report.run.status) == (20 - done, done, "complete")
    assert database.attribution.refine().relations


def test_facts_added_later_do_not_open_a_run(fresh, write_facts):
    database = fresh()
    database.attribution.run("tiny", relations=["P36"])
    database.facts.ingest([write_facts({"relation": "P36", "subject": "Chile", "object": "Lima"})])
    report = database.attribution.run("tiny", relations=["P37"])
    assert (report.run.status, report.unfinished) == ("complete", {})
    assert database.attribution.run("tiny").attributed == 5


def test_imported_results_say_which_facts_were_asked_for(attributed, fresh, sql, tmp_path):
    database = attributed()
    database.exchange.export_scores(tmp_path / "scores.jsonl", relations=["P36"])
    other = fresh()
    other.exchange.import_scores(tmp_path / "scores.jsonl")
    assert sql(other, CHOSEN, 1) == [(number,) for number in range(1, 9)]
    report = other.attribution.run("tiny", facts=9)
    assert (report.run.id, report.already_done, report.attributed, report.run.status) == (1, 40, 5, "complete")


# --- free prompts ------------------------------------------------------------------------------------------------

FRANCE = "The capital of France is [Y]."


def test_free_prompts_are_one_fact_that_can_be_refined(fresh, family, sql):
    database = fresh(family)
    ask = database.attribution.run
    report = ask("tiny", prompts=["The seat of government of France is [MASK].", FRANCE], answer="Paris")
    assert (report.facts, report.attributed, report.run.status) == (1, 2, "complete")
    fact = database.facts.get(report.free_fact)
    assert (fact.relation, fact.subject, fact.object) == (
        "free-prompts",
        "The seat of government of France is ….",
        "Paris",
    )
    assert sql(database, "SELECT text FROM prompt WHERE fact_id = ? ORDER BY id", fact.id) == [
        ("The seat of government of France is [Y].",),
        (FRANCE,),
    ]
    refinement = database.attribution.refine()
    assert [(one.relation, one.facts) for one in refinement.relations] == [("free-prompts", 1)]
    found = database.query.fact(fact.id, refinement=refinement.id)
    assert [prompt.coarse_set is not None for prompt in found.prompts] == [True, True]
    # The largest scores, against the scores themselves.
    rows = sql(
        database,
        "SELECT layer, neuron, SUM(score) FROM score GROUP BY layer, neuron ORDER BY 3 DESC LIMIT 5",
    )
    top = database.attribution.top_scores(report.run.id, fact.id, top=5)
    assert [(one.layer, one.neuron) for one in top] == [row[:2] for row in rows]
    assert [one.mean_score * one.prompts for one in top] == pytest.approx([row[2] for row in rows])
    assert check_database(database.store.path).sound


def test_the_same_prompt_and_answer_is_the_same_fact(fresh, sql):
    database = fresh()
    first = database.attribution.run("tiny", prompts=[FRANCE], answer="Paris")
    again = database.attribution.run("tiny", prompts=["The capital of France is [MASK]. "], answer=" Paris")
    assert (again.free_fact, again.attributed, again.already_done) == (first.free_fact, 0, 1)
    more = database.attribution.run("tiny", prompts=["In France, [Y] is the capital.", FRANCE, FRANCE], answer="Paris")
    assert (more.free_fact, more.attributed, more.already_done) == (first.free_fact, 1, 1)
    other = database.attribution.run("tiny", prompts=[FRANCE], answer="Rome")
    assert other.free_fact != first.free_fact
    assert database.facts.get(other.free_fact).subject == database.facts.get(first.free_fact).subject


def test_a_causal_model_takes_a_prompt_that_just_ends(fresh, sql):
    database = fresh("gpt2")
    report = database.attribution.run("tiny", prompts=["The capital of France is"], answer="Paris")
    assert report.attributed == 1
    assert sql(database, "SELECT text FROM prompt WHERE fact_id = ?", report.free_fact) == [
        ("The capital of France is [Y]",)
    ]
    with pytest.raises(UsageError, match=r"can't be asked: the blank is not the end"):
        database.attribution.run("tiny", prompts=["In [Y], France has its capital."], answer="Paris")
    assert len(database.facts.find(["free-prompts"])) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": [FRANCE]}, r"prompts=\[TEXT\] needs answer, as in: db.attribution.run"),
        ({"prompts": [FRANCE], "answer": "  "}, r"prompts=\[TEXT\] needs answer"),
        ({"answer": "Paris"}, "answer is the answer to free prompts: it needs prompts="),
        (
            {"prompts": [FRANCE], "answer": "Paris", "facts": 3},
            "leave out relations, facts, sample, subjects and fact_ids",
        ),
        ({"prompts": [FRANCE], "answer": "Paris", "relations": ["P36"]}, "leave out relations, facts"),
        ({"prompts": ["No blank."], "answer": "Paris"}, "'No blank.' has 0 blanks.*db.attribution.run.*prompts="),
        ({"prompts": ["[X] is [Y]."], "answer": "Paris"}, r"without \[X\]"),
        ({"prompts": [FRANCE], "answer": "Par\nis"}, "one printable line"),
    ],
)
def test_free_prompts_that_make_no_sense_store_nothing(fresh, sql, options, message):
    database = fresh()
    with pytest.raises(UsageError, match=message):
        database.attribution.run("tiny", **options)
    assert sql(database, "SELECT COUNT(*) FROM fact") == [(16,)]


def test_free_prompts_go_out_and_in_as_an_own_list(fresh, tmp_path):
    database = fresh()
    number = database.attribution.run("tiny", prompts=[FRANCE], answer="Paris").free_fact
    database.exchange.export_facts(tmp_path / "facts.jsonl")
    with open_database(tmp_path / "other.db") as other:
        assert other.facts.ingest([tmp_path / "facts.jsonl"]).facts_added == 17
        assert other.facts.get(number).title == database.facts.get(number).title


def test_free_prompts_of_a_lab_model_need_no_database(tmp_path, capfd):
    place = str(tmp_path / "new.db")
    words = ["attribute", "--model", "lab-bert", "--prompt", "The capital of France is [MASK].", "--answer", "Paris"]
    assert exit_code([*words, "--format", "json", "--db", place]) == 0
    printed = capfd.readouterr()
    report = json.loads(printed.out)
    assert (report["attributed"], report["above_tolerance"], report["facts"]) == (1, 0, 1)
    assert len(report["largest_scores"]) == 10
    assert f"kndb refine --run 1 --db {place}, then: kndb query fact 1 --db {place}" in printed.err
    assert exit_code([*words, "--db", place]) == 0
    assert "Largest scores" in capfd.readouterr().out
    assert exit_code(["attribute", "--model", "other", "--prompt", "a [Y]", "--answer", "b", "--db", f"{place}2"]) == 4
