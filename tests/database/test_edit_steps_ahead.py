"""Where steps would lead is where they lead; a step from a version that is no longer the current one is not taken."""

import shutil

import pytest

from kndb.database import open_database
from kndb.database.edits.batch import Target
from kndb.errors import ConflictError, EditError, InputError, NotFoundError, UsageError, VersionMovedError
from kndb.records.together import KeptFacts, TogetherSettings


@pytest.fixture
def database(small_stores, tmp_path):
    """Edits 1 to 3 erase some of the same neurons; 4 those of another relation."""
    shutil.copytree(small_stores / "refined" / "bert", tmp_path / "store")
    with open_database(tmp_path / "store" / "kndb.db") as opened:
        for top in (4, 3):
            opened.edits.plan_erase("tiny", "P36", top=top)
        opened.edits.plan_update("tiny", 1, "Rome")
        yield opened


def test_applying_and_reverting_lead_where_they_were_said_to(database):
    edits = database.edits
    for action, take in (("apply", edits.apply_all), ("revert", edits.revert_all)):
        ahead = edits.steps_ahead([1], action)
        before, base = database.models.get("tiny").version, database.models.resolve_version("tiny", "base")
        steps = take([1], expected=before)
        after = database.models.get("tiny").version
        assert (ahead.version_before, ahead.version_after) == (before, after)
        assert [(one.edit, one.action) for one in ahead.steps] == [(one.edit, one.action) for one in steps]
        assert ahead.slots == len(edits.diff("tiny", before, after).slots) == 4
        assert ahead.parameters == 0
    assert after == base


def test_what_would_be_refused_is_refused_ahead(database):
    edits = database.edits
    with pytest.raises(EditError, match="edit 1 is not applied"):
        edits.steps_ahead([1], "revert")
    edits.apply(1)
    with pytest.raises(EditError, match="edit 1 is applied already"):
        edits.steps_ahead([1], "apply")
    with pytest.raises(ConflictError, match="edit 1 changed them"):
        edits.steps_ahead([2], "apply")
    with pytest.raises(UsageError):
        edits.steps_ahead([], "apply")
    with pytest.raises(NotFoundError):
        edits.steps_ahead([9], "apply")


def test_a_restore_leads_where_it_was_said_to(database):
    database.edits.apply(1)
    database.snapshots.create("first", "tiny")
    database.edits.revert(1)
    database.edits.apply(2)
    ahead = database.snapshots.restore_ahead("first", "tiny")
    assert [(one.edit, one.action) for one in ahead.steps] == [(2, "revert"), (1, "apply")]
    assert ahead.slots == len(database.edits.diff("tiny", "current", "first").slots)
    steps = database.snapshots.restore("first", "tiny", expected=ahead.version_before)
    assert steps[-1].version_after == ahead.version_after == database.models.get("tiny").version
    assert database.snapshots.restore_ahead("first", "tiny").steps == ()
    with pytest.raises(NotFoundError):
        database.snapshots.restore_ahead("none", "tiny")


def test_a_step_from_another_version_than_expected_is_not_taken(database):
    edits, base = database.edits, database.models.get("tiny").version
    database.snapshots.create("start", "tiny")
    edits.apply(1)
    moved = database.models.get("tiny").version
    for step in (
        lambda: edits.apply(3, expected=base),
        lambda: edits.apply_all([3], expected=base),
        lambda: edits.revert(1, expected=base),
        lambda: edits.revert_all([1], expected=base),
        lambda: database.snapshots.restore("start", "tiny", expected=base),
    ):
        with pytest.raises(VersionMovedError, match=f"moved from version {base} to {moved}"):
            step()
    assert database.models.get("tiny").version == moved
    assert len(edits.log()) == 1


# --- lists that were typed -----------------------------------------------------------------------------


def test_lines_and_tables_name_the_same_targets(database):
    wanted = [(1, "Rome"), (2, "Oslo")]
    for text in (
        "1 Rome\n2 Oslo",
        "\n  1\tRome  \r\n\r\n2   Oslo\n",
        "fact,to\n1,Rome\n2,Oslo\n",
        "relation,subject,to\nP36,France,Rome\nP36,Italy,Oslo\n",
        '{"fact": 1, "to": "Rome"}\n{"fact": 2, "to": "Oslo"}\n',
    ):
        assert [(one.fact, one.to) for one in database.edits.targets_in(text)] == wanted, text
    assert database.edits.targets_in("1 New York")[0] == Target(1, "New York", "line 1")


def test_what_is_wrong_with_a_list_is_said_without_a_file_of_nobodys(database):
    for text, error, said in (
        ("1 Rome\nParis", InputError, "line 2 must be a fact's number"),
        ("1 Rome\n99 Oslo\n98 Oslo", NotFoundError, "2 of 3 lines name no fact of the store: line 2 names fact 99"),
        ("fact,to\n99,Rome\n", NotFoundError, "answers.csv:2 names fact 99, which is no such fact"),
        ("fact,to\n1,\n", InputError, "answers.csv:2: the row must have"),
        ("nothing of the kind", InputError, "answers.csv"),
        ("", InputError, "answers.csv"),
        ("[]", (InputError, NotFoundError), "answers.json"),
        ("{", InputError, "answers.jsonl"),
        ("\udc80 1", InputError, "answers.csv"),
    ):
        with pytest.raises(error) as refused:
            database.edits.targets_in(text)
        assert said in str(refused.value), text
        assert "/" not in str(refused.value).replace("own lists", ""), str(refused.value)


def test_the_flips_of_many_facts_are_those_of_answers_without_and_with_the_edit(database):
    facts = {fact.id: fact for fact in database.facts.find()}
    targets = [Target(1, "Rome"), Target(2, "Paris")]
    settings = TogetherSettings(steps=6, keep=0.0, learning_rate=1.0)
    draft = database.edits.drafts.together("tiny", targets, settings, KeptFacts(neighbours=0, others=0))
    found = database.edits.preview_flips(draft, others=len(facts))
    assert found.asked == len(facts) - 2
    assert database.edits.preview_flips(draft, others=0).asked == 0
    edit = database.edits.add(draft)
    assert database.edits.preview_stored(edit.id, others=len(facts)).flips == found.flips
    database.edits.apply(edit.id)
    changed: dict[tuple[int, str, str], int] = {}
    base, current = (database.models.load("tiny", version) for version in ("base", "current"))
    for number, fact in facts.items():
        if number in (1, 2):
            continue
        templates = [one.text.replace("[X]", fact.subject) for one in database.facts.templates(fact.relation)]
        for text in templates:
            old, new = (database.models.ask("tiny", text, top=1, on=on)[0].token for on in (base, current))
            if old != new:
                changed[number, old, new] = changed.get((number, old, new), 0) + 1
    assert changed, "the edit is to do harm"
    assert {(one.fact, one.old_answer, one.new_answer): one.prompts for one in found.flips} == changed
    assert {one.group for one in found.flips} <= {"intra", "inter"}
    with pytest.raises(UsageError, match="others"):
        database.edits.preview_flips(draft, others=-1)
    with pytest.raises(UsageError, match="was planned on version"):
        database.edits.preview_stored(edit.id, on=current)
