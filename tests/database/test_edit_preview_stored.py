"""What a stored edit does is what its draft was said to do, whatever was applied since."""

import shutil

import pytest

from kndb.database import open_database
from kndb.database.edits.batch import Target
from kndb.errors import NotFoundError, UsageError
from kndb.records.edit_settings import UpdateSettings
from kndb.records.together import KeptFacts, TogetherSettings


@pytest.fixture
def database(small_stores, tmp_path):
    shutil.copytree(small_stores / "refined" / "bert", tmp_path / "store")
    with open_database(tmp_path / "store" / "kndb.db") as opened:
        yield opened


def test_an_edit_of_a_fact_and_one_of_a_relation_do_what_their_drafts_did(database):
    drafts = (
        database.edits.drafts.update("tiny", 3, "Rome", UpdateSettings(max_share=1.0)),
        database.edits.drafts.erase("tiny", "P37", top=2, refinement=None),
    )
    wanted = [database.edits.preview(draft, top=2, others=6) for draft in drafts]
    planned = [database.edits.add(draft) for draft in drafts]
    # The version moves on; they are asked on the one that they were planned on.
    database.edits.apply(planned[0].id)
    for edit, told in zip(planned, wanted, strict=True):
        found = database.edits.preview_stored(edit.id, top=2, others=6)
        assert found.facts == ()
        assert found.one == told
        assert found.one.asked == 6


def test_an_edit_of_many_facts_does_to_each_what_its_draft_did(database):
    facts = {fact.subject: fact.id for fact in database.facts.find(["P36"])}
    targets = [Target(facts["France"], "Rome"), Target(facts["Italy"], "Paris")]
    draft = database.edits.drafts.together("tiny", targets, TogetherSettings(steps=2), KeptFacts())
    wanted = database.edits.preview_together(draft)
    found = database.edits.preview_stored(database.edits.add(draft).id)
    assert found.one is None
    assert list(found.facts) == wanted


def test_what_can_not_be_asked_is_refused(database):
    with pytest.raises(NotFoundError):
        database.edits.preview_stored(9)
    planned = database.edits.plan_update("tiny", 3, "Rome", UpdateSettings(max_share=1.0))
    with pytest.raises(UsageError, match="top"):
        database.edits.preview_stored(planned.id, top=0)
