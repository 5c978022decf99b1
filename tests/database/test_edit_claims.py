"""A file of edits that lies is refused, whatever it lies about; what nothing can prove is said to be the sender's."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from dataclasses import replace

import pytest

from kndb.advice import for_python
from kndb.cli.advice import for_shell
from kndb.cli.main import exit_code
from kndb.database import open_database
from kndb.errors import EditError, InputError, UsageError
from kndb.exchange import edit_bundle
from kndb.records.edit_settings import EvaluationSettings, UpdateSettings
from kndb.records.edits import EditChange, SlotLength
from kndb.records.maintenance import CheckReport
from kndb.records.models import Neuron
from kndb.store.clock import now
from kndb.versions import version_id


@pytest.fixture(scope="module")
def author(refined_folders, tmp_path_factory):
    """A database in which Ada planned an update of one fact, another one on top of that, and an erase."""
    folder = shutil.copytree(refined_folders["bert"], tmp_path_factory.mktemp("author") / "refined")
    with pytest.MonkeyPatch.context() as patched, open_database(folder / "kndb.db") as database:
        patched.setenv("KNDB_AUTHOR", "ada")
        fact = database.facts.find(["P36"], subject="France")[0]
        for answer in ("Tokyo", "Oslo"):
            edit = database.edits.plan_update("tiny", fact.id, answer, UpdateSettings(rule="output", max_share=1.0))
            database.edits.apply(edit.id)
        database.edits.plan_erase("tiny", "P37", top=3)
        yield database


def new_store(path, small_models, small_facts):
    database = open_database(path)
    database.models.add(str(small_models["bert"]), "mine")
    database.facts.ingest([small_facts])
    return database


@pytest.fixture
def colleague(small_models, small_facts, tmp_path):
    """An empty database with the same checkpoint and facts."""
    with new_store(tmp_path / "other.db", small_models, small_facts) as database:
        yield database


@pytest.fixture(scope="module")
def unmoved(small_models, small_facts, tmp_path_factory):
    """Another one, for files that are refused."""
    with new_store(tmp_path_factory.mktemp("unmoved") / "other.db", small_models, small_facts) as database:
        yield database


@pytest.fixture(scope="module")
def bundles(author, tmp_path_factory):
    """Files of edits by the edits' numbers, as values."""
    found = {}
    for edits in ((1,), (2, 3)):
        path = tmp_path_factory.mktemp("pushed") / "true.kndb"
        author.edits.push(edits, path)
        with edit_bundle.opened(path) as file:
            found[edits] = file.read(10**9)
    return found


@pytest.fixture
def pushed(bundles, tmp_path):
    """Gives the content of a file of edits as a value, and writes it."""

    def push(*edits):
        (tmp_path / "true.kndb").write_bytes(edit_bundle.encode(bundles[edits]))
        return bundles[edits]

    return push


@pytest.fixture
def refused(unmoved, tmp_path):
    """Pulls a file with other content: it must be refused, and the store stay as it is."""

    def pull(bundle, words):
        path = tmp_path / "lie.kndb"
        path.write_bytes(edit_bundle.encode(bundle))
        with pytest.raises(InputError, match=words):
            unmoved.edits.pull(path)
        assert unmoved.edits.all() == []
        assert unmoved.maintenance.check() == CheckReport()

    return pull


def with_object(bundle, number, content):
    """The file with other bytes for the object of one of its edits, under their own hash."""
    edit = bundle.edits[number]
    name = hashlib.sha256(content).hexdigest()
    edits = [
        replace(
            one,
            object_hash=name if one is edit else one.object_hash,
            builds_on=tuple(name if other == edit.object_hash else other for other in one.builds_on),
        )
        for one in bundle.edits
    ]
    objects = {key: value for key, value in bundle.objects.items() if key != edit.object_hash} | {name: content}
    return replace(bundle, edits=tuple(edits), objects=objects)


def changed(content, change):
    """An edit object with its metadata changed by a function; whatever was parsed of it is JSON again."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    about = header["__metadata__"]
    for key in ("recipe", "parameters"):
        about[key] = json.loads(about[key])
    change(about)
    for key in ("recipe", "parameters"):
        about[key] = json.dumps(about[key], sort_keys=True, separators=(",", ":"))
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def recipe_with(**values):
    return lambda about: about["recipe"].update(values)


def entry_with(**values):
    return lambda about: about["parameters"][0].update(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (recipe_with(neurons=["L0.N0"]), "it changes L.* which its recipe does not name"),
        (recipe_with(neurons=["L9.N0"]), "its recipe names L9.N0, which the model does not have"),
        (recipe_with(neurons_left_out=["L0.N99999"]), "its recipe names L0.N99999"),
        (
            recipe_with(new_token=10**6),
            "its recipe says that its new answer is token 1000000, and the model has tokens 0 to",
        ),
        (recipe_with(old_token=-1), "its recipe can't be read: old_token is -1. Have it sent again"),
        (recipe_with(to="Rome"), "it calls its new answer 'Rome', and the token that it names is 'Tokyo'"),
        (recipe_with(old_answer="\x1b[31mRome"), "it calls its old answer"),
        (recipe_with(lambda_new="much"), r"its recipe can't be read: lambda_new is 'much'. Have it"),
        (recipe_with(to="x" * 10_001), "its recipe has a text of 10,001 letters; 10,000 are allowed"),
        (recipe_with(later={"y" * 10_001: 1}), "its recipe has a text of 10,001 letters"),
        (recipe_with(refinement=2**63), "its recipe can't be read: refinement is"),
        (lambda about: about["recipe"]["fact"].update(subject="Spain"), "its recipe is for 'Spain · P36 · "),
        (lambda about: about["recipe"]["fact"].update(id=10**6), "the manifest names fact .*, and its recipe does"),
        (entry_with(layer=1), "it calls the value slots of .* each a column of layer 1; in the model, each is a col"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(pushed, refused, change, words):
    bundle = pushed(1)
    content = bundle.objects[bundle.edits[0].object_hash]
    refused(with_object(bundle, 0, changed(content, change)), f"is not what it says: {words}")


def test_a_kind_that_is_not_its_own_is_refused(pushed, refused):
    bundle = pushed(1)
    content = bundle.objects[bundle.edits[0].object_hash]

    def erase(about):
        about.update(kind="erase", recipe={"neurons": about["recipe"]["neurons"], "relation": "P36"})

    def capture(about):
        tensors = {"x": {"encoding": "slots", "slots": 1, "rank": None, "exceptions": None}}
        about.update(kind="capture", recipe={"from": "there", "from_fingerprint": "f", "tensors": tensors})

    for kind, change, words in (
        ("erase", erase, "it is of kind erase, and puts other values than zero into slots of"),
        ("capture", capture, "its recipe describes other parameters than it changes"),
        (
            "steer",
            lambda about: about.update(kind="steer"),
            "its recipe can't be read: kind 'steer' is unknown. A later kndb may have planned it",
        ),
    ):
        lie = with_object(bundle, 0, changed(content, change))
        lie = replace(lie, edits=(replace(lie.edits[0], kind=kind, facts=()),))
        refused(lie, words)


def test_a_whole_parameter_that_holds_value_slots_is_refused(pushed, refused, unmoved):
    """Else an edit of its slots would not be seen to overlap."""
    from kndb.editing.objects import diff_format
    from kndb.editing.objects.diff_tensors import TensorDiff
    from kndb.editing.objects.slots import raw, region_hash
    from kndb.records.recipes import CaptureRecipe

    bundle = pushed(1)
    found = diff_format.decode(bundle.objects[bundle.edits[0].object_hash], "x")
    name = found.parameters[0].parameter
    weight = dict(unmoved.load_model("mine").named_parameters())[name].detach()
    part = TensorDiff(name, tuple(weight.shape), "F32", None, region_hash(weight), region_hash(weight + 1),
                      old=raw(weight), new=raw(weight + 1))  # fmt: skip
    recipe = CaptureRecipe(source="there", from_fingerprint="f", tensors={
        name: {"encoding": "whole", "slots": None, "rank": None, "exceptions": None}
    })  # fmt: skip
    lie = replace(found, recipe=recipe, parameters=(), layers={}, shapes={}, tensors=(part,))
    bundle = with_object(bundle, 0, diff_format.encode(lie))
    edits = (replace(bundle.edits[0], kind="capture", facts=()),)
    refused(replace(bundle, edits=edits), f"it changes {name} as a whole, which holds value slots")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one: replace(one, author="a" * 201), "a text of 201 letters where 200 are allowed"),
        (lambda one: replace(one, author="a\0"), "a NUL in"),
        (lambda one: replace(one, title="a" * 10_001), "a text of 10,001 letters"),
        (lambda one: replace(one, created_at="9999-01-01T00:00:00+00:00"), "is not between the year 2000 and now"),
        (lambda one: replace(one, created_at="1969-01-01T00:00:00+00:00"), "is not between the year 2000 and now"),
        (lambda one: replace(one, created_at="2024-02-30T00:00:00+00:00"), "a manifest that does not fit"),
        (lambda one: replace(one, created_at="yesterday"), "'yesterday' in place of a time such as"),
        (lambda one: replace(one, created_at="2024-01-01T00:00:00+00:00\x1b[2J"), "a text of 29 letters"),
        (lambda one: replace(one, facts=(*one.facts, *one.facts)), "one of the facts of edit .* twice"),
        (lambda one: replace(one, facts=(replace(one.facts[0], number=7**9),)), "and its recipe does not"),
        (lambda one: replace(one, facts=(replace(one.facts[0], object="Rome"),)), "and the manifest calls that fact"),
        (lambda one: replace(one, facts=(replace(one.facts[0], number=-1),)), "-1 in place of a whole number"),
        (lambda one: replace(one, kind="erase"), "is of kind 'update' .* but the manifest says 'erase'"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(pushed, refused, change, words):
    bundle = pushed(1)
    refused(replace(bundle, edits=(change(bundle.edits[0]),)), words)


def test_another_size_of_the_model_is_refused(pushed, refused):
    refused(replace(pushed(1), layers=99), "says that the model has 99 layers")


def test_a_title_is_computed_and_the_manifests_is_not_shown(pushed, colleague, tmp_path):
    bundle = pushed(1)
    path = tmp_path / "named.kndb"
    renamed = replace(bundle.edits[0], title="harmless", author="\x1b]0;owned\x07ada\u202e")
    path.write_bytes(edit_bundle.encode(replace(bundle, edits=(renamed,))))
    (shown,) = colleague.edits.pull(path, preview=True)
    assert shown.what.startswith("France · P36 · ")
    assert shown.author == renamed.author


def test_what_is_computed_is_what_the_edit_does(author, pushed, colleague, tmp_path):
    pushed(2, 3)
    shown = colleague.edits.pull(tmp_path / "true.kndb", preview=True)
    here = colleague.facts.find(["P36"], subject="France")[0].id
    assert [one.fact for one in shown] == [here, here, None]
    for one, number in zip(shown, (1, 2, 3), strict=True):
        lengths = author.edits.slot_lengths(number)
        assert {slot.neuron: (slot.length_before, slot.length_after) for slot in one.change.slots} == {
            str(neuron): pytest.approx(both) for neuron, both in lengths.items()
        }
        assert one.change.layers == tuple(sorted({neuron.layer for neuron in lengths}))
        assert one.base == author.edits.get(number).base_version or number == 3
    assert shown[2].change.zeroed == len(shown[2].change.slots) == 3
    assert shown[2].change.words.endswith(": to zero")
    assert shown[0].base == version_id(author.models.get("tiny").fingerprint, {})
    colleague.edits.pull(tmp_path / "true.kndb")
    for one, number in zip(shown, (1, 2, 3), strict=True):
        assert colleague.edits.get(number).base_version == one.base
        assert colleague.edits.change(number).words == one.change.words == author.edits.change(number).words


def test_another_file_does_not_change_what_facts_an_edit_means(pushed, colleague, tmp_path):
    bundle = pushed(1)
    colleague.edits.pull(tmp_path / "true.kndb")
    before = colleague.edits.get(1)
    other = colleague.facts.find(["P36"], subject="Spain")[0]
    edit = bundle.edits[0]
    assert not set(before.fact_numbers) - {str(fact.number) for fact in edit.facts}
    lie = tuple(replace(fact, subject=other.subject, object=other.object) for fact in edit.facts)
    (tmp_path / "lie.kndb").write_bytes(
        edit_bundle.encode(replace(bundle, edits=(replace(edit, facts=lie, author="eve"),)))
    )
    with pytest.raises(InputError, match="the manifest calls that fact"):
        colleague.edits.pull(tmp_path / "lie.kndb")
    assert colleague.edits.get(1) == before


@pytest.fixture
def printed(colleague, tmp_path, capsys):
    """What a command prints on stdout and stderr."""

    def run(*words):
        capsys.readouterr()
        assert exit_code([*map(str, words), "--db", str(tmp_path / "other.db")]) == 0
        out, err = capsys.readouterr()
        return out if "json" in words else out + err

    return run


def test_what_the_sender_says_is_marked_everywhere(pushed, colleague, printed, tmp_path, monkeypatch):
    monkeypatch.setenv("KNDB_AUTHOR", "grace")
    bundle = pushed(1)
    evil = replace(bundle.edits[0], author="ada\x1b[31m\u202e")
    (tmp_path / "e.kndb").write_bytes(edit_bundle.encode(replace(bundle, edits=(evil,))))
    title = "sender says: France · P36 · "
    preview = printed("edit", "pull", tmp_path / "e.kndb", "--preview")
    assert "sender says" in preview
    assert "value slot" in preview
    printed("edit", "pull", tmp_path / "e.kndb")
    printed("edit", "apply", 1)
    neuron = colleague.edits.change(1).slots[0].neuron
    shown = {
        words: printed(*words.split())
        for words in ("edit list", "edit list --wide", "edit log", "edit show 1", "edit diff base current --model mine")
    }
    for words in ("edit list", "edit log", "edit diff base current --model mine"):
        assert title in " ".join(shown[words].split()), words
    assert " file " in shown["edit list --wide"]
    assert "ada\\x1b[31m\\u202e" in shown["edit list --wide"]
    for name in ("what", "author", "created at", "recipe"):
        assert f"sender says: {name}" in shown["edit show 1"]
    assert not any("\x1b" in text or "\u202e" in text for text in shown.values())
    (listed,) = json.loads(printed("edit", "list", "--format", "json"))
    assert (listed["from"], listed["what"][:13], listed["author"]) == ("file", "sender says: ", evil.author)
    record = json.loads(printed("edit", "show", 1, "--format", "json"))
    assert (record["pulled"], record["change"]) == (True, colleague.edits.change(1).words)
    assert neuron in [slot["neuron"] for slot in record["slots"]]
    assert colleague.edits.get(1).pulled
    assert colleague.edits.get(1).what.startswith(title)


def test_an_edit_planned_here_stays_ones_own(author, pushed, tmp_path):
    pushed(1)
    author.edits.pull(tmp_path / "true.kndb")
    assert not author.edits.get(1).pulled
    assert author.edits.get(1).what == author.edits.get(1).title


def test_a_file_that_is_too_large_or_no_file_is_refused(pushed, colleague, tmp_path):
    pushed(1)
    path = tmp_path / "true.kndb"
    with pytest.raises(InputError, match="and 100 is the most that is read for this checkpoint"):
        colleague.edits.pull(path, most_bytes=100)
    with pytest.raises(UsageError, match="most_bytes must be at least 1"):
        colleague.edits.pull(path, most_bytes=0)
    with pytest.raises(InputError, match="it is no regular file"):
        colleague.edits.pull("/dev/zero")
    with pytest.raises(InputError, match="can't be read"):
        colleague.edits.pull("a\0b")
    # Many gigabytes of holes after a sound manifest: refused by its size, and not read.
    with path.open("r+b") as file:
        file.truncate(10**12)
    with pytest.raises(InputError, match=r"it has 1,000,000,000,000 bytes, and "):
        colleague.edits.pull(path)
    with path.open("r+b") as file:
        file.seek(18)  # the sizes of the first entry
        file.write(struct.pack("<II", 2**31, 2**31))
    with pytest.raises(InputError, match=r"manifest.json of 2,147,483,648 bytes"):
        colleague.edits.pull(path)


def test_what_nobody_could_pull_is_not_pushed(author, tmp_path, monkeypatch):
    monkeypatch.setenv("KNDB_AUTHOR", "x" * 300)
    fact = author.facts.find(["P36"], subject="Spain")[0]
    edit = author.edits.plan_update("tiny", fact.id, "Oslo", UpdateSettings(max_share=1.0))
    with pytest.raises(UsageError, match=r"can't be pushed to one file, as nobody could pull it.* 300 letters"):
        author.edits.push([edit.id], tmp_path / "long.kndb")
    assert not (tmp_path / "long.kndb").exists()


def test_a_change_in_words():
    def slots(*lengths):
        return [SlotLength(str(Neuron(layer, 1)), before, after) for layer, before, after in lengths]

    assert EditChange.of(slots((0, 2.0, 1.0)), []).words == "1 value slot of layer 0: length × 0.5"
    assert EditChange.of(slots((0, 2.0, 1.0), (3, 1.0, 3.0)), ["a"]).words == (
        "2 value slots of layers 0, 3: lengths × 0.5 to 3; 1 parameter as a whole"
    )
    assert EditChange.of(slots((0, 2.0, 0.0)), []).words == "1 value slot of layer 0: to zero"
    some = EditChange.of(slots((0, 2.0, 0.0), (1, 0.0, 2.0), (2, 2.0, 2.0)), [])
    assert some.words == "3 value slots of layers 0, 1, 2, 1 of them to zero: length × 1"
    assert EditChange.of(slots(*((layer, None, None) for layer in range(9))), []).words == (
        "9 value slots of layers 0, 1, 2, 3, 4, 5, …"
    )
    assert EditChange.of([], ["a", "b"]).words == "2 parameters as a whole"


def test_the_time_now_can_be_pulled():
    assert edit_bundle._time(now()) == now()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"new_token": 10**9}, "does not fit its model: it says that its new answer is token 1000000000"),
        ({"neurons": ["L9.N0"]}, "does not fit its model: it names L9.N0, which the model does not have"),
        ({"signs": {"L0.N0": 1}}, "does not fit its model: it has no weight of "),
        ({"new_token": -1}, "can't be read, so that it can't be measured: new_token is -1"),
    ],
)
def test_nothing_is_computed_by_a_recipe_that_does_not_fit(pushed, colleague, tmp_path, changes, words):
    pushed(1)
    colleague.edits.pull(tmp_path / "true.kndb")
    recipe = colleague.edits.get(1).recipe.as_json() | changes
    with colleague.store.writing() as connection:
        connection.exec_driver_sql("UPDATE edit SET recipe = ?", (json.dumps(recipe),))
    with pytest.raises(EditError, match=words):
        colleague.edits.evaluate(1, EvaluationSettings(sample=1))
    assert colleague.edits.evaluations() == []


def test_a_mark_of_advice_in_a_text_of_others_does_no_harm():
    for content in ('{"call":"no.such","arguments":[],"keywords":{}}', '{"option":3}', '{"call":[],"arguments":3}',
                    "[" * 100_000, '{"option":"a\\u001b"}'):  # fmt: skip
        text = f"\ue000{content}\ue001"
        assert isinstance(for_shell(text), str)
        assert isinstance(for_python(text), str)
