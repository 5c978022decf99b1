"""What a form is refused is what the command is refused, in the same words, and the store is as it was before."""

import contextlib
import hashlib
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from asgi import HOST, TOKEN, ask, post
from html_pages import Html

from kndb.cli.advice import for_shell
from kndb.cli.main import exit_code
from kndb.database import open_database
from kndb.explorer.application import Explorer
from kndb.explorer.guard import Rules
from kndb.store.engine import open_store

COOKIE = {"cookie": f"kndb_explorer_8017={TOKEN}"}
PLAN = ("edit", "update", "--model", "tiny")
OF_PLAN = {"model": "tiny", "way": "update"}


@pytest.fixture
def place(rich_store, tmp_path, monkeypatch):
    """A folder with the database of a real model, which is the current one."""
    shutil.copytree(rich_store, tmp_path / "rich", symlinks=True)
    monkeypatch.chdir(tmp_path / "rich")
    monkeypatch.delenv("KNDB_DB", raising=False)
    return tmp_path / "rich"


@pytest.fixture
def database(place):
    """Beside edit 1, which is applied: 3 and 4 erase the same neurons, which 1 changed, and 3 is applied."""
    with open_database("kndb.db") as opened:
        for top in (5, 3):
            opened.edits.plan_erase("tiny", "P36", top=top, refinement=1)
        opened.edits.apply(3)
        yield opened


@pytest.fixture
def both(database, place, capsys):
    """Runs a command, which is refused, and sends a form, which is refused in the same words; gives the words.

    With `looks`, the form's page says them, too, and has no button.
    """
    rules = Rules(token=TOKEN, editing=True, port=int(HOST.rpartition(":")[2]))
    application = Explorer(database, rules, for_shell)

    def refused(words, path, fields=(), *, read=True, looks=False):
        before = state(place) if read else None
        capsys.readouterr()
        code = exit_code([str(word) for word in words])
        said = capsys.readouterr().err
        assert code not in (0, 1), said
        told = re.search(r"^Error: (.*?)$", said, re.MULTILINE)[1]
        shown = {} if not read else {"version": database.models.get("tiny").version}
        answer = post(application, path, {"token": rules.form_token, **shown, **dict(fields)}, **COOKIE)
        assert answer.status in (400, 404, 409, 503), answer.status
        page = " ".join(" ".join(Html(answer.text).text).split())
        assert "Nothing was changed" in page
        assert " ".join(told.split()).rstrip(".")[1:] in page, (told, page)
        if path.endswith(("/apply", "/revert")) and looks:
            shown_before = ask(application, path, headers=COOKIE)
            assert " ".join(told.split()).rstrip(".")[1:] in " ".join(" ".join(Html(shown_before.text).text).split())
            assert "<button>Apply" not in shown_before.text
            assert "<button>Revert" not in shown_before.text
        if read:
            assert state(place) == before
        return told

    return refused


def state(place: Path) -> dict[str, str]:
    """All that the database holds, and its objects."""
    found = {
        str(file): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in (place / "kndb.objects").rglob("*")
        if file.is_file()
    }
    with contextlib.closing(sqlite3.connect(place / "kndb.db")) as connection:
        found["rows"] = "\n".join(connection.iterdump())
    return found


def test_steps_and_names(both, database):
    assert "edit 1 is applied already" in both(("edit", "apply", 1), "/edits/1/apply", looks=True)
    assert "edit 2 is not applied" in both(("edit", "revert", 2), "/edits/2/revert", looks=True)
    assert "edit 3 changed them" in both(("edit", "apply", 4), "/edits/4/apply", looks=True)
    assert "edit 3, applied later" in both(("edit", "revert", 1), "/edits/1/revert", looks=True)
    both(("edit", "apply", 99), "/edits/99/apply")
    both(("edit", "revert", 99), "/edits/99/revert")
    create = ("snapshot", "create", "--model", "tiny")
    for name in ("one", "base", "\x07"):
        both((*create, name), "/snapshots", {"model": "tiny", "name": name})
    both((*create[:2], "--model", "none", "x"), "/snapshots", {"model": "none", "name": "x"})
    missing = {"model": "tiny", "name": "none", "goal": "v"}
    # The command goes to any version, the page to what has a name.
    assert "no snapshot 'none'" in both(("snapshot", "show", "--model", "tiny", "none"), "/snapshots/restore", missing)


def test_plans(both, place):
    for words, fields in (
        (("--fact", 999, "--to", "Rome"), {"fact": "999", "to": "Rome"}),
        (("--fact", 3, "--to", "no such token"), {"fact": "3", "to": "no such token"}),
        (("--fact", 3, "--to", "Rome", "--refinement", 99), {"fact": "3", "to": "Rome", "refinement": "99"}),
        (("--fact", 3, "--to", "Rome", "--require", "success>1"), {"fact": "3", "to": "Rome", "require": "success>1"}),
        (("--fact", 3, "--to", "Rome", "--require", "sucess>1"), {"fact": "3", "to": "Rome", "require": "sucess>1"}),
        (("--fact", 3, "--to", "Rome", "--confident"), {"fact": "3", "to": "Rome", "confident": "yes"}),
    ):
        both((*PLAN, *words), "/plan", {**OF_PLAN, **fields})
    erase = ("edit", "erase", "--model", "tiny", "--relation")
    for words, fields in (
        (("P99",), {"relation": "P99"}),
        (("P36", "--top", 0), {"relation": "P36", "top": "0"}),
        (("P36", "--top", 5), {"relation": "P36", "top": "5"}),  # They are zero already.
        (("P37", "--top", 2, "--require", "remembered<0"), {"relation": "P37", "top": "2", "require": "remembered<0"}),
    ):
        both((*erase, *words), "/plan", {"model": "tiny", "way": "erase", **fields})
    many = ("edit", "optimize", "--together", "--model", "tiny", "--facts", "answers.csv")
    for text, more in (
        ("relation,subject,to\nP36,Atlantis,Rome\n", {}),
        ("fact,to\n1,Rome\n1,Oslo\n", {}),
        ("fact,to\n1\n", {}),
        ("fact,to\n1,\n", {}),
        ("fact,to\n1,Rome\n", {"require": "success>1"}),
    ):
        (place / "answers.csv").write_text(text, encoding="utf-8")
        options = [word for value in more.values() for word in ("--require", value)]
        both((*many, *options), "/plan", {"model": "tiny", "way": "together", "answers": text, **more})


def test_a_condition_that_no_longer_holds(both, database):
    made = database.edits.add(database.edits.drafts.update("tiny", 3, "Rome", refinement=1), require="success>=0")
    with database.store.writing() as connection:
        connection.exec_driver_sql(
            "UPDATE edit SET conditions = replace(conditions, 'success>=0.0', 'success>1.0') WHERE id = ?", (made.id,)
        )
    assert "condition does not hold" in both(("edit", "apply", made.id), f"/edits/{made.id}/apply")
    assert not database.edits.get(made.id).applied


@pytest.mark.parametrize("damage", ["no checkpoint", "another checkpoint", "flipped object", "no object"])
def test_what_was_changed_behind_the_store(both, database, place, damage):
    goal = database.snapshots.get("one", "tiny").version
    if damage == "no checkpoint":
        write(database, "UPDATE model SET source = '/nowhere'")
    elif damage == "another checkpoint":
        shutil.copytree((place / "inputs" / "checkpoint").resolve(), place / "other")
        weights = place / "other" / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-4096:] = bytes(4096)
        weights.write_bytes(content)
        write(database, f"UPDATE model SET source = '{place / 'other'}'")
    else:
        for number in (2, 3):
            path = database.store.objects / database.edits.get(number).object_path
            content = path.read_bytes()
            path.unlink()
            if damage == "flipped object":
                path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    if damage != "another checkpoint":  # Slots that no file changed may be as the edit expects them.
        both(("edit", "apply", 2), "/edits/2/apply")
        both(("edit", "revert", 3), "/edits/3/revert")
        both(("snapshot", "restore", "one", "--model", "tiny"), "/snapshots/restore", {**NAMED, "goal": goal})
    both((*PLAN, "--fact", 3, "--to", "Rome"), "/plan", {**OF_PLAN, "fact": "3", "to": "Rome"})


NAMED = {"model": "tiny", "name": "one"}


def write(database, statement):
    with database.store.writing() as connection:
        connection.exec_driver_sql(statement)


def test_a_store_that_another_process_writes(both, database, place, monkeypatch):
    monkeypatch.setitem(open_store.__kwdefaults__, "timeout", 0.05)
    database.close()
    database.store.__init__("kndb.db", timeout=0.05)  # As a store that does not wait long.
    fields = shown(database)
    before = state(place)
    with contextlib.closing(sqlite3.connect("kndb.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        every_step(both, fields)
        other.execute("ROLLBACK")
    assert state(place) == before


def test_a_store_that_can_only_be_read(both, database, place, monkeypatch):
    fields = shown(database)
    before = state(place)
    database.close()
    connect = sqlite3.connect

    def reading(*words, **options):
        connection = connect(*words, **options)
        connection.execute("PRAGMA query_only = 1")
        return connection

    monkeypatch.setattr(sqlite3, "connect", reading)
    every_step(both, fields)
    monkeypatch.undo()
    assert state(place) == before


def shown(database):
    """The versions that forms show."""
    version, goal = (database.models.resolve_version("tiny", name) for name in ("current", "one"))
    return {"version": version, "goal": goal}


def every_step(both, fields):
    """Everything that writes, refused."""
    both(("edit", "apply", 2), "/edits/2/apply", fields, read=False)
    both(("edit", "revert", 3), "/edits/3/revert", fields, read=False)
    both(("snapshot", "create", "x", "--model", "tiny"), "/snapshots", {**NAMED, **fields, "name": "x"}, read=False)
    both(("snapshot", "restore", "one", "--model", "tiny"), "/snapshots/restore", {**NAMED, **fields}, read=False)
    plan = {**OF_PLAN, **fields, "fact": "5", "to": "Rome"}
    both((*PLAN, "--fact", 5, "--to", "Rome"), "/plan", plan, read=False)
