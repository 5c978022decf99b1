"""Edits in a store that something else changed: their objects on disk, their recipes in the database.

No command may crash, and none may change the store on the way to an error; `kndb db check` says what is wrong with
objects.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from contextlib import closing

import pytest
from edit_files import header_of, object_of
from fuzzing import as_text, contents, fuzzed, mutated_bytes, mutated_json, run
from hypothesis import assume, given
from hypothesis import strategies as st

LOOKING = (
    *(["edit", "list"], ["edit", "list", "--format", "json"], ["edit", "log"], ["edit", "evaluations"]),
    *(["edit", "diff", "base", "current", "--model", "tiny"], ["edit", "verify"], ["db", "check"]),
    ["query", "neuron", "L0.N0"],
)
"""Commands that change nothing."""


@pytest.fixture(scope="module")
def store(world, tmp_path_factory):
    """A copy of the author's folder, in which edit 2 is evaluated; only to be copied."""
    folder = tmp_path_factory.mktemp("stored") / "ready"
    shutil.copytree(world.author.parent, folder)
    assert run(["edit", "eval", 2, "--sample", 1, "--db", folder / "kndb.db"])[0] == 0
    return folder / "kndb.db"


@pytest.fixture
def changed(store, tmp_path):
    """Changes a copy of the store by SQL, and gives its path; the copy before is made again."""
    place = tmp_path / "changed"

    def change(*statements):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(store.parent, place)
        with closing(sqlite3.connect(place / "kndb.db")) as driver, driver:
            for statement, values in statements:
                driver.execute(statement, values)
        return place / "kndb.db"

    return change


def tried(draw, path, edit, moves=()) -> None:
    """Runs three commands that look at edits, and two that move versions, each refused or done."""
    before = contents(path)
    at = ("--db", path)
    looking = (*LOOKING, ["edit", "show", edit], ["edit", "push", edit, "--out", path.with_name("out.kndb"), "--force"])
    for words in draw(st.lists(st.sampled_from(looking), min_size=3, max_size=3)):
        run([*words, *at])
    assert contents(path) == before
    for words in draw(st.lists(st.sampled_from((*MOVES, *moves)), min_size=2, max_size=2)):
        code, _ = run([*words, *at])
        if code:
            assert contents(path) == before, words
        before = contents(path)


MOVES = (
    ["edit", "revert", 2],
    ["edit", "apply", 3],
    ["snapshot", "restore", "base", "--model", "tiny"],
    ["edit", "delete", 4, 5],
)


@given(data=st.data())
@fuzzed(12, slower=10)
def test_an_object_on_disk(store, changed, data):
    path = changed()
    edit = data.draw(st.integers(1, 5))
    found = _object(path, edit)
    found.write_bytes(data.draw(mutated_bytes(found.read_bytes())))
    damaged = hashlib.sha256(found.read_bytes()).hexdigest() != found.stem
    assert (run(["db", "check", "--db", path])[0] == 4) == damaged
    tried(data.draw, path, edit)


@given(data=st.data())
@fuzzed(12, slower=10)
def test_an_object_on_disk_whose_hash_the_database_has(store, changed, data):
    edit = data.draw(st.integers(1, 5))
    header, payload = header_of(_object(store, edit).read_bytes())
    if data.draw(st.booleans()):
        header = data.draw(mutated_json(header))
    else:
        payload = data.draw(mutated_bytes(payload))
    content = object_of(header, payload)
    name = hashlib.sha256(content).hexdigest()
    place = f"{name[:2]}/{name}.safetensors"
    path = changed(("UPDATE edit SET object_hash = ?, object_path = ? WHERE id = ?", (name, place, edit)))
    (path.with_suffix(".objects") / name[:2]).mkdir(exist_ok=True)
    (path.with_suffix(".objects") / place).write_bytes(content)
    tried(data.draw, path, edit)


@given(data=st.data())
@fuzzed(25, slower=10)
def test_a_recipe_in_the_database(store, changed, data):
    edit = data.draw(st.integers(1, 5))
    with closing(sqlite3.connect(store)) as driver:
        recipe, kind = driver.execute("SELECT recipe, kind FROM edit WHERE id = ?", (edit,)).fetchone()
    kinds = st.sampled_from((kind, kind, kind, "update", "erase", "optimize", "capture", "", "\x1b[2J", "steer"))
    text = as_text(data.draw(mutated_json(json.loads(recipe))))
    assume(_is_read(text))
    path = changed(("UPDATE edit SET recipe = ?, kind = ? WHERE id = ?", (text, data.draw(kinds), edit)))
    tried(data.draw, path, edit, [["edit", "eval", edit, "--sample", 1], ["edit", "revert", 1, "--rebase"]])


def _is_read(text):
    """Whether a text is JSON to Python; the tests of damaged stores have what is none."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _object(path, edit):
    with closing(sqlite3.connect(path)) as driver:
        (place,) = driver.execute("SELECT object_path FROM edit WHERE id = ?", (edit,)).fetchone()
    return path.with_suffix(".objects") / place
