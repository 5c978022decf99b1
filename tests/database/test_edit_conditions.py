"""Conditions before an edit is stored or applied: held against the numbers of `evaluate`, and of plain transformers."""

from __future__ import annotations

import pytest
from plain_answers import distribution, whole
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

import kndb
from kndb.database import open_database
from kndb.database.edits import group_evaluation
from kndb.database.edits.batch import Target
from kndb.errors import ConditionError, InputError, StoreDamagedError, UsageError
from kndb.records.conditions import parse_condition
from kndb.records.edit_settings import UpdateSettings

AUTO = {"bert": AutoModelForMaskedLM, "gpt2": AutoModelForCausalLM}
WHOLE = UpdateSettings(rule="output", max_share=1.0)
TOGETHER = kndb.TogetherSettings(steps=20, check=20, validation=0.0, drift=0.2, keep=0.5, learning_rate=0.1, target=0.0)


@pytest.fixture(scope="module")
def family():
    return "bert"


@pytest.fixture
def database(refined):
    return refined


@pytest.fixture
def draft(database):
    """France's capital becomes Tokyo."""
    return database.edits.drafts.update("tiny", fact(database, "France"), "Tokyo", WHOLE)


def fact(database, subject, relation="P36"):
    return database.facts.find([relation], subject=subject)[0].id


def change(database, statement):
    with database.store.writing() as connection:
        connection.exec_driver_sql(statement)


def everything(database):
    with database.store.reading() as connection:
        tables = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        rows = {name: connection.exec_driver_sql(f"SELECT * FROM {name}").all() for (name,) in tables.all()}
    objects = database.store.objects
    return rows, sorted(path.name for path in objects.rglob("*.safetensors")) if objects.exists() else []


def measured(database, draft):
    """What `evaluate` finds of a draft, which is deleted again."""
    edit = database.edits.add(draft)
    found = database.edits.evaluate(edit.id).measures
    database.edits.delete([edit.id])
    return found["edited"]


def test_a_condition_holds_and_fails_by_what_evaluate_finds(database, draft):
    values = measured(database, draft)
    factor = 1 + values["inter"]["perplexity_relative_change"]
    success = values["own"]["success_rate"]
    before = everything(database)
    with pytest.raises(ConditionError) as failed:
        database.edits.add(draft, require=[f"success>={success}", f"perplexity.others<{factor}"])
    assert everything(database) == before
    assert str(failed.value).startswith(
        "the edit was not stored, as 1 of 2 conditions does not hold: perplexity.others "
    )
    assert [(one.value, one.holds) for one in failed.value.checked] == [(success, True), (factor, False)]
    assert failed.value.exit_code == 8
    edit = database.edits.add(draft, require=[f"success>={success}", f"perplexity.others<={factor}"])
    found = database.edits.get(edit.id).conditions
    assert [(one.value, one.holds) for one in found.checked] == [(success, True), (factor, True)]
    (kept,) = database.edits.evaluations(edit.id)
    assert (found.evaluation, found.settings) == (kept.id, {"sample": 300, "seed": 0, "control": False})
    assert kept.measures["edited"] == values
    assert kept.measures["control"] == {}
    assert kept.version_before == edit.base_version
    assert database.maintenance.check().sound


def test_a_confident_condition_needs_the_whole_interval(database, draft):
    database.edits.check(draft, "accuracy.others>=0.5")
    with pytest.raises(ConditionError, match=r"success 100 % \([\d.]+ % to 100 %\) >= 95 %, confident fails"):
        database.edits.check(draft, "success>=0.95", confident=True)
    (held,) = database.edits.check(draft, "success>=1e-6", confident=True).checked
    assert held.condition.confident


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("portability>=0", "the facts have no portability prompts"),
        ("remembered<=1", "the edit erases no relation"),
        ("fluency>=0", "nothing is continued; or the model is not a causal one"),
    ],
)
def test_what_cant_be_measured_fails_and_says_why(database, draft, condition, reason):
    before = everything(database)
    with pytest.raises(ConditionError) as failed:
        database.edits.add(draft, require=[condition, "success>=0"])
    assert f"{parse_condition(condition).words} can't be measured: " in str(failed.value)
    assert reason in str(failed.value)
    assert everything(database) == before


def test_a_store_of_one_relation_has_no_others(database, draft):
    change(database, "DELETE FROM relation WHERE key = 'P37'")
    with pytest.raises(ConditionError, match="the store has no facts of other relations that the model can be asked"):
        database.edits.check(draft, "flips.others<=1")
    change(database, "DELETE FROM prompt WHERE template_id IN (SELECT id FROM template WHERE held_out)")
    with pytest.raises(ConditionError, match="there are no held-out prompts"):
        database.edits.check(draft, "paraphrase>=0")


def test_words_that_are_no_conditions(database, draft):
    with pytest.raises(UsageError, match="did you mean success"):
        database.edits.add(draft, require="sucess>=1")
    with pytest.raises(UsageError, match="require must have at least one condition"):
        database.edits.check(draft, [])
    assert database.edits.all() == []


def test_an_erase_and_a_joint_plan(database):
    erased = database.edits.drafts.erase("tiny", "P36", top=30)
    share = measured(database, erased)["own"]["accuracy_after"]
    (found,) = database.edits.check(erased, f"remembered<={share}").checked
    assert found.value == share
    with pytest.raises(ConditionError, match=r"success >= 0 % can't be measured: the edit gives no fact a new answer"):
        database.edits.check(erased, "success>=0")
    targets = [Target(fact(database, "France"), "Tokyo"), Target(fact(database, "Peru", "P37"), "French")]
    joint = database.edits.drafts.together("tiny", targets, TOGETHER)
    values = measured(database, joint)
    (found,) = database.edits.check(joint, "success>=0").checked
    assert found.value == values["own"]["success_rate"]


def test_a_capture_is_measured_on_all_facts(database, draft, tmp_path):
    edit = database.edits.add(draft)
    database.edits.apply(edit.id)
    database.checkouts.checkout("current", tmp_path / "edited", model="tiny")
    database.edits.revert(edit.id)
    captured = database.edits.draft_capture("tiny", str(tmp_path / "edited")).draft
    with pytest.raises(ConditionError, match=r"success >= 0 % can't be measured"):
        database.edits.check(captured, ["success>=0", "flips.others<=1"])
    (found,) = database.edits.check(captured, "flips.others<=1").checked
    assert found.value > 0, "the fact that was edited flips, and counts here"


@pytest.fixture
def plain(small_models, family, sql):
    """Each prompt of the small facts, with what a model says: past kndb's engines."""
    tokenizer = AutoTokenizer.from_pretrained(small_models[family])
    query = (
        "SELECT prompt.text, fact.subject, relation.key, COALESCE(template.held_out, 0) FROM prompt JOIN fact ON "
        "fact.id = fact_id JOIN relation ON relation.id = fact.relation_id LEFT JOIN template ON template.id = "
        "template_id"
    )

    def ask(database, model):
        rows = sql(database, query)
        return [(*row, int(distribution(model.eval(), tokenizer, family, row[0]).argmax())) for row in rows]

    ask.whole = lambda model, text, answer: all(whole(model.eval(), tokenizer, family, text, answer)[1])
    return ask


def test_several_edits_are_measured_together_after_the_last(database, family, small_models, plain):
    """The second edit gives one of the first's facts another answer, which then is what both are for."""
    wanted = {"France": "Oslo", "Italy": "Lima"}
    first = [Target(fact(database, "France"), "Tokyo"), Target(fact(database, "Italy"), "Lima")]
    joint = database.edits.plan_together("tiny", first, TOGETHER)
    database.edits.apply(joint.id)
    later = database.edits.plan_update("tiny", fact(database, "France"), "Oslo", WHOLE)
    database.edits.apply(later.id)
    after = database.load_model("tiny")
    database.edits.revert_all([joint.id, later.id])
    asked = plain(database, after)
    own = [row for row in asked if row[2] == "P36" and row[1] in wanted and not row[3]]
    success = sum(plain.whole(after, row[0], wanted[row[1]]) for row in own) / len(own)
    model = AUTO[family].from_pretrained(small_models[family])
    others = [(one[-1], two[-1]) for one, two in zip(plain(database, model), asked, strict=True) if one[2] == "P37"]
    flips = sum(one != two for one, two in others) / len(others)
    before = everything(database)
    with pytest.raises(ConditionError, match=r"edits 1, 2 were not applied.*measured after the last of 2 edits"):
        database.edits.apply_all(
            [joint.id, later.id], require=[f"success>={success}", f"flips.others<{flips or 1e-9}", "remembered<=1"]
        )
    assert everything(database) == before
    steps = database.edits.apply_all([joint.id, later.id], require=[f"success>={success}", f"flips.others<={flips}"])
    assert [one.value for one in steps[0].conditions.checked] == pytest.approx([success, flips])
    assert [step.conditions for step in steps] == [steps[0].conditions] * 2
    assert (steps[0].conditions.edits, steps[0].conditions.evaluation) == (2, None)
    assert database.edits.log()[-1].conditions == steps[0].conditions
    assert database.maintenance.check().sound


def test_conditions_on_the_edited_facts_ask_no_others(database, monkeypatch):
    """The figures are those that come where a condition on others has all of them asked."""
    joint = database.edits.plan_together("tiny", [Target(fact(database, "France"), "Tokyo")], TOGETHER)
    database.edits.apply(joint.id)
    later = database.edits.plan_update("tiny", fact(database, "Italy"), "Oslo", WHOLE)
    database.edits.revert(joint.id)
    asked, compare = [], group_evaluation.compare

    def comparing(network, groups, *rest):
        asked.append(sum(map(len, groups.values())))
        return compare(network, groups, *rest)

    monkeypatch.setattr(group_evaluation, "compare", comparing)
    names = ("success", "held_out_success", "efficacy_score", "paraphrase_score", "rewrite_acc", "rephrase_acc")
    own = [f"{name}>=0" for name in names]
    found = []
    for conditions in (own, [*own, "flips.others<=1"]):
        steps = database.edits.apply_all([joint.id, later.id], require=conditions)
        found.append([(one.value, one.low, one.high) for one in steps[0].conditions.checked[: len(own)]])
        database.edits.revert_all([joint.id, later.id])
    assert found[0] == found[1]
    assert asked[0] == 0 < asked[1]


def test_an_erase_beside_an_edit_is_in_no_group(database, draft):
    erase = database.edits.add(database.edits.drafts.erase("tiny", "P37", top=5))
    edit = database.edits.add(draft)
    with pytest.raises(ConditionError, match="the store has no facts of other relations"):
        database.edits.apply_all([erase.id, edit.id], require="flips.others<=1")
    database.edits.apply_all([erase.id, edit.id], require="success>=0.5")


def test_a_batch_is_measured_together_and_each_edit_keeps_the_conditions(database):
    subjects = {"France": "Oslo", "Italy": "Lima", "Spain": "Rome"}
    targets = [Target(fact(database, subject), to) for subject, to in subjects.items()]

    made = database.edits.draft_batch(
        "tiny", targets, lambda one, on: database.edits.drafts.update("tiny", one.fact, one.to, WHOLE, on=on)
    )
    with pytest.raises(ConditionError, match="the 3 edits were not stored"):
        database.edits.add_batch(made, require="flips.relation<0")
    assert database.edits.all() == []
    shown = database.edits.check_batch(made, "success>=0")
    assert database.edits.preview_batch(made), "the weights have the edits as before; now they have not"
    edits = database.edits.add_batch(made, require="success>=0")
    assert [edit.conditions.checked for edit in edits] == [shown.checked] * 3
    steps = database.edits.apply_all([edit.id for edit in edits])
    assert [step.conditions.checked for step in steps] == [shown.checked] * 3


def test_stored_conditions_are_checked_again_on_the_version_applied_to(database, draft, monkeypatch):
    """Another edit of the same neurons' relation comes first: the factor for the relation's other facts is another."""
    values = measured(database, draft)
    planned = 1 + values["intra"]["perplexity_relative_change"]
    edit = database.edits.add(draft, require=[f"perplexity.relation=={planned}"])
    # As it was planned, the evaluation that is stored says so: no model is loaded.
    with monkeypatch.context() as patch:
        patch.setattr("kndb.database.models.ModelCommands.load", lambda *_, **__: pytest.fail("a model was loaded"))
        step = database.edits.apply(edit.id)
    assert step.conditions.evaluation == edit.conditions.evaluation
    assert len(database.edits.evaluations(edit.id)) == 1
    database.edits.revert(edit.id)
    free = {slot.neuron for slot in database.edits.slots(edit.id)}
    other = next(
        one
        for subject in ("Peru", "Japan", "Egypt", "Italy", "Spain")
        for relation in ("P37", "P36")
        for found in database.facts.find([relation], subject=subject)
        for one in [
            database.edits.plan_update(
                "tiny", found.id, "Oslo", UpdateSettings(rule="output", max_share=1.0, neurons=1)
            )
        ]
        if free.isdisjoint(slot.neuron for slot in database.edits.slots(one.id))
    )
    database.edits.apply(other.id)
    before = everything(database)
    with pytest.raises(ConditionError) as failed:
        database.edits.apply(edit.id)
    (found,) = failed.value.checked
    assert found.value != planned
    assert f"db.edits.apply_all([{edit.id}], no_require=True)" in str(failed.value)
    assert everything(database) == before
    step = database.edits.apply(edit.id, no_require=True, require="perplexity.relation>=0")
    assert [str(one) for one in step.conditions.skipped] == [f"perplexity.relation=={planned!r}"]
    assert [one.value for one in step.conditions.checked] == pytest.approx([found.value])
    (_, kept) = database.edits.evaluations(edit.id)
    assert kept.version_before == step.version_before != edit.base_version
    assert kept.version_after == step.version_after


def test_facts_that_came_since_are_asked_too(database, draft, write_facts):
    edit = database.edits.add(draft, require="success>=0")
    database.facts.ingest([write_facts({"relation": "P37", "subject": "Chad", "object": "French", "id": "new"})])
    step = database.edits.apply(edit.id)
    assert step.conditions.evaluation != edit.conditions.evaluation
    assert len(database.edits.evaluations(edit.id)) == 2


def test_without_conditions_nothing_is_measured(database, draft, monkeypatch):
    edit = database.edits.add(draft)
    monkeypatch.setattr("kndb.database.models.ModelCommands.load", lambda *_, **__: pytest.fail("a model was loaded"))
    step = database.edits.apply(edit.id)
    assert (edit.conditions, step.conditions) == (None, None)
    with pytest.raises(kndb.KndbError, match="is applied already"):
        database.edits.apply(edit.id, require="success>=0")


def test_conditions_go_with_a_file_and_are_checked_there(database, draft, family, small_models, small_facts, tmp_path):
    edit = database.edits.add(draft, require=["success>=0.5", "flips.others<=1"])
    database.edits.push([edit.id], tmp_path / "edit.kndb")
    with open_database(tmp_path / "other.db") as other:
        other.models.add(str(small_models[family]), "mine")
        (seen,) = other.edits.pull(tmp_path / "edit.kndb", preview=True)
        (pulled,) = other.edits.pull(tmp_path / "edit.kndb")
        assert seen.conditions == pulled.conditions
        assert pulled.conditions.conditions == edit.conditions.conditions
        assert pulled.conditions.evaluation is None
        assert other.edits.get(1).conditions == pulled.conditions
        with pytest.raises(ConditionError, match="its conditions can't be measured: edit 1 came from another store"):
            other.edits.apply(1)
        other.facts.ingest([small_facts])
        other.edits.pull(tmp_path / "edit.kndb")
        step = other.edits.apply(1)
        assert [one.value for one in step.conditions.checked] == [one.value for one in edit.conditions.checked]
        other.edits.push([1], tmp_path / "again.kndb")
    assert (tmp_path / "again.kndb").stat().st_size > 0


def test_a_rebased_edit_keeps_its_conditions(database, draft):
    first = database.edits.add(draft)
    database.edits.apply(first.id)
    second = database.edits.plan_update("tiny", fact(database, "France"), "Oslo", WHOLE)
    database.edits.delete([second.id])
    again = database.edits.drafts.update("tiny", fact(database, "France"), "Oslo", WHOLE)
    second = database.edits.add(again, require="success>=0")
    database.edits.apply(second.id)
    rebased = database.edits.rebase(first.id)
    new = database.edits.get(rebased.replayed[0].edit)
    assert new.conditions == second.conditions
    assert [str(one) for one in rebased.steps[-1].conditions.skipped] == ["success>=0.0"]


def test_planning_again_replaces_the_conditions(database, draft):
    first = database.edits.add(draft, require="success>=0")
    again = database.edits.add(draft, require="success>=0.25")
    assert (again.id, [str(one) for one in again.conditions.conditions]) == (first.id, ["success>=0.25"])
    assert database.edits.add(draft).conditions == again.conditions


def test_conditions_that_cant_be_read_are_never_taken_for_none(database, draft):
    edit = database.edits.add(draft, require="success>=0")
    change(database, "UPDATE edit SET conditions = '{\"checked\": []}'")
    with pytest.raises(StoreDamagedError, match="the conditions of edit 1 can't be read"):
        database.edits.apply(edit.id)
    problems = database.maintenance.check().problems
    assert any("table edit, row 1, column conditions: it has no 'skipped'" in problem for problem in problems)


def test_a_file_with_a_condition_that_is_not_known_is_refused(
    database, draft, family, small_models, tmp_path, monkeypatch
):
    edit = database.edits.add(draft, require="success>=0")
    monkeypatch.setattr("kndb.records.conditions.Condition.__str__", lambda self: f"luck{self.operator}{self.bound!r}")
    monkeypatch.setattr("kndb.exchange.edit_bundle._manifest", lambda *_: None)
    database.edits.push([edit.id], tmp_path / "edit.kndb")
    monkeypatch.undo()
    with open_database(tmp_path / "other.db") as other:
        other.models.add(str(small_models[family]), "mine")
        with pytest.raises(
            InputError, match="a condition that can't be checked here: a condition can't be about 'luck'"
        ):
            other.edits.pull(tmp_path / "edit.kndb")
        assert other.edits.all() == []


def test_a_step_has_no_more_conditions_than_can_be_read_back(database, draft):
    edit = database.edits.add(draft, require=[f"success>={number / 100}" for number in range(30)])
    before = everything(database)
    with pytest.raises(UsageError, match=r"at most 50 conditions can be required \(got 57\)"):
        database.edits.apply(edit.id, require=[f"success>={number / 1000}" for number in range(30)])
    assert everything(database) == before
