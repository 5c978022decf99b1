"""Covariances of keys: against hooks on plain transformers models; kept, resumed, found again, refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import DOWN

from kndb.database.edits import statistics as counting
from kndb.database.edits.statistics import count_from_facts, kept_covariances
from kndb.editing.many import covariance as covariances
from kndb.editing.many.covariance_file import read_header
from kndb.errors import EditError, InputError, NotFoundError, UsageError
from kndb.records.statistics import StatisticsSettings
from kndb.store import facts

ALL = StatisticsSettings(layers="all", max_tokens=10_000)


@pytest.fixture
def database(fresh):
    """A database with 16 facts and a small masked model of 2 layers of 64 neurons."""
    return fresh("bert")


def keys_by_hooks(model, sentences, first):
    """What goes into each down projection, over all tokens of sentences from `first` on: by layer [tokens, n]."""
    found = {}
    pattern = DOWN[model.config.model_type]
    modules = dict(model.named_modules())
    layers = [modules[pattern.format(layer)] for layer in range(model.config.num_hidden_layers)]
    handles = [
        module.register_forward_pre_hook(lambda _, inputs, layer=layer: found.setdefault(layer, []).append(inputs[0]))
        for layer, module in enumerate(layers)
    ]
    with torch.no_grad():
        for ids in sentences:
            model(input_ids=torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    return {layer: torch.cat([one[0, first:] for one in parts]).double() for layer, parts in found.items()}


def totals(rows):
    return {one.layer: load_file(one.file)["total"] for one in rows}


def prompts(database):
    with database.store.reading() as connection:
        return facts.prompts(connection, held_out=False)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_it_is_the_mean_over_the_prompts_of_the_facts_by_hooks(fresh, family):
    database = fresh(family)
    loaded = database.models.load("tiny")
    shown = []
    for prompt in prompts(database):
        before, _, after = prompt.text.partition("[Y]")
        text = before.rstrip() if family == "gpt2" else f"{before}[MASK]{after}"
        shown.append(tuple(loaded.tokenizer(text)["input_ids"]))
    assert len(set(shown)) == 80
    expected = keys_by_hooks(loaded.model, dict.fromkeys(shown), first=1 if family == "gpt2" else 0)
    rows = database.edits.statistics("tiny", ALL)
    assert [one.layer for one in rows] == [0, 1]
    for one in rows:
        assert (one.state, one.source, one.texts, one.version) == ("complete", "facts", 80, loaded.version)
        keys = expected[one.layer]
        assert one.tokens == len(keys)
        torch.testing.assert_close(totals(rows)[one.layer], keys.T @ keys, rtol=1e-4, atol=1e-4)
        values = torch.linalg.eigvalsh(keys.T @ keys / len(keys))
        assert one.rank == int(torch.linalg.matrix_rank(load_file(one.file)["total"], hermitian=True))
        ridge = 0.01 * (keys.T @ keys / len(keys)).diagonal().median()
        assert one.condition == pytest.approx(float((values[-1] + ridge) / (values[0] + ridge)), rel=1e-3)


def test_texts_count_once_and_as_many_as_fit(database, tmp_path):
    lines = [
        "Paris is the capital of France .",
        "",
        "Rome is the capital of Italy .",
        "Paris is the capital of France .",
    ]
    (tmp_path / "plain.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in lines if one), "utf-8")
    tokenizer = database.models.load("tiny").tokenizer
    ids = [tokenizer(one)["input_ids"] for one in (lines[0], lines[2])]
    settings = StatisticsSettings(layers=(0,), texts=tmp_path / "plain.txt")
    (plain,) = database.edits.statistics("tiny", settings)
    assert (plain.source, plain.texts, plain.tokens) == ("texts plain.txt", 2, sum(map(len, ids)))
    expected = keys_by_hooks(database.models.load("tiny").model, ids, 0)[0]
    torch.testing.assert_close(totals([plain])[0], expected.T @ expected, rtol=1e-4, atol=1e-5)
    # The same texts by another name are the same count.
    (again,) = database.edits.statistics("tiny", replace(settings, texts=tmp_path / "lines.jsonl"))
    assert again == plain
    few = replace(settings, max_tokens=len(ids[0]) + 1)
    (cut,) = database.edits.statistics("tiny", few, replace=True)
    assert (cut.texts, cut.tokens) == (1, len(ids[0]))
    with pytest.raises(EditError, match=r"no text of at most 2 tokens to count; raise max_tokens"):
        database.edits.statistics("tiny", replace(settings, max_tokens=2), replace=True)


def test_what_a_model_says_is_counted_by_its_seed(fresh):
    database = fresh("gpt2")
    said = StatisticsSettings(layers=(1,), self_sampled=5)
    (first,) = database.edits.statistics("tiny", said)
    assert (first.source, first.texts <= 5) == ("self-sampled", True)
    assert database.edits.statistics("tiny", said) == [first]
    (other,) = database.edits.statistics("tiny", replace(said, seed=1), replace=True)
    assert other.digest != first.digest


def test_a_masked_model_says_nothing(database):
    with pytest.raises(EditError, match=r"only fills blanks.*leave self_sampled out.*or name a file of texts"):
        database.edits.statistics("tiny", StatisticsSettings(self_sampled=3))


# --- interrupted ------------------------------------------------------------------------------------------------


class StopError(BaseException):
    """As a kill comes: nothing cleans up after it."""


@pytest.fixture
def in_small_parts(monkeypatch):
    monkeypatch.setattr(covariances, "_TEXTS_AT_ONCE", 16)
    monkeypatch.setattr(counting, "_SECONDS", 0.0)


def test_a_count_resumes_wherever_it_stopped_to_the_same_bytes(database, in_small_parts, monkeypatch, tmp_path):
    folder = database.store.statistics
    rows = database.edits.statistics("tiny", ALL)
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(whole) == 2
    write, most = counting.write, 0
    for stop in (1, 2, 5, 10):
        shutil.rmtree(folder)
        calls = []

        def stopping(one, path, calls=calls, stop=stop):
            calls.append(path)
            if len(calls) == stop:
                raise StopError
            write(one, path)

        monkeypatch.setattr(counting, "write", stopping)
        with pytest.raises(StopError):
            database.edits.statistics("tiny", ALL)
        most = max(most, len(list(folder.glob("*.begun.*"))))
        assert database.maintenance.check().sound
        listed = database.edits.kept_statistics("tiny")
        assert {one.state for one in listed} <= {"interrupted", "complete"}
        found = kept_covariances(database.store, database.models.load("tiny"), (0, 1))
        assert set(found) == {one.layer for one in listed if one.complete}
        monkeypatch.setattr(counting, "write", write)
        counted = []
        assert database.edits.statistics("tiny", ALL, progress=lambda done, of: counted.append(done)) == rows  # noqa: B023
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
        # What was saved is not counted again.
        assert counted[0] == 16 * ((stop - 1) // 2) + 16
    assert most == 2


def test_what_was_begun_goes_once_the_whole_is_there(database, in_small_parts, monkeypatch):
    """A kill between the two leaves both."""
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path, **_: None if ".begun" in path.name else unlink(path, **_))
    rows = database.edits.statistics("tiny", ALL)
    assert len(list(database.store.statistics.iterdir())) == 4
    monkeypatch.undo()
    assert database.edits.statistics("tiny", ALL) == rows
    assert sorted(map(str, database.store.statistics.iterdir())) == [one.file for one in rows]


def test_a_layer_that_is_asked_for_later_is_counted_alone(database, in_small_parts):
    (first,) = database.edits.statistics("tiny", replace(ALL, layers=(1,)))
    content = totals([first])[1]
    both = database.edits.statistics("tiny", ALL)
    assert both[1] == first
    alone = covariances.read(counting.file_of(database.store, *_version(database), 1))
    assert torch.equal(alone.total, content)


def _version(database):
    record = database.models.get("tiny")
    return record.fingerprint, record.version


def test_other_texts_are_refused_until_they_are_to_replace(database):
    database.edits.statistics("tiny", StatisticsSettings(layers=(0,)))
    other = StatisticsSettings(layers=(0,), max_tokens=100)
    with pytest.raises(UsageError, match=r"over \d+ other texts \(facts\) are kept; replace them with replace=True"):
        database.edits.statistics("tiny", other)
    (row,) = database.edits.statistics("tiny", other, replace=True)
    assert row.tokens <= 100


def test_the_old_count_is_there_until_the_new_one_is_whole(database, in_small_parts, monkeypatch):
    (old,) = database.edits.statistics("tiny", StatisticsSettings(layers=(0,)))
    write = counting.write

    def once(one, path):
        write(one, path)
        raise StopError

    monkeypatch.setattr(counting, "write", once)
    other = StatisticsSettings(layers=(0,), seed=1)
    with pytest.raises(StopError):
        database.edits.statistics("tiny", other, replace=True)
    assert [one.state for one in database.edits.kept_statistics("tiny")] == ["complete", "interrupted"]
    assert kept_covariances(database.store, database.models.load("tiny"), (0,))[0].origin.digest == old.digest
    monkeypatch.setattr(counting, "write", write)
    with pytest.raises(UsageError, match=r"are kept"):
        database.edits.statistics("tiny", replace(other, seed=2))
    (new,) = database.edits.statistics("tiny", other, replace=True)
    assert new.digest != old.digest
    assert database.edits.kept_statistics("tiny") == [new]


# --- found again ------------------------------------------------------------------------------------------------


def test_what_is_kept_of_the_version_comes_first_then_of_the_base(database):
    database.edits.statistics("tiny", StatisticsSettings(layers=(0,)))
    base = database.models.load("tiny")
    assert set(kept_covariances(database.store, base, (0, 1))) == {0}
    moved = replace(base, version="v" + "0" * 16)
    found = kept_covariances(database.store, moved, (0,))[0]
    assert found.origin.version == base.version
    path = counting.file_of(database.store, base.record.fingerprint, moved.version, 0)
    covariances.write(replace(found, origin=replace(found.origin, version=moved.version)), path)
    assert kept_covariances(database.store, moved, (0,))[0].origin.version == moved.version
    assert kept_covariances(database.store, base, (0,))[0].origin.version == base.version


def test_facts_that_are_edited_do_not_count(database):
    version = database.models.load("tiny")
    france = next(fact for fact in database.facts.find(["P36"]) if fact.subject == "France")
    every = count_from_facts(database.store, version, (0, 1))
    some = count_from_facts(database.store, version, (1,), leaving_out=[france.id])
    assert set(every) == {0, 1}
    assert (every[1].origin.texts, some[1].origin.texts) == (80, 75)
    assert every[1].complete
    own = [prompt for prompt in prompts(database) if prompt.fact_id == france.id]
    ids = [version.tokenizer(one.text.replace("[Y]", "[MASK]"))["input_ids"] for one in own]
    keys = keys_by_hooks(version.model, ids, 0)[1]
    torch.testing.assert_close(every[1].total - some[1].total, keys.T @ keys, rtol=1e-4, atol=1e-4)
    assert not database.store.statistics.exists()
    everything = [fact.id for fact in database.facts.find()]
    with pytest.raises(EditError, match="no other fact that model tiny can be asked"):
        count_from_facts(database.store, version, (0,), leaving_out=everything)


# --- damaged, and of something else -----------------------------------------------------------------------------


@pytest.fixture
def kept(database):
    """The database, and the one file that is kept in it."""
    (row,) = database.edits.statistics("tiny", StatisticsSettings(layers=(0,)))
    return database, counting.file_of(database.store, *_version(database), 0), row


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-8])


def lie_about_size(path):
    content = path.read_bytes()
    path.write_bytes(content.replace(b"[64, 64]", b"[99, 99]", 1))


def long_header(path):
    path.write_bytes((1 << 60).to_bytes(8, "little") + path.read_bytes()[8:])


def no_numbers(path):
    one = covariances.read(path)
    one.total[0, 0] = torch.inf
    covariances.write_file(path, replace(read_header(path), rank=None), one.total.numpy().data.cast("B"))


@pytest.mark.fault("kept statistics that are damaged")
@pytest.mark.parametrize("damage", [lambda path: flip(path, -1), cut, lie_about_size, long_header])
def test_a_damaged_file_is_named_and_never_used(kept, damage):
    database, path, row = kept
    damage(path)
    version = database.models.load("tiny")
    remedy = r"delete it with: db\.edits\.delete_statistics\(model='tiny', layers=\[0\]\), then count again"
    with pytest.raises(EditError, match=rf"the kept statistics of layer 0 can't be used: .*; {remedy}") as error:
        kept_covariances(database.store, version, (0,))
    assert "\n" not in str(error.value)
    with pytest.raises(EditError, match="can't be used"):
        database.edits.statistics("tiny", StatisticsSettings(layers=(0,)))
    (problem,) = database.maintenance.check().problems
    assert "statistics of tiny" in problem
    assert str(path) in problem
    assert path.exists()
    assert database.maintenance.check(repair=True).repaired == ()
    (again,) = database.edits.statistics("tiny", StatisticsSettings(layers=(0,)), replace=True)
    assert again == row
    assert database.maintenance.check().sound


@pytest.mark.fault("kept statistics that hold no numbers")
def test_values_that_are_no_numbers_are_refused(kept):
    database, path, _ = kept
    no_numbers(path)
    with pytest.raises(EditError, match="values that are no numbers"):
        kept_covariances(database.store, database.models.load("tiny"), (0,))


def test_a_file_of_another_checkpoint_version_or_layer_is_named(kept, fresh):
    database, path, _ = kept
    version = database.models.load("tiny")
    other = fresh("gpt2")
    (foreign,) = other.edits.statistics("tiny", StatisticsSettings(layers=(0,)))
    shutil.copy(foreign.file, path)
    with pytest.raises(EditError, match=r"is of the checkpoint with fingerprint \w{16}, and model tiny has"):
        kept_covariances(database.store, version, (0,))
    (problem,) = database.maintenance.check().problems
    assert f"{path}: it is of the checkpoint with fingerprint" in problem
    assert database.edits.kept_statistics()[0].state == "damaged"
    database.edits.delete_statistics("tiny", [0])
    database.edits.statistics("tiny", StatisticsSettings(layers=(0,)))
    path.rename(counting.file_of(database.store, *_version(database), 1))
    with pytest.raises(EditError, match=r"layer 0, 64 neurons; version v\w+, layer 1, 64 neurons belong there"):
        kept_covariances(database.store, version, (1,))
    shutil.copy(foreign.file, database.store.statistics)
    problems = database.maintenance.check().problems
    assert any("no model of this database has a fingerprint that begins with" in one for one in problems)


def test_left_overs_are_listed_and_removed_by_repair(kept):
    database, path, _ = kept
    folder = database.store.statistics
    (folder / ".x.999999999-01234567.tmp").write_bytes(b"half")
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    (folder / f".y.{__import__('os').getpid()}-01234567.tmp").write_bytes(b"being written")
    report = database.maintenance.check()
    assert report.sound
    assert [one.rsplit("/", 1)[1] for one in report.orphans] == [".x.999999999-01234567.tmp", "notes.txt"]
    assert database.maintenance.check(repair=True).repaired == report.orphans
    assert sorted(one.name for one in folder.iterdir())[1:] == [path.name]


@pytest.mark.fault("a link in the place of kept statistics")
def test_links_are_not_followed(kept, tmp_path):
    database, path, _ = kept
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EditError, match="can't be used"):
        kept_covariances(database.store, database.models.load("tiny"), (0,))
    assert not database.maintenance.check().sound
    shutil.rmtree(database.store.statistics)
    database.store.statistics.symlink_to(tmp_path)
    assert "is no folder" in database.maintenance.check().problems[0]


# --- refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": (2,)}, r"layers must be from 0 to 1 for model tiny \(got 2\)"),
        ({"layers": ()}, r"layers must name at least one layer, or all \(got \(\)\)"),
        ({"layers": "3-7"}, "must name at least one layer, or all"),
        ({"max_tokens": 0}, r"max_tokens must be at least 1 \(got 0\)"),
        ({"self_sampled": 0}, r"self_sampled must be at least 1 \(got 0\)"),
        ({"self_sampled": 1, "max_tokens": 4}, "self_sampled says how many texts the model makes"),
        ({"self_sampled": 1, "texts": "x"}, "texts and self_sampled are two sources"),
        ({"layers": "all", "most_memory": 8 * 64**2 * 4}, r"name at most 1 of them with layers .* most_memory=163840"),
        ({"layers": (0,), "most_memory": 1}, r"covariances of 1 layers of 64 neurons take 131,072 bytes .* allowed; a"),
    ],
)
def test_what_can_not_be_is_refused(database, settings, message):
    with pytest.raises(UsageError, match=message):
        database.edits.statistics("tiny", StatisticsSettings(**settings))
    assert not database.store.statistics.exists()


def test_nothing_kept_and_no_model_are_said(database):
    assert database.edits.kept_statistics() == []
    with pytest.raises(UsageError, match=r"no statistics of layer 1 of model tiny are kept; there are those of: none"):
        database.edits.delete_statistics("tiny", [1])
    with pytest.raises(NotFoundError):
        database.edits.kept_statistics("none")


@pytest.mark.fault("a file of texts that is hostile")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "there is no text in it"),
        (b"\n \n", "there is no text in it"),
        (bytes(4096), "binary data"),
        (b"right\n\xff\xfe wrong", "byte 0xff at position 1 is not UTF-8"),
        ("UTF-16".encode("utf-16"), "UTF-16"),
        (b"a\0b", "NUL character"),
        (b"x" * ((1 << 24) + 1), "the line has more than 16,777,216 bytes"),
        (b'{"text": "a b"}\nplain', "the line must be a JSON object"),
        (b'{"sentence": "a b"}', "the object must have a text"),
        (b'{"text": 3}', "the object must have a text"),
        (b'{"text": "a b"}\n' + b"[" * 5000, "the line must be a JSON object"),
    ],
)
def test_a_hostile_file_of_texts_is_refused(database, tmp_path, content, message):
    path = tmp_path / "texts"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        database.edits.statistics("tiny", StatisticsSettings(layers=(0,), texts=path))
    assert not database.store.statistics.exists()


def test_a_file_that_is_missing_or_too_large_is_refused(database, tmp_path):
    with pytest.raises(InputError, match="can't be read"):
        database.edits.statistics("tiny", StatisticsSettings(texts=tmp_path / "none"))
    (tmp_path / "texts").write_text("a b c\n" * 100, encoding="utf-8")
    with pytest.raises(InputError, match="more than 100 bytes"):
        database.edits.statistics("tiny", StatisticsSettings(texts=tmp_path / "texts", most_bytes=100))
