"""Merges of edits, on a small model that knows a few capitals and languages."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from kndb.database import open_database
from kndb.database.edits.batch import Target
from kndb.database.edits.merge_facts import SourceFact, choose_facts
from kndb.errors import ConflictError, EditError, UsageError, VersionMovedError
from kndb.records.edit_settings import OptimizeSettings, UpdateSettings
from kndb.records.facts import Fact
from kndb.records.merges import MergedFrom
from kndb.records.recipes import OtherRecipe, read_recipe
from kndb.records.together import KeptFacts, TogetherSettings

QUICK = {"steps": 2, "check": 1}
GOOD = {"steps": 150, "check": 25, "validation": 0.0, "drift": 100.0, "keep": 0.01, "learning_rate": 0.1, "ridge": 1.0}
FEW = KeptFacts(2, 2, 1)


@pytest.fixture
def family():
    return "bert"


@pytest.fixture
def database(refined):
    """A database in which model `tiny` is refined."""
    return refined


@pytest.fixture
def number(database):
    """Gives the number of a fact by its relation and subject."""
    facts = {(fact.relation, fact.subject): fact.id for fact in database.facts.find()}
    return lambda subject, relation="P36": facts[relation, subject]


@pytest.fixture
def plan(database, number):
    """Plans a joint edit of a few steps and gives its number."""

    def made(answers, layers=(1,), **settings):
        targets = [Target(number(*key) if isinstance(key, tuple) else number(key), to) for key, to in answers.items()]
        settings = TogetherSettings(**{**QUICK, **settings})
        return database.edits.plan_together("tiny", targets, settings, FEW, layers=layers).id

    return made


def weights(database, version="current"):
    return {name: value.clone() for name, value in database.load_model("tiny", version).named_parameters()}


def merged(database, edits, **named):
    return database.edits.merge(edits, **{"settings": QUICK, "keep": FEW, **named})


def answer(database, subject):
    return database.models.ask("tiny", f"The capital city of {subject} is called [Y].", top=1)[0].token


def test_two_that_overlap_become_one_that_gives_both_answers(database, number):
    before = weights(database)
    steps = OptimizeSettings(max_share=1, steps=60)
    first = database.edits.plan_optimize("tiny", number("France"), "Tokyo", steps)
    second = database.edits.plan_optimize("tiny", number("Italy"), "Oslo", steps)
    with pytest.raises(ConflictError):
        database.edits.apply_all([first.id, second.id])
    done = merged(database, [first.id, second.id], settings=GOOD)
    assert [(one.edit, one.subject, one.to, one.stands) for one in done.facts] == [
        (first.id, "France", "Tokyo", True),
        (second.id, "Italy", "Oslo", True),
    ]
    assert all(one.merged == 1 and one.prompts == 6 for one in done.facts)
    for one, source in zip(done.facts, (first, second), strict=True):
        report = source.recipe.report
        assert one.alone * 6 == pytest.approx(report.success * 5 + report.held_out_success)
    assert [(one.edit, one.object_hash, one.facts) for one in done.edit.recipe.merged_from] == [
        (first.id, first.object_hash, (number("France"),)),
        (second.id, second.object_hash, (number("Italy"),)),
    ]
    assert done.edit.title == f"merge of edits {first.id}, {second.id}: 2 facts · P36"
    assert all(before[name].equal(value) for name, value in weights(database).items())
    database.edits.apply(done.edit.id)
    assert (answer(database, "France"), answer(database, "Italy")) == ("Tokyo", "Oslo")
    database.edits.revert(done.edit.id)
    assert all(before[name].equal(value) for name, value in weights(database).items())
    assert database.maintenance.check().sound


def test_a_merge_of_disjoint_facts_has_all_of_them(database, plan):
    chance = random.Random(0)
    keys = sorted({(fact.subject, fact.relation) for fact in database.facts.find()})
    for _ in range(2):
        chosen = chance.sample(keys, 6)
        groups = [chosen[:1], chosen[1:3], chosen[3:]]
        edits = [plan(dict.fromkeys(group, "Madrid"), steps=1) for group in groups]
        recipe = merged(database, edits).edit.recipe
        assert [(fact.subject, fact.relation) for fact in recipe.facts] == chosen
        assert {fact.to for fact in recipe.facts} == {"Madrid"}
        assert [len(one.facts) for one in recipe.merged_from] == [len(group) for group in groups]


def test_two_answers_are_named_and_one_can_be_preferred(database, plan, number):
    first = plan({"France": "Tokyo", "Peru": "Oslo"})
    second = plan({"France": "Rome", "Peru": "Cairo", "Cuba": "Lima"})
    with pytest.raises(EditError) as refused:
        merged(database, [first, second])
    said = str(refused.value)
    assert f"edits {first}, {second} give 2 questions different answers" in said
    france = f"fact {number('France')} P36 of France → 'Tokyo' by edit {first}, 'Rome' by edit {second}"
    peru = f"fact {number('Peru')} P36 of Peru → 'Oslo' by edit {first}, 'Cairo' by edit {second}"
    assert france in said
    assert peru in said
    assert f"prefer=[{first}] or prefer=[{second}]" in said
    draft = database.edits.draft_merge([first, second], prefer=[second], settings=QUICK, keep=FEW)
    assert {fact.subject: fact.to for fact in draft.draft.content.recipe.facts} == {
        "France": "Rome",
        "Peru": "Cairo",
        "Cuba": "Lima",
    }
    assert [(one.edit, one.stands, one.merged is None) for one in draft.facts] == [
        *[(first, False, True)] * 2,
        *[(second, True, False)] * 3,
    ]
    assert f"The answer of edit {second} stands: fact {number('France')}" in draft.remarks[0]
    assert draft.draft.content.recipe.merged_from[0].facts == ()


def test_what_needs_no_merge(database, plan):
    first, second = plan({"France": "Tokyo"}, layers=(0,)), plan({"Italy": "Oslo"}, layers=(1,))
    with pytest.raises(
        EditError, match=rf"nothing to merge: apply them as they are: .*apply_all\(\[{first}, {second}\]\)"
    ):
        merged(database, [first, second])
    database.edits.apply_all([first, second])
    with pytest.raises(EditError, match="they are all applied"):
        merged(database, [first, second])
    done = merged(database, [first, second], anyway=True)
    assert done.revert_first == (second, first)
    assert done.edit.recipe.layers == (0, 1), "no refinement was named: the layers that the edits change"


def test_what_is_applied_is_taken_out_and_what_is_not_merged_stays(database, plan):
    below = plan({"Norway": "Lima"}, layers=(0,))
    database.edits.apply(below)
    without = database.models.get("tiny").version
    first = plan({"France": "Tokyo"})
    database.edits.apply(first)
    second = plan({"Italy": "Oslo"})
    database.edits.apply(second)
    draft = database.edits.draft_merge([first, second], settings=QUICK, keep=FEW)
    assert draft.revert_first == (second, first)
    assert any("takes the place of 2 edits that are applied" in text for text in draft.remarks)
    edit = database.edits.add(draft.draft)
    assert edit.base_version == without
    expected = weights(database, without)
    database.edits.revert(second)
    with pytest.raises(ConflictError, match=f"revert\\({first}\\)"):
        database.edits.apply(edit.id)
    database.edits.revert(first)
    assert all(expected[name].equal(value) for name, value in weights(database).items())
    database.edits.apply(edit.id)
    assert database.edits.evaluate(edit.id).version_before == without
    assert database.maintenance.check().sound


def test_a_version_that_was_never_current_is_kept(database, plan):
    first = plan({"France": "Tokyo"})
    second = plan({"Italy": "Oslo"})
    database.edits.apply(first)
    above = plan({"Norway": "Lima"}, layers=(0,))
    database.edits.apply(above)
    done = merged(database, [first, second])
    assert done.revert_first == (first,)
    expected = database.models.load("tiny", done.edit.base_version)
    database.edits.revert(first)
    assert database.models.get("tiny").version == done.edit.base_version == expected.version
    assert database.maintenance.check().sound


def test_an_applied_edit_on_top_is_in_the_way(database, plan):
    first, other = plan({"France": "Tokyo"}), plan({"Italy": "Oslo"})
    database.edits.apply(first)
    later = plan({"Norway": "Lima"})
    database.edits.apply(later)
    with pytest.raises(ConflictError, match=rf"Merge it as well: .*merge\(\[{first}, {other}, {later}\]\)"):
        merged(database, [first, other])
    assert merged(database, [first, other, later]).revert_first == (later, first)


def test_edits_without_facts_are_refused_with_the_way_out(database, plan):
    first, second = plan({"France": "Tokyo"}), plan({"Italy": "Oslo"})
    erase = database.edits.plan_erase("tiny", "P37", top=2).id
    message = rf"edit {erase} can't be merged: it is of kind erase, which gives no fact a new answer. Apply it as it is"
    with pytest.raises(EditError, match=rf"{message}.*then merge the others.*merge\(\[{first}, {second}\]\)"):
        merged(database, [first, erase, second])
    with pytest.raises(EditError, match=rf"then plan the facts of edit {first} again"):
        merged(database, [first, erase])


@pytest.mark.parametrize(
    ("edits", "named", "message"),
    [
        ([1], {}, r"at least two edits \(got 1\)"),
        ([1, 1], {}, "edit 1 is named twice"),
        ([1, 2], {"prefer": [3]}, r"prefer must be one of the edits that are merged, 1, 2 \(got 3\)"),
        ([1, 2], {"settings": {"speed": 1}}, "'speed' is no setting of a merge"),
        ([1, 2], {"settings": {"steps": 0}}, "steps must be at least 1"),
    ],
)
def test_what_makes_no_sense(database, plan, edits, named, message):
    plan({"France": "Tokyo"}), plan({"Italy": "Oslo"})
    with pytest.raises(UsageError, match=message):
        merged(database, edits, **named)


def test_settings_are_those_on_which_the_edits_agree(database, plan, number):
    first = plan({"France": "Tokyo"}, keep=3.0, seed=1)
    second = plan({"Italy": "Oslo"}, keep=3.0, seed=2)
    update = database.edits.plan_update("tiny", number("Peru"), "Cairo", UpdateSettings(max_share=1)).id
    draft = database.edits.draft_merge([first, second, update], keep=FEW)
    settings = draft.draft.content.recipe.settings
    assert (settings.keep, settings.steps, settings.seed) == (3.0, 2, 0)
    assert any("seed 1 and 2; the merge takes the default, 0" in text for text in draft.remarks)
    named = database.edits.draft_merge([first, second], settings={"seed": 5, "keep": 1.0}, keep=FEW)
    settings = named.draft.content.recipe.settings
    assert (settings.keep, settings.keep_last, settings.steps, settings.seed) == (1.0, 1.0, 2, 5)
    whole = TogetherSettings(**QUICK)
    settings = database.edits.draft_merge([first, second], settings=whole, keep=FEW).draft.content.recipe.settings
    assert settings == whole.fitted(1)


def test_a_version_that_moved_is_noticed(database, plan):
    first, second, other = plan({"France": "Tokyo"}), plan({"Italy": "Oslo"}), plan({"Peru": "Cairo"}, layers=(0,))
    draft = database.edits.draft_merge([first, second], settings=QUICK, keep=FEW)
    database.edits.apply(other)
    with pytest.raises(VersionMovedError, match="plan it again"):
        database.edits.add(draft.draft)


def test_steps_of_a_merge_go_on(database, plan, tmp_path):
    edits = [plan({"France": "Tokyo"}), plan({"Italy": "Oslo"})]
    path = tmp_path / "steps"

    class StoppedError(Exception):
        pass

    def stop(taken, _total):
        if taken == 1:
            raise StoppedError

    with pytest.raises(StoppedError):
        merged(database, edits, steps_file=path, progress=stop)
    assert path.exists()
    resumed = merged(database, edits, steps_file=path)
    assert not path.exists()
    assert merged(database, edits).edit.id == resumed.edit.id, "the same plan is the same edit"


def test_edits_of_another_store(database, plan, fresh, small_models, tmp_path):
    edits = [plan({"France": "Tokyo"}), plan({"Italy": "Oslo"})]
    both = merged(database, edits).edit
    database.edits.push([*edits, both.id], tmp_path / "edits.kndb")
    here = fresh("bert")
    pulled = [one.edit for one in here.edits.pull(tmp_path / "edits.kndb")]
    assert here.edits.get(pulled[2]).recipe.merged_from == both.recipe.merged_from
    done = merged(here, pulled[:2])
    assert [(fact.subject, fact.to) for fact in done.edit.recipe.facts] == [("France", "Tokyo"), ("Italy", "Oslo")]
    assert done.edit.recipe.layers == (1,)
    with open_database(tmp_path / "empty.db") as empty:
        empty.models.add(str(small_models["bert"]), "mine")
        numbers = [one.edit for one in empty.edits.pull(tmp_path / "edits.kndb")]
        with pytest.raises(EditError, match="came from another store, and fact"):
            merged(empty, numbers[:2])


# --- which answers stand, against comparing all pairs ---------------------------------------------------------------


def fact(number, subject="S", relation="R"):
    return Fact(number, relation, subject, "O", None, 1)


def source(edit, number, to, *more):
    return SourceFact(edit, fact(number), to, frozenset({number, *more}))


def test_what_stands_against_all_pairs():
    chance = random.Random(0)
    for _ in range(300):
        facts = []
        for edit in range(1, 4):
            for one in chance.sample(range(5), 3):
                questions = [f"q{chance.randrange(12)}"]
                facts.append(source(edit, one, chance.choice("ab"), *questions))
        prefer = chance.sample([1, 2, 3], chance.randrange(4))
        rank = {edit: place for place, edit in enumerate(prefer)}
        kept = []
        for one in sorted(facts, key=lambda one: rank.get(one.edit, 9)):
            if not any(one.against(other) and other.edit in rank for other in kept):
                kept.append(one)
        open_pairs = [(a, b) for a in kept for b in kept if a.edit < b.edit and a.against(b)]
        if open_pairs:
            with pytest.raises(EditError) as refused:
                choose_facts(facts, prefer)
            for pair in open_pairs:
                for one in pair:
                    assert f"{one.to!r} by edit {one.edit}" in str(refused.value)
            continue
        chosen = choose_facts(facts, prefer)
        standing = [one for one, number in zip(chosen.every, chosen.stands, strict=True) if number is not None]
        assert sorted(map(id, standing)) == sorted(map(id, kept))
        assert len({one.fact.id for one in chosen.targets}) == len(chosen.targets)
        assert {one.fact.id for one in chosen.targets} == {one.fact.id for one in kept}


def test_one_question_of_two_facts_is_planned_once():
    same = ("R", "s")
    chosen = choose_facts([source(1, 1, "a", same), source(2, 2, "a", same), source(2, 3, "b")], ())
    assert [one.fact.id for one in chosen.targets] == [1, 3]
    assert chosen.stands == (1, 1, 3)
    assert "Facts 1 and 2 ask the same and get the same answer" in chosen.remarks[0]
    with pytest.raises(EditError, match=r"fact 1 R of S → 'a' by edit 1, fact 2 .* → 'b' by edit 2"):
        choose_facts([source(1, 1, "a", "one sentence"), source(2, 2, "b", "one sentence")], ())


# --- recipes ----------------------------------------------------------------------------------------------------


def test_what_no_merge_can_be_of_is_no_recipe(database, plan):
    recipe = merged(database, [plan({"France": "Tokyo"}), plan({"Italy": "Oslo"})]).edit.recipe
    written = json.loads(json.dumps(recipe.as_json()))
    assert read_recipe("together", written) == recipe
    good = written["merged_from"]
    bad = [
        [],
        good[:1],
        [good[0], good[0]],
        [good[0], {**good[1], "edit": 0}],
        [good[0], {**good[1], "object": "x"}],
        [good[0], {**good[1], "facts": [10**9]}],
        [good[0], {**good[1], "facts": "1-3"}],
        None,
        "edits",
    ]
    for sources in bad:
        assert isinstance(read_recipe("together", {**written, "merged_from": sources}), OtherRecipe), sources
    later = [{**good[0], "later": 1}, good[1]]
    assert read_recipe("together", {**written, "merged_from": later}).merged_from[0].extra == {"later": 1}
    without = replace(recipe, merged_from=None)
    assert "merged_from" not in without.as_json()
    many = tuple(MergedFrom(edit=place, object_hash=f"{place:064x}", facts=()) for place in range(1, 9))
    assert replace(recipe, merged_from=many).title.startswith("merge of edits 1, 2, 3, 4, 5 and 3 more: 2 facts")
