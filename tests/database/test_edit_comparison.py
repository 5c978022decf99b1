"""Methods beside each other: against plain transformers, apart from what plans see, one cell after the other."""

import json

import pytest
from plain_answers import distribution, whole
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

import kndb
from kndb.database.edits.compared_facts import SAME_OBJECT, ComparedFacts
from kndb.database.edits.comparison import Comparison
from kndb.database.edits.known_facts import KnownShares
from kndb.editing.objects.slots import apply_object
from kndb.errors import EditError, KndbError, UsageError
from kndb.records.edit_settings import TrialSettings

AUTO = {"bert": AutoModelForMaskedLM, "gpt2": AutoModelForCausalLM}
SIZES = TrialSettings(facts=3, intra=6, inter=4, relations=["P37"])
UPDATE = kndb.bench_method("update", {"rule": "output", "lambda_old": 0.5, "lambda_new": 1.5, "max_share": 1.0})
TOGETHER = kndb.bench_method("together", {"steps": 4, "check": 2, "learning_rate": 0.3})
FINETUNE = kndb.bench_method("finetune", {"steps": 4})


@pytest.fixture
def database(refined):
    """A database of each family in turn, in which model `tiny` is refined."""
    return refined


def mean(values):
    return sum(values) / len(values)


def results(database, trial):
    with database.store.reading() as connection:
        query = "SELECT part, position, fact_id, measures FROM edit_trial_result WHERE trial_id = ? ORDER BY 1, 2"
        rows = connection.exec_driver_sql(query, (trial,)).all()
    return [(json.loads(part)["method"], size, fact, json.loads(found)) for part, size, fact, found in rows]


def without_costs(rows):
    return [
        (*row, {key: value for key, value in found.items() if key not in ("seconds", "memory")}) for *row, found in rows
    ]


def facts_of(database, settings=SIZES, refinement=1, *, one_token=True):
    version = database.models.load("tiny")
    shares = KnownShares(version, {})
    return ComparedFacts(database.store, version, refinement, settings, one_token=one_token, shares=shares)


def rows_of(sql, database):
    query = (
        "SELECT relation.key, fact.subject, fact.object, prompt.text, held_out, fact.id FROM prompt JOIN fact "
        "ON fact.id = fact_id JOIN relation ON relation.id = fact.relation_id JOIN template ON template.id "
        "= template_id"
    )
    return [tuple(row) for row in sql(database, query)]


def test_what_is_measured_is_what_the_edits_do(database, family, sql, small_models, monkeypatch):
    drafts = {}
    plan = Comparison._draft

    def kept(self, targets, method):
        found = plan(self, targets, method)
        drafts.setdefault((method.method, len(targets)), []).append(found.content)
        return found

    monkeypatch.setattr(Comparison, "_draft", kept)
    trial = database.trials.compare("tiny", [UPDATE, TOGETHER, FINETUNE], SIZES, sizes=[1, 3])
    assert (trial.kind, trial.status) == ("bench", "complete")
    monkeypatch.undo()
    facts = facts_of(database)
    new = {target.fact.id: target.to for target in facts.targets}
    tokenizer, rows = AutoTokenizer.from_pretrained(small_models[family]), rows_of(sql, database)
    before = AUTO[family].from_pretrained(small_models[family]).eval()
    found = {(method, size): measures for method, size, _, measures in results(database, trial.id)}
    assert set(found) == {(method, size) for method in ("update", "together", "finetune") for size in (1, 3)}
    for (method, size), measures in found.items():
        model = AUTO[family].from_pretrained(small_models[family]).eval()
        one_by_one = method == "update"
        for content in drafts[method, 1][:size] if one_by_one else drafts[method, size]:
            apply_object(dict(model.named_parameters()), content)
        own = [row for row in rows if row[5] in [target.fact.id for target in facts.targets[:size]]]
        for held_out, score, accuracy in ((0, "ES", "rewrite_acc"), (1, "PS", "rephrase_acc")):
            asked = [row for row in own if row[4] == held_out]
            said = [whole(model, tokenizer, family, row[3], new[row[5]]) for row in asked]
            old = [whole(model, tokenizer, family, row[3], row[2])[0] for row in asked]
            above = [mean(one) > mean(other) for (one, _), other in zip(said, old, strict=True)]
            assert measures["edited"][score][0] == pytest.approx(mean(above)), (method, size)
            assert measures["edited"][accuracy][0] == pytest.approx(mean([mean(tops) for _, tops in said]))
        asked = facts.asked(facts.targets[:size])
        texts = {prompt.id: prompt.text for prompt in prompts_by_number(database)}
        far = [texts[question.prompt.prompt_id] for question in asked.staying["inter"]]
        answers = [
            [int(distribution(one, tokenizer, family, text).argmax()) for text in far] for one in (before, model)
        ]
        same = mean([one == other for one, other in zip(*answers, strict=True)])
        assert measures["edited"]["locality"][0] == pytest.approx(same)
        assert measures["edited"]["flips_others"][0] == pytest.approx(1 - same)
        assert len({flip["fact"] for flip in measures["flips"] if flip["group"] == "inter"}) == (
            len({question.fact for question, a, b in zip(asked.staying["inter"], *answers, strict=True) if a != b})
        )
        assert measures["seconds"] > 0
        assert measures["memory"] > 0
        assert (measures["control"] != {}) is one_by_one


def prompts_by_number(database):
    from kndb.store import facts as store_facts

    with database.store.reading() as connection:
        return store_facts.prompts(connection)


def test_plans_see_nothing_that_is_measured(database, monkeypatch):
    seen = []
    plan, counted = Comparison._draft, []

    def kept(self, targets, method):
        found = plan(self, targets, method)
        seen.append((self.facts, set(getattr(found.content.recipe, "kept_facts", None) or ())))
        return found

    def count(store, version, layers, *, leaving_out, **others):
        counted.append(set(leaving_out))
        return count_keys(store, version, layers, leaving_out=leaving_out, **others)

    from kndb.database.edits.statistics import count_from_facts as count_keys

    monkeypatch.setattr(Comparison, "_draft", kept)
    for module in ("many", "comparison"):
        monkeypatch.setattr(f"kndb.database.edits.{module}.count_from_facts", count)
    methods = [
        kndb.bench_method("update", {"max_share": 1.0}),
        kndb.bench_method("optimize", {"steps": 1}),
        kndb.bench_method("together", {"steps": 1}),
        *(kndb.bench_method(name, {"target": {"steps": 1}}) for name in ("rome", "memit")),
    ]
    database.trials.compare("tiny", methods, SIZES, sizes=[2])
    facts = seen[0][0]
    every, edited = facts.numbers, {target.fact.id for target in facts.targets}
    assert any(kept for _, kept in seen)
    assert all(kept <= facts.for_plans for _, kept in seen)
    # Of rome once for all facts, of memit once.
    assert counted == [every - facts.for_plans] * 2
    assert not facts.for_plans & (facts.measured | edited)
    assert not facts.measured & edited
    prompts = prompts_by_number(database)
    texts = {number: {one.text for one in prompts if one.fact_id == number} for number in every}
    for number in facts.measured:
        assert not any(texts[number] & texts[other] for other in facts.for_plans)
    asked = facts.asked(facts.targets)
    assert {question.fact for questions in asked.staying.values() for question in questions} <= facts.measured


def test_facts_with_the_same_object_are_the_neighbourhood(database):
    facts = facts_of(database, TrialSettings(facts=3, intra=8, inter=4, relations=["P37"], share=0.0))
    asked = facts.asked(facts.targets)
    objects = {(target.fact.relation, target.fact.object) for target in facts.targets}
    near = {question.fact for question in asked.staying[SAME_OBJECT]}
    assert near == {
        number
        for number in facts.measured
        if (facts.by_number[number].relation, facts.by_number[number].object) in objects
    }
    assert facts.for_plans == frozenset()


def test_a_comparison_that_was_stopped_goes_on(database, monkeypatch):
    def run(stop=None):
        def progress(done, total):
            assert total == 4
            if done == stop:
                raise KeyboardInterrupt

        return database.trials.compare("tiny", [UPDATE, FINETUNE], SIZES, sizes=[1, 2], seeds=[3], progress=progress)

    weights = database.models.load("tiny").model.state_dict()
    whole_run = run()
    at_once = without_costs(results(database, whole_run.id))
    assert len(at_once) == 4
    with database.store.writing() as connection:
        connection.exec_driver_sql("DELETE FROM edit_trial_result")
        connection.exec_driver_sql("DELETE FROM edit_trial")
    for stop in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            run(stop)
        (trial,) = database.trials.all("tiny")
        assert trial.status == "running"
        assert len(results(database, trial.id)) == stop
    assert without_costs(results(database, run().id)) == at_once
    monkeypatch.setattr(Comparison, "_draft", None)
    assert run().status == "complete"
    for name, value in database.models.load("tiny").model.state_dict().items():
        assert value.equal(weights[name])
    with database.store.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM edit").scalar() == 0


@pytest.mark.parametrize("family", ["gpt2"])
def test_facts_without_knowledge_neurons_may_be_edited(fresh, family):
    database = fresh(family)
    methods = [FINETUNE, kndb.bench_method("together", {"steps": 2, "layers": "1"})]
    settings = TrialSettings(facts=2, intra=4, inter=4, known=0.5, generate=3)
    trial = database.trials.compare("tiny", methods, settings, sizes=[2], seeds=[0, 1])
    assert trial.settings["refinement"] is None
    table = database.trials.table(trial.id)
    assert [(row.settings["method"], row.edits, row.facts, row.planned) for row in table] == [
        ("finetune", 2, 4, 4),
        ("together", 2, 4, 4),
    ]
    for row in table:
        assert row.measures["fluency_ratio"][0] == pytest.approx(
            row.measures["fluency_after"][0] / row.measures["fluency_before"][0], rel=0.2
        )
    with pytest.raises(kndb.errors.NotFoundError):
        database.trials.compare("tiny", [UPDATE], sizes=[1])


def test_a_method_that_can_plan_nothing_counts_as_no_change(database, monkeypatch):
    def refuse(*_):
        raise EditError("no way")

    monkeypatch.setattr(Comparison, "_draft", refuse)
    trial = database.trials.compare("tiny", [UPDATE, FINETUNE], SIZES, sizes=[2])
    for row in database.trials.table(trial.id):
        assert (row.facts, row.planned) == (2, 0)
        if row.weights == "edit":
            assert row.measures["success"][0] == 0
            assert row.measures["locality"][0] == 1
    assert {reason for _, reason in database.trials.unplanned(trial.id)} == {"no way"}


@pytest.mark.parametrize("family", ["bert"])
def test_what_is_refused(refined, family):
    compare = refined.trials.compare
    for methods, message in (
        ([], r"method must name each method once \(got none\)"),
        ([UPDATE, UPDATE], r"method must name each method once \(got update, update\)"),
    ):
        with pytest.raises(UsageError, match=message):
            compare("tiny", methods)
    with pytest.raises(UsageError, match=r"sizes must be at least 1 \(got 0\)"):
        compare("tiny", [UPDATE], sizes=[0])
    with pytest.raises(UsageError, match=r"share must be a number of at least 0, under 1 \(got 1\)"):
        TrialSettings(share=1)
    with pytest.raises(UsageError, match="takes a causal language model"):
        compare("tiny", [FINETUNE], TrialSettings(facts=1, generate=3), sizes=[1])


def test_a_deep_causal_model_needs_no_refinement(database, family, monkeypatch):
    """Its depth says which layers a joint plan changes; a model here has few, so that one of three counts as deep."""
    monkeypatch.setattr("kndb.database.edits.together._DEEP", 1)
    with database.store.writing() as connection:
        for table in ("knowledge_neuron", "relation_neuron", "refinement_relation", "refinement"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    if family == "gpt2":
        trial = database.trials.compare("tiny", [TOGETHER], SIZES, sizes=[1])
        assert trial.settings["refinement"] is None
        assert len(results(database, trial.id)) == 1
    else:
        with pytest.raises(KndbError, match="refine"):
            database.trials.compare("tiny", [TOGETHER], SIZES, sizes=[1])
