"""Facts that a model knows on a share of their prompts: counted with plain transformers, the same wherever drawn."""

import re

import pytest
from plain_answers import whole
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

import kndb
from kndb.errors import EditError, UsageError
from kndb.records.edit_settings import TrialSettings

AUTO = {"bert": AutoModelForMaskedLM, "gpt2": AutoModelForCausalLM}
FINETUNE = kndb.bench_method("finetune", {"steps": 1})
NONSENSE = ("Ask [X] about [Y].", "Hot [X] sings [Y].")
"""Templates that no model of the tests was trained on."""


@pytest.fixture
def database(fresh, family, small_facts, tmp_path):
    """A database with the small facts, templates that are answered by chance, and model `tiny` of each family."""
    own = "".join(f'{{"relation": "{key}", "template": "{text}"}}\n' for key in ("P36", "P37") for text in NONSENSE)
    path = tmp_path / "facts.jsonl"
    path.write_text(small_facts.read_text(encoding="utf-8") + own, encoding="utf-8")
    return fresh(family, path)


@pytest.fixture
def shares(database, family, sql, small_models):
    """The share of each fact's prompts, held-out ones included, that plain transformers answer with its object."""
    model = AUTO[family].from_pretrained(small_models[family]).eval()
    tokenizer = AutoTokenizer.from_pretrained(small_models[family])
    rows = sql(database, "SELECT fact.id, fact.object, prompt.text FROM prompt JOIN fact ON fact.id = fact_id")
    answered = {}
    for number, answer, text in rows:
        answered.setdefault(number, []).append(all(whole(model, tokenizer, family, text, answer)[1]))
    assert {len(flags) for flags in answered.values()} == {8}
    found = {number: sum(flags) / len(flags) for number, flags in answered.items()}
    assert len(set(found.values())) > 1
    return found


def edited(database, monkeypatch, known):
    """The facts that a comparison edits."""
    from kndb.database.edits.comparison import Comparison

    drawn = []

    def kept(self, *_):
        drawn.append([target.fact.id for target in self.facts.targets])
        return iter(())

    monkeypatch.setattr(Comparison, "cells", kept)
    settings = TrialSettings(facts=16, intra=2, inter=2, relations=["P36", "P37"], known=known)
    database.trials.compare("tiny", [FINETUNE], settings, sizes=[1])
    monkeypatch.undo()
    return drawn[0]


def test_both_draw_the_facts_that_are_known_on_so_many_prompts(database, shares, monkeypatch):
    for least in sorted(set(shares.values())):
        known = {number for number, share in shares.items() if share >= least}
        assert set(edited(database, monkeypatch, least)) == known
        cases = database.edits.cases("tiny", settings=kndb.CaseSettings(count=16, known=least)).cases
        named = {(fact.relation, fact.subject) for fact in map(database.facts.get, known)}
        assert {(case.relation, case.subject) for case in cases} == named


def test_too_few_known_facts_name_the_share_that_finds_enough(database, shares):
    ordered = sorted(shares.values(), reverse=True)
    count = sum(share == ordered[0] for share in ordered) + 1
    settings = {"intra": 2, "inter": 2, "relations": ["P36", "P37"]}
    with pytest.raises(EditError, match=r"tiny knows too few facts of P36, P37: on 100 % of their prompts") as failed:
        database.trials.compare("tiny", [FINETUNE], TrialSettings(facts=16, known=1, **settings), sizes=[1, count])
    assert f"it answers {sum(share == 1 for share in ordered)} of the {count} facts to edit" in str(failed.value)
    # Nothing was begun.
    assert list(database.trials.all()) == []
    advised = float(re.search(r"known=([0-9.]+) finds enough", str(failed.value))[1])
    assert ordered[count - 1] - 0.001 <= advised <= ordered[count - 1]
    trial = database.trials.compare(
        "tiny", [FINETUNE], TrialSettings(facts=16, known=advised, **settings), sizes=[1, count]
    )
    assert trial.status == "complete"
    assert {row.edits for row in database.trials.table(trial.id)} == {1, count}


def test_where_no_share_finds_enough_the_message_says_what_there_is(fresh, write_facts):
    rows = [{"relation": "P36", "template": "The capital of [X] is [Y]."}]
    rows += [{"relation": "P36", "subject": name, "object": "Oslo"} for name in ("France", "Peru")]
    rows += [{"relation": "P36", "subject": "Norway", "object": "Lima"}]
    database = fresh("bert", write_facts(*rows))

    def compare(known):
        database.trials.compare("tiny", [FINETUNE], TrialSettings(facts=9, relations=["P36"], known=known), sizes=[2])

    with pytest.raises(EditError, match="it answers none of them on any prompt; leave out known, or name"):
        compare(0.5)
    right = fresh("bert", write_facts(*rows, {"relation": "P36", "subject": "Spain", "object": "Madrid"}))
    database = right
    with pytest.raises(EditError, match=r"it answers 1 of the 2 facts to edit; no lower share finds more than 1; name"):
        compare(0.5)


@pytest.mark.parametrize("family", ["bert"])
def test_older_trials_are_read_with_shares(refined, sql):
    settings = TrialSettings(facts=1, intra=2, inter=2, relations=["P37"])
    trial = refined.trials.compare("tiny", [FINETUNE], settings, sizes=[1])
    assert trial.settings["known"] == 0.0
    with refined.store.writing() as connection:
        connection.exec_driver_sql("UPDATE edit_trial SET settings = json_set(settings, '$.known', json('false'))")
    assert type(refined.trials.get(trial.id).settings["known"]) is float
    # Goes on: whether facts had to be known has not changed.
    assert refined.trials.compare("tiny", [FINETUNE], settings, sizes=[1]).id == trial.id
    with refined.store.writing() as connection:
        connection.exec_driver_sql("UPDATE edit_trial SET settings = json_set(settings, '$.known', json('true'))")
    assert refined.trials.get(trial.id).settings["known"] == 1.0
    # Held-out prompts did not count then, so that these may be other facts.
    strict = TrialSettings(facts=1, intra=2, inter=2, relations=["P37"], known=0.1)
    assert refined.trials.compare("tiny", [FINETUNE], strict, sizes=[1]).id != trial.id


def test_shares_are_from_0_to_1():
    for made in (TrialSettings, kndb.CaseSettings):
        for wrong in (-0.1, 1.1, float("nan")):
            with pytest.raises(UsageError, match=r"known must be a number from 0 to 1 \(got"):
                made(known=wrong)
