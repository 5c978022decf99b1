"""What forms change where edits are allowed: as the commands do, with the same refusals, and nowhere else."""

import pytest
from asgi import HOST, TOKEN, ask, post
from html_pages import Html

from kndb.cli.advice import for_shell
from kndb.explorer.application import Explorer
from kndb.explorer.guard import Rules

COOKIE = {"cookie": f"kndb_explorer_8017={TOKEN}"}


def sent(application, path, **fields):
    """The answer to a form with its token."""
    return post(application, path, {"token": application.rules.form_token, **fields}, **COOKIE)


def words(answer):
    return " ".join(" ".join(Html(answer.text).text).split())


def test_an_edit_is_applied_and_taken_back(editing):
    edits, before = editing.database.edits, editing.database.models.get("tiny").version
    found = sent(editing, "/edits/2/apply")
    assert (found.status, found.header("location")) == (303, "/edits/2")
    assert edits.get(2).applied
    assert "Revert this edit" in words(ask(editing, "/edits/2", headers=COOKIE))
    refused = sent(editing, "/edits/2/apply")
    assert refused.status == 409
    assert "edit 2 is applied already" in words(refused).lower()
    assert sent(editing, "/edits/2/revert").status == 303
    assert editing.database.models.get("tiny").version == before


def test_a_version_is_named_and_gone_back_to(editing):
    assert sent(editing, "/snapshots", model="tiny", name="here").status == 303
    version = editing.database.snapshots.get("here", "tiny").version
    assert sent(editing, "/snapshots", model="tiny", name="here").status == 409
    assert sent(editing, "/snapshots", model="tiny").status == 400
    editing.database.edits.apply(2)
    assert sent(editing, "/snapshots/restore", model="tiny", name="here").status == 303
    assert editing.database.models.get("tiny").version == version
    assert "here" in words(ask(editing, "/edits", headers=COOKIE))


def test_a_plan_is_shown_before_it_is_stored_and_is_the_commands(editing, monkeypatch):
    database, count = editing.database, len(editing.database.edits.all())
    shown = ask(editing, "/plan.json?fact=3&to=Rome&refinement=1", headers=COOKIE).json()
    assert len(database.edits.all()) == count
    assert shown["tables"]["answers"][0]["to"] == "Rome"
    assert shown["tables"]["preview"]
    assert "flips" in shown["tables"]
    assert shown["command"].startswith("kndb edit update --model tiny --fact 3 --to Rome")
    fields = {"model": "tiny", "fact": "3", "to": "Rome", "way": "update", "refinement": "1"}
    # What is stored is what was shown: nothing is computed again.
    monkeypatch.setattr("kndb.database.edits.drafts.draft_update", None)
    found = sent(editing, "/plan", **fields)
    assert found.header("location") == f"/edits/{count + 1}"
    monkeypatch.undo()
    made, again = database.edits.get(count + 1), database.edits.plan_update("tiny", 3, "Rome", refinement=1)
    assert made.object_hash == again.object_hash
    assert not made.applied


def test_what_can_not_be_planned_is_refused_as_by_the_command(editing):
    for fields, status in (
        ({"fact": "3", "to": "nothing like a token"}, 409),
        ({"fact": "999", "to": "Rome"}, 404),
        ({"fact": "x", "to": "Rome"}, 400),
        ({"fact": "3", "to": "Rome", "way": "magic"}, 400),
        ({"to": "Rome"}, 400),
    ):
        assert sent(editing, "/plan", model="tiny", **fields).status == status, fields
    assert sent(editing, "/elsewhere").status == 404
    assert sent(editing, "/edits/x/apply").status == 404
    assert len(editing.database.edits.all()) == 2


def test_nothing_is_written_and_no_form_is_shown_without_allow_edits(edited):
    reading = Explorer(edited, Rules(token=TOKEN, port=8017), for_shell)
    for path in ("/edits/2/apply", "/edits/1/revert", "/plan", "/snapshots", "/edits/1/evaluate"):
        assert sent(reading, path, model="tiny", name="x").status == 405, path
    assert not edited.edits.get(2).applied
    for path in ("/edits", "/edits/1", "/edits/2", "/facts/1"):
        forms = [one for tag, one in Html(ask(reading, path, headers=COOKIE).text).tags if tag == "form"]
        assert all(one["method"] == "get" for one in forms), path
    assert ask(reading, "/plan", headers=COOKIE).status == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_no_other_method_does_anything(editing, method):
    found = ask(editing, "/edits/1", method, {"origin": f"http://{HOST}", **COOKIE})
    assert found.status == 405
    assert editing.database.edits.get(1).applied
