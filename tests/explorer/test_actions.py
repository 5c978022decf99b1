"""What forms change where edits are allowed: as the commands do, with the same refusals, and nowhere else."""

import json

import pytest
from asgi import HOST, TOKEN, ask, post
from html_pages import Html

from kndb.cli.advice import for_shell
from kndb.explorer.actions import ACTIONS
from kndb.explorer.application import Explorer
from kndb.explorer.guard import Rules
from kndb.explorer.registry import PLACES

COOKIE = {"cookie": f"kndb_explorer_8017={TOKEN}"}


def sent(application, path, **fields):
    """The answer to a form with its token, and with the version that its page would show unless one is given."""
    shown = {"version": application.database.models.get("tiny").version}
    return post(application, path, {"token": application.rules.form_token, **shown, **fields}, **COOKIE)


def words(answer):
    return " ".join(" ".join(Html(answer.text).text).split())


def fields_of(answer):
    """The fields of the form that stores a plan: those after the last of the other forms'."""
    found = [
        (values["name"], values["value"]) for tag, values in Html(answer.text).tags if values.get("type") == "hidden"
    ]
    names = [name for name, _ in found]
    return dict(found[: names.index("draft") + 1])


def page(application, address):
    return ask(application, address, headers=COOKIE)


def test_an_edit_is_applied_and_taken_back(editing):
    edits, before = editing.database.edits, editing.database.models.get("tiny").version
    ahead = edits.steps_ahead([2], "apply")
    values = page(editing, "/edits/2/apply.json").json()["values"]
    assert (values["Current version"], values["Version after"]) == (before, ahead.version_after)
    assert values["Value slots that get other bytes"] == edits.get(2).neurons
    found = sent(editing, "/edits/2/apply")
    assert (found.status, found.header("location")) == (303, "/edits/2")
    assert edits.get(2).applied
    assert editing.database.models.get("tiny").version == ahead.version_after
    assert "Revert this edit" in words(page(editing, "/edits/2"))
    refused = sent(editing, "/edits/2/apply")
    assert refused.status == 409
    assert "edit 2 is applied already" in words(refused).lower()
    assert "edit 2 is applied already" in words(page(editing, "/edits/2/apply")).lower()
    values = page(editing, "/edits/2/revert.json").json()["values"]
    assert values["Version after"] == before
    assert sent(editing, "/edits/2/revert").status == 303
    assert editing.database.models.get("tiny").version == before


def test_a_form_that_was_made_before_the_model_moved_changes_nothing(editing):
    database = editing.database
    shown = database.models.get("tiny").version
    database.snapshots.create("there", "tiny")
    database.edits.apply(2)
    moved = database.models.get("tiny").version
    goal = database.snapshots.get("one", "tiny").version
    for path, fields in (
        ("/edits/1/revert", {}),
        ("/plan", {"model": "tiny", "fact": "3", "to": "Rome"}),
        ("/snapshots", {"model": "tiny", "name": "mine"}),
        ("/snapshots/restore", {"model": "tiny", "name": "there", "goal": goal}),
    ):
        found = sent(editing, path, version=shown, **fields)
        assert found.status == 409, path
        assert f"moved from version {shown} to {moved} since this page was made" in words(found), path
        assert "Open its page again" in words(found)
        assert sent(editing, path, version="", **fields).status == 400
    assert database.models.get("tiny").version == moved
    assert len(database.edits.all()) == 2
    assert len(database.snapshots.all()) == 2


def test_a_version_is_named_and_gone_back_to(editing):
    database = editing.database
    version = database.models.get("tiny").version
    shown = page(editing, "/snapshots.json?model=tiny").json()
    assert shown["values"]["Current version"] == version
    assert [row["edit"] for row in shown["tables"]["edits"]] == [1]
    assert sent(editing, "/snapshots", model="tiny", name="here").status == 303
    assert database.snapshots.get("here", "tiny").version == version
    assert sent(editing, "/snapshots", model="tiny", name="here").status == 409
    assert sent(editing, "/snapshots", model="tiny").status == 400
    database.edits.apply(2)
    database.edits.revert(1)
    data = page(editing, "/snapshots/restore.json?model=tiny&name=here").json()
    assert [(row["action"], row["edit"]) for row in data["tables"]["steps"]] == [("reverted", 2), ("applied", 1)]
    assert data["values"]["Value slots that get other bytes"] == len(
        database.edits.diff("tiny", "current", "here").slots
    )
    fields = {"model": "tiny", "name": "here", "goal": version}
    assert sent(editing, "/snapshots/restore", **{**fields, "goal": "v0"}).status == 409
    assert sent(editing, "/snapshots/restore", **fields).status == 303
    assert database.models.get("tiny").version == version
    steps = [(one.direction, one.edit) for one in database.edits.log()[-2:]]
    assert steps == [("revert", 2), ("apply", 1)]
    assert "here" in words(page(editing, "/edits"))
    text = words(page(editing, "/snapshots/restore?model=tiny&name=here"))
    assert "is at this version already" in text
    assert "All steps are taken" not in text
    assert page(editing, "/snapshots/restore?model=tiny&name=none").status == 404
    assert page(editing, "/snapshots/restore?model=tiny").status == 400


def test_a_plan_is_shown_before_it_is_stored_once_and_is_the_commands(editing, monkeypatch):
    database, count = editing.database, len(editing.database.edits.all())
    address = "/plan.json?fact=3&to=Rome&refinement=1"
    assert page(editing, address).json()["later"] == {"tried": "/plan?fact=3&to=Rome&refinement=1&try=1"}
    first = page(editing, f"{address}&try=1").json()
    assert first["tables"]["preview"]
    assert first["later"] == {"kept": "/plan?fact=3&to=Rome&refinement=1&try=1&flips=1"}
    assert "Store this edit" not in words(page(editing, f"{address.replace('.json', '')}&try=1"))
    shown = page(editing, f"{address}&try=1&flips=1").json()
    assert "Store this edit" in words(page(editing, f"{address.replace('.json', '')}&try=1"))  # Now it is known.
    assert len(database.edits.all()) == count
    assert shown["tables"]["answers"][0]["to"] == "Rome"
    assert shown["tables"]["preview"]
    assert "flips" in shown["tables"]
    assert shown["command"].startswith("kndb edit update --model tiny --fact 3 --to Rome --refinement 1")
    fields = {"model": "tiny", "fact": "3", "to": "Rome", "way": "update", "refinement": "1"}
    # What is stored is what was shown: nothing is computed again.
    monkeypatch.setattr("kndb.database.edits.drafts.draft_update", None)
    found = sent(editing, "/plan", **fields)
    assert found.header("location") == f"/edits/{count + 1}"
    twice = sent(editing, "/plan", **fields)
    assert twice.status == 409
    assert f"stored already, as edit {count + 1}" in words(twice)
    assert len(database.edits.all()) == count + 1
    monkeypatch.undo()
    made, again = database.edits.get(count + 1), database.edits.plan_update("tiny", 3, "Rome", refinement=1)
    assert made.object_hash == again.object_hash
    assert not made.applied


def test_a_plan_that_comes_out_otherwise_than_it_was_shown_is_not_stored(editing, tmp_path):
    database, count = editing.database, len(editing.database.edits.all())
    address = "/plan?fact=3&to=Rome&refinement=1&try=1&flips=1"
    fields = fields_of(page(editing, address))
    templates = tmp_path / "more.jsonl"
    line = {"relation": database.facts.get(3).relation, "template": "Once more , [X] : [Y]."}
    templates.write_text(f"{json.dumps(line)}\n", "utf-8")
    database.facts.ingest([templates])
    refused = sent(editing, "/plan", **fields)
    assert refused.status == 409
    assert "were added since this page was made" in words(refused)
    assert len(database.edits.all()) == count
    assert sent(editing, "/plan", **fields_of(page(editing, address))).status == 303


def test_a_relation_is_erased_and_many_facts_are_edited(editing):
    database = editing.database
    data = page(editing, "/plan.json?way=erase&relation=P36&top=3&refinement=1&try=1").json()
    assert data["tables"]["preview"]
    assert data["command"].startswith("kndb edit erase --model tiny --relation P36 --top 3 --refinement 1")
    erased = sent(editing, "/plan", model="tiny", way="erase", relation="P36", top="3", refinement="1")
    made = database.edits.get(int(erased.header("location").rpartition("/")[2]))
    assert (made.kind, made.neurons) == ("erase", 3)
    assert made.object_hash == database.edits.plan_erase("tiny", "P36", top=3, refinement=1).object_hash

    data = page(editing, "/plan.json?way=together&answers=1%20Rome%0D%0A2%20Oslo&try=1&flips=1").json()
    assert [(row["fact"], row["to"]) for row in data["tables"]["preview"]] == [(1, "Rome"), (2, "Oslo")]
    assert "flips" in data["tables"]
    assert data["command"].startswith("kndb edit optimize --together --model tiny --facts FILE")
    stored = sent(editing, "/plan", model="tiny", way="together", answers="1 Rome\r\n2 Oslo")
    made = database.edits.get(int(stored.header("location").rpartition("/")[2]))
    assert [(fact.id, fact.to) for fact in made.recipe.facts] == [(1, "Rome"), (2, "Oslo")]
    targets = database.edits.targets_in("relation,subject,to\nP36,France,Rome\nP36,Italy,Oslo\n")
    assert made.object_hash == database.edits.plan_together("tiny", targets).object_hash


def test_conditions_are_checked_before_a_plan_is_stored(editing):
    count = len(editing.database.edits.all())
    address = "/plan.json?fact=3&to=Rome&refinement=1&try=1&flips=1&require="
    held = page(editing, f"{address}success%3E%3D0")
    assert any("success" in text and "holds" in text for text in held.json()["texts"])
    assert "Store this edit" in words(page(editing, "/plan?fact=3&to=Rome&refinement=1&try=1&require=success%3E%3D0"))
    failed = page(editing, "/plan?fact=3&to=Rome&refinement=1&try=1&flips=1&require=success%3E1")
    assert "its condition does not hold" in words(failed)
    assert "Store this edit" not in words(failed)
    fields = {"model": "tiny", "fact": "3", "to": "Rome", "refinement": "1"}
    for require, status in (("success>1", 409), ("nothing>1", 400), ("success>=95", 400)):
        assert sent(editing, "/plan", **fields, require=require).status == status, require
    assert sent(editing, "/plan", **fields, confident="yes").status == 400
    assert len(editing.database.edits.all()) == count
    found = sent(editing, "/plan", **fields, require="success>=0\nflips.others>=0")
    made = editing.database.edits.get(int(found.header("location").rpartition("/")[2]))
    assert [str(one) for one in made.conditions.conditions] == ["success>=0.0", "flips.others>=0.0"]
    rows = page(editing, f"/edits/{made.id}/apply.json").json()["tables"]["conditions"]
    assert [row["condition"] for row in rows] == ["success >= 0 %", "flips.others >= 0 %"]
    assert sent(editing, f"/edits/{made.id}/apply").status in (303, 409)


def test_an_edit_is_measured_once_by_a_form(editing):
    edits = editing.database.edits
    assert "Measure it" in words(page(editing, "/edits/1"))
    seen = str(len(edits.evaluations(1)))
    assert sent(editing, "/edits/1/evaluate", evaluations=seen).status == 303
    assert sent(editing, "/edits/1/evaluate", evaluations=seen).status == 409
    assert len(edits.evaluations(1)) == int(seen) + 1


def test_what_can_not_be_planned_is_refused_as_by_the_command(editing):
    for fields, status in (
        ({"fact": "3", "to": "nothing like a token"}, 409),
        ({"fact": "999", "to": "Rome"}, 404),
        ({"fact": "x", "to": "Rome"}, 400),
        ({"fact": "3", "to": "Rome", "way": "magic"}, 400),
        ({"to": "Rome"}, 400),
        ({"way": "erase"}, 400),
        ({"way": "erase", "relation": "P99"}, 404),
        ({"way": "erase", "relation": "P36", "top": "0"}, 400),
        ({"way": "together", "answers": "1 Rome\n1 Oslo"}, 400),
        ({"way": "together", "answers": "1 Rome\nno number"}, 400),
        ({"way": "together", "answers": "999 Rome"}, 404),
        ({"way": "together", "answers": "relation,subject,to\nP36,Atlantis,Rome"}, 404),
    ):
        found = sent(editing, "/plan", model="tiny", **fields)
        assert found.status == status, fields
        assert "/tmp" not in found.text
    assert sent(editing, "/elsewhere").status == 404
    assert sent(editing, "/edits/x/apply").status == 404
    assert len(editing.database.edits.all()) == 2


def test_no_word_of_a_form_becomes_markup(editing):
    evil = "<script>alert(1)</script>\u202e\x1b[31m"
    for path, fields in (
        ("/plan", {"model": "tiny", "fact": "3", "to": evil}),
        ("/plan", {"model": "tiny", "way": "erase", "relation": evil}),
        ("/plan", {"model": "tiny", "way": "together", "answers": f"3 {evil}"}),
        ("/plan", {"model": "tiny", "way": "together", "answers": evil}),
        ("/plan", {"model": "tiny", "fact": "3", "to": "Rome", "require": evil}),
        ("/plan", {"model": evil, "fact": "3", "to": "Rome"}),
        ("/snapshots", {"model": "tiny", "name": evil}),
        ("/snapshots/restore", {"model": "tiny", "name": evil, "goal": evil}),
    ):
        found = sent(editing, path, **fields)
        assert found.status in (400, 404, 409), (path, found.status)
        assert found.text.count("<script") == 1
        assert "\u202e" not in found.text
        assert "\x1b" not in found.text
    for query in ("fact=3&to=", "way=erase&relation=", "way=together&answers=", "fact=3&to=Rome&require="):
        from urllib.parse import quote

        for more in ("", "&try=1", "&try=1&flips=1"):
            found = page(editing, f"/plan?{query}{quote(evil)}{more}")
            assert found.text.count("<script") == 1, query
            assert "\u202e" not in found.text


# --- where nothing may be changed ----------------------------------------------------------------------


@pytest.mark.parametrize("pattern", [one.pattern for one in ACTIONS])
def test_no_form_is_taken_without_token_origin_or_allow_edits(editing, edited, pattern):
    path = pattern.replace("{edit}", "2" if pattern.endswith("apply") else "1")
    version = edited.models.get("tiny").version
    fields = {"model": "tiny", "name": "one", "goal": version, "version": version, "evaluations": "1"}
    fields |= {"fact": "3", "to": "Rome"}
    token = {"token": editing.rules.form_token}
    before = version, len(edited.edits.all()), len(edited.edits.evaluations(1)), len(edited.snapshots.all())
    for given in ({}, {"token": ""}, {"token": TOKEN}, {"token": "x" * 64}):
        assert post(editing, path, {**fields, **given}, **COOKIE).status == 403, given
    assert post(editing, path, {**fields, **token}).status == 401
    for origin in ("null", "http://evil.example", f"https://{HOST}"):
        assert post(editing, path, {**fields, **token}, origin=origin, **COOKIE).status == 403, origin
    for site in ("cross-site", "same-site"):
        assert post(editing, path, {**fields, **token}, **COOKIE, **{"sec-fetch-site": site}).status == 403
    for method in ("PUT", "DELETE", "PATCH"):
        assert ask(editing, path, method, {"origin": f"http://{HOST}", **COOKIE}).status == 405
    reading = Explorer(edited, Rules(token=TOKEN, port=8017), for_shell)
    assert post(reading, path, {**fields, **token}, **COOKIE).status == 405
    after = edited.models.get("tiny").version, len(edited.edits.all()), len(edited.edits.evaluations(1))
    assert (*after, len(edited.snapshots.all())) == before


@pytest.mark.parametrize("pattern", [one.pattern for one in ACTIONS])
def test_the_links_of_a_form_that_was_refused_lead_to_pages(editing, pattern):
    path = pattern.replace("{edit}", "2" if pattern.endswith("apply") else "1")
    refused = sent(editing, path, model="tiny", name="one", version="of another day", fact="3", to="Rome", goal="other")
    assert refused.status in (400, 409)
    links = [one for one in Html(refused.text).links if one.startswith("/") and not one.startswith("/static/")]
    assert any(".json" in one for one in links)
    for link in links:
        assert page(editing, link).status == 200, link


def test_every_form_of_a_page_is_one_of_those_and_carries_token_and_version(editing):
    patterns = set()
    addresses = [
        "/edits",
        "/edits/1",
        "/edits/2",
        "/edits/2/apply",
        "/edits/1/revert",
        "/plan?fact=3&to=Rome&try=1&flips=1",
    ]
    addresses += ["/snapshots?model=tiny", "/snapshots/restore?model=tiny&name=one"]
    editing.database.edits.apply(2)
    editing.database.edits.revert(2)
    editing.database.edits.revert(1)
    editing.database.edits.apply(2)
    addresses += ["/edits/1/apply", "/edits/2/revert"]
    for address in addresses:
        found = page(editing, address)
        assert found.status == 200, address
        forms = [one["action"] for tag, one in Html(found.text).tags if tag == "form" and one["method"] == "post"]
        for action in forms:
            (pattern,) = [one.pattern for one in ACTIONS if _fits(one.pattern, action)]
            patterns.add(pattern)
            assert editing.rules.form_token in found.text
            assert 'name="version"' in found.text or pattern.endswith("evaluate")
    assert patterns == {one.pattern for one in ACTIONS}


def _fits(pattern, action):
    return len(pattern.split("/")) == len(action.split("/")) and all(
        one.startswith("{") or one == other for one, other in zip(pattern.split("/"), action.split("/"), strict=True)
    )


def test_no_form_is_shown_without_allow_edits(edited):
    reading = Explorer(edited, Rules(token=TOKEN, port=8017), for_shell)
    for path in ("/edits", "/edits/1", "/edits/2", "/facts/1"):
        forms = [one for tag, one in Html(page(reading, path).text).tags if tag == "form"]
        assert all(one["method"] == "get" for one in forms), path
    for place in PLACES:
        if place.edits:
            assert page(reading, place.pattern.replace("{edit}", "1")).status == 404, place.pattern


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_no_other_method_does_anything(editing, method):
    found = ask(editing, "/edits/1", method, {"origin": f"http://{HOST}", **COOKIE})
    assert found.status == 405
    assert editing.database.edits.get(1).applied
