"""Files of edits with anything wrong in them: refused by one of kndb's errors with the store as it was, or sound."""

from __future__ import annotations

import contextlib
import hashlib
import json

import pytest
from edit_files import header_of, manifest_of, object_of, written
from fuzzing import contents, fuzzed, mutated_bytes, mutated_json, run
from hypothesis import given
from hypothesis import strategies as st

from kndb.editing.objects import object_format
from kndb.editing.objects.object_bytes import FlawError
from kndb.exchange import edit_bundle

pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.fixture
def pulls(world, tmp_path):
    """Pulls a file by the command: refused and nothing changed, or taken, shown, sound, and deleted again."""
    before = contents(world.colleague)
    at = ("--db", world.colleague)

    def pull(content: bytes) -> bool:
        path = tmp_path / "fuzzed.kndb"
        path.write_bytes(content)
        previewed, _ = run(["edit", "pull", path, "--preview", *at])
        assert contents(world.colleague) == before
        code, printed = run(["edit", "pull", path, "--format", "json", *at])
        assert code == previewed
        if code != 0:
            assert contents(world.colleague) == before
            return False
        numbers = [one["edit"] for one in json.loads(printed)]
        for words in (["list"], ["list", "--wide"], ["verify"], *(["show", number] for number in numbers)):
            assert run(["edit", *words, *at])[0] == 0
        assert run(["db", "check", *at])[0] == 0
        assert run(["edit", "delete", *numbers, *at])[0] == 0
        assert contents(world.colleague) == before
        return True

    return pull


def test_what_was_pushed_is_pulled(world, pulls):
    """Else the fuzzers below would test nothing."""
    manifest = manifest_of(world.bundle)
    assert written(manifest, world.bundle.objects) == edit_bundle.encode(world.bundle)
    assert all(object_of(*header_of(content)) == content for content in world.bundle.objects.values())
    assert pulls(written(manifest, world.bundle.objects))


@given(data=st.data())
@fuzzed(40, slower=4)
def test_bytes_of_the_file(world, pulls, data):
    pulls(data.draw(mutated_bytes(edit_bundle.encode(world.bundle))))


@given(data=st.data())
@fuzzed(50, slower=4)
def test_the_manifest(world, pulls, data):
    pulls(written(data.draw(mutated_json(manifest_of(world.bundle))), world.bundle.objects))


@given(data=st.data())
@fuzzed(50, slower=8)
def test_an_object_under_its_own_hash(world, pulls, data):
    manifest = manifest_of(world.bundle)
    place = data.draw(st.integers(0, len(manifest["edits"]) - 1))
    edit = manifest["edits"][place]
    header, payload = header_of(world.bundle.objects[edit["object_hash"]])
    if data.draw(st.booleans()):
        # A name or a number is changed wherever else it stands: a lie that is told twice.
        recipe = data.draw(mutated_json(header["__metadata__"]["recipe"]))
        header["__metadata__"]["recipe"] = recipe
        fact = recipe.get("fact") if isinstance(recipe, dict) else None
        if isinstance(fact, dict) and edit["facts"] and {"id", "relation", "subject", "object"} <= fact.keys():
            edit["facts"][0] |= {"number": fact["id"], **{key: fact[key] for key in ("relation", "subject", "object")}}
    else:
        header = data.draw(mutated_json(header))
    if data.draw(st.integers(0, 4)) == 0:
        payload = data.draw(mutated_bytes(payload))
    content = object_of(header, payload)
    name = hashlib.sha256(content).hexdigest()
    edited = json.loads(json.dumps(manifest).replace(edit["object_hash"], name))
    objects = {name if key == edit["object_hash"] else key: value for key, value in world.bundle.objects.items()}
    about = header.get("__metadata__")
    if isinstance(about, dict) and isinstance(about.get("kind"), str):
        edited["edits"][place]["kind"] = about["kind"]
    pulls(written(edited, objects | {name: content}))


@given(data=st.data())
@fuzzed(300)
def test_reading_bytes_ends_with_an_error_of_the_reader_or_the_same_bytes(world, data):
    """At the speed of the readers alone."""
    content = data.draw(st.sampled_from([edit_bundle.encode(world.bundle), *world.bundle.objects.values()]))
    changed = data.draw(mutated_bytes(content))
    with contextlib.suppress(FlawError):
        object_format.parse(changed)
    with contextlib.suppress(edit_bundle._FlawError):
        assert edit_bundle.encode(edit_bundle.decode(changed)) == changed


@given(data=st.data())
@fuzzed(300)
def test_reading_a_header(world, data):
    header, payload = header_of(data.draw(st.sampled_from(list(world.bundle.objects.values()))))
    content = object_of(data.draw(mutated_json(header)), payload)
    with contextlib.suppress(FlawError):
        found = object_format.parse(content)
        assert object_format._assembled(found) == content
        assert isinstance(found.recipe.title, str)
