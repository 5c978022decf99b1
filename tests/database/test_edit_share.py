"""Edits from one store to another with the same checkpoint: bit for bit; and files that are refused."""

import hashlib
import io
import json
import shutil
import zipfile

import pytest
import torch

from kndb.database import open_database
from kndb.errors import FingerprintError, InputError, KndbError, NotFoundError, OutputError, UsageError
from kndb.records.edit_settings import EvaluationSettings, UpdateSettings


@pytest.fixture
def author(refined, monkeypatch):
    """A database in which Ada planned, applied and measured three edits: two of one fact, and an erase."""
    monkeypatch.setenv("KNDB_AUTHOR", "ada")
    fact = refined.facts.find(["P36"], subject="France")[0]
    for answer in ("Tokyo", "Oslo"):
        edit = refined.edits.plan_update("tiny", fact.id, answer, UpdateSettings(rule="output", max_share=1.0))
        refined.edits.apply(edit.id)
    refined.edits.evaluate(edit.id, EvaluationSettings(sample=4))
    refined.edits.plan_optimize("tiny", refined.facts.find(["P37"], subject="Peru")[0].id, "French")
    monkeypatch.setenv("KNDB_AUTHOR", "grace")
    return refined


@pytest.fixture
def colleague(small_models, family, tmp_path):
    """Another database with the same checkpoint, under another name, and no facts yet."""
    with open_database(tmp_path / "other.db") as database:
        database.models.add(str(small_models[family]), "mine")
        yield database


def weights(database, name, version="current"):
    return {key: value.clone() for key, value in database.load_model(name, version).named_parameters()}


def same(one, other):
    return all(torch.equal(value.view(torch.uint8), other[key].view(torch.uint8)) for key, value in one.items())


def everything(database):
    tables = ("model", "edit", "edit_neuron", "version", "history", "applied_edit", "evaluation")
    with database.store.reading() as connection:
        rows = [tuple(row) for table in tables for row in connection.exec_driver_sql(f"SELECT * FROM {table}")]
    objects = database.store.objects
    return rows, sorted(path.name for path in objects.rglob("*") if path.is_file()) if objects.exists() else []


def test_what_is_pulled_is_what_was_pushed(author, colleague, small_facts, tmp_path):
    file = tmp_path / "oslo.kndb"
    pushed = author.edits.push([2], file)
    assert (pushed.edits, pushed.foundations, pushed.model) == ((2,), (1,), "tiny")
    assert pushed.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    before = everything(colleague)
    shown = colleague.edits.pull(file, preview=True)
    assert everything(colleague) == before
    assert [(one.edit, one.known, one.wanted, one.author) for one in shown] == [
        (None, False, False, "ada"),
        (None, False, True, "ada"),
    ]
    base = weights(colleague, "mine")
    first, second = colleague.edits.pull(file)
    assert (first.edit, second.edit, second.builds_on, second.unknown_facts) == (1, 2, (1,), 1)
    assert same(weights(colleague, "mine"), base), "nothing is applied"
    colleague.edits.apply_all([1, 2])
    assert same(weights(colleague, "mine"), weights(author, "tiny"))
    assert colleague.models.get("mine").version == author.models.get("tiny").version
    assert colleague.maintenance.check().sound
    assert all(row.ok for row in colleague.edits.verify())
    mine, theirs = colleague.edits.get(2), author.edits.get(2)
    assert (mine.author, mine.created_at, mine.object_hash) == ("ada", theirs.created_at, theirs.object_hash)
    assert mine.recipe == theirs.recipe
    assert [entry.author for entry in colleague.edits.log("mine")] == ["grace", "grace"]
    colleague.edits.revert_all([1, 2])
    assert same(weights(colleague, "mine"), base)


def test_the_same_edits_give_the_same_bytes(author, colleague, tmp_path):
    author.edits.push([1, 2, 3], tmp_path / "a.kndb")
    author.edits.push([3, 2, 1, 2], tmp_path / "b.kndb")
    assert (tmp_path / "a.kndb").read_bytes() == (tmp_path / "b.kndb").read_bytes()
    pulled = colleague.edits.pull(tmp_path / "a.kndb")
    again = colleague.edits.pull(tmp_path / "a.kndb")
    assert [one.known for one in pulled] == [False] * 3
    assert [(one.edit, one.known) for one in again] == [(one.edit, True) for one in pulled]
    assert len(colleague.edits.all()) == 3


def test_facts_are_found_by_name(author, colleague, small_facts, tmp_path, family):
    author.edits.push([2, 3], tmp_path / "edits.kndb")
    colleague.edits.pull(tmp_path / "edits.kndb")
    with pytest.raises(KndbError, match=r"came from another store, and fact .* was not in this one; ingest"):
        colleague.edits.evaluate(2, EvaluationSettings(sample=4))
    # The same facts, but in another order: other numbers.
    rows = small_facts.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "turned.jsonl").write_text("".join(reversed(rows)), encoding="utf-8")
    colleague.facts.ingest([tmp_path / "turned.jsonl"])
    colleague.edits.pull(tmp_path / "edits.kndb")
    there = colleague.facts.find(["P36"], subject="France")[0]
    assert there.id != author.facts.find(["P36"], subject="France")[0].id
    assert colleague.edits.get(2).fact_numbers == {str(author.edits.get(2).recipe.fact.id): there.id}
    ours, theirs = (
        one.edits.evaluate(2, EvaluationSettings(sample=8)).measures["edited"] for one in (author, colleague)
    )
    for group in ("own", "own_held_out", "intra", "inter"):
        assert theirs[group] == pytest.approx(ours[group], rel=1e-4, abs=1e-6, nan_ok=True)
    # The control of an optimised edit takes its steps on the facts of the recipe, by their numbers here.
    assert colleague.edits.evaluate(3, EvaluationSettings(sample=2)).measures["control"]["own"]["prompts"] == 5


def test_a_store_without_the_facts_passes_them_on(author, colleague, small_facts, small_models, family, sql, tmp_path):
    author.edits.push([1], tmp_path / "first.kndb")
    colleague.edits.pull(tmp_path / "first.kndb")
    colleague.edits.push([1], tmp_path / "second.kndb")
    with open_database(tmp_path / "third.db") as third:
        third.models.add(str(small_models[family]), "tiny")
        third.edits.pull(tmp_path / "second.kndb")
        assert sql(third, "SELECT fact_id, relation_id FROM edit") == [(None, None)]
        third.facts.ingest([small_facts])
        third.edits.pull(tmp_path / "second.kndb")
        fact = third.facts.find(["P36"], subject="France")[0].id
        found = sql(third, "SELECT fact_id, key FROM edit JOIN relation ON relation.id = edit.relation_id")
        assert found == [(fact, "P36")]
        assert list(third.edits.get(1).fact_numbers.values()) == [fact]
        third.edits.pull(tmp_path / "first.kndb")
        assert list(third.edits.get(1).fact_numbers.values()) == [fact]
        third.edits.evaluate(1, EvaluationSettings(sample=2))


def test_an_edit_of_this_store_has_no_fact_numbers(author, sql):
    found = sql(author, "SELECT DISTINCT author, fact_numbers IS NULL FROM edit")
    assert found == [("ada", 1)]


def test_another_checkpoint_is_refused(author, colleague, small_models, family, tmp_path):
    author.edits.push([1], tmp_path / "edits.kndb")
    other = shutil.copytree(small_models[family], tmp_path / "changed")
    weights_file = other / "model.safetensors"
    content = bytearray(weights_file.read_bytes())
    content[-1] ^= 1
    weights_file.write_bytes(content)
    colleague.models.add(str(other), "other")
    before = everything(colleague)
    with pytest.raises(FingerprintError, match="An edit fits the very bytes that it was planned on"):
        colleague.edits.pull(tmp_path / "edits.kndb", model="other")
    with open_database(tmp_path / "third.db") as third:
        with pytest.raises(FingerprintError, match=r"which its author calls 'tiny' .*here there are no models"):
            third.edits.pull(tmp_path / "edits.kndb")
        third.models.add(str(other), "other")
        with pytest.raises(FingerprintError, match="there are other "):
            third.edits.pull(tmp_path / "edits.kndb")
    assert everything(colleague) == before
    with pytest.raises(NotFoundError):
        colleague.edits.pull(tmp_path / "edits.kndb", model="nobody")


def refuses(database, content, path):
    before = everything(database)
    path.write_bytes(content)
    with pytest.raises(KndbError):
        database.edits.pull(path)
    assert everything(database) == before


def test_damage_is_refused(author, colleague, tmp_path):
    file = tmp_path / "edits.kndb"
    author.edits.push([1], file)
    whole = file.read_bytes()
    damaged = tmp_path / "damaged.kndb"
    for length in range(0, len(whole), 997):
        refuses(colleague, whole[:length], damaged)
    for offset in [*range(0, len(whole), 397), *range(len(whole) - 250, len(whole), 7)]:
        spoilt = bytearray(whole)
        spoilt[offset] ^= 1
        refuses(colleague, bytes(spoilt), damaged)
    refuses(colleague, whole + b"x", damaged)
    refuses(colleague, b"x" + whole, damaged)


def rebuilt(whole, change, method=zipfile.ZIP_STORED):
    """The archive with its entries changed by a function of their list."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, data in change(entries):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr, entry.compress_type = 3, 0o644 << 16, method
            archive.writestr(entry, data)
    return content.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_files_that_kndb_did_not_write_are_refused(author, colleague, tmp_path):
    file = tmp_path / "edits.kndb"
    author.edits.push([2], file)
    whole = file.read_bytes()
    assert rebuilt(whole, list) == whole

    def manifest(change):
        def changed(entries):
            values = json.loads(entries[0][1])
            change(values)
            text = json.dumps(values, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
            return [("manifest.json", text.encode("utf-8", "surrogatepass")), *entries[1:]]

        return changed

    def own(entries):
        """The object of another kind of edit, under its own hash."""
        values = json.loads(entries[0][1])
        values["edits"] = [{**values["edits"][0], "kind": "erase", "wanted": True}]
        text = json.dumps(values, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
        return [("manifest.json", text.encode()), entries[1]]

    changes = [
        lambda entries: entries[1:],
        lambda entries: entries[:-1],
        lambda entries: [*entries, ("objects/../../evil", b"x")],
        lambda entries: [*entries, entries[-1]],
        lambda entries: [entries[0], entries[2], entries[1]],
        lambda entries: [entries[0], (entries[1][0], entries[2][1]), entries[2]],
        manifest(lambda values: values.update(format="other")),
        manifest(lambda values: values.update(format_version=2)),
        manifest(lambda values: values.update(fingerprint="0" * 64)),
        manifest(lambda values: values.update(extra=1)),
        manifest(lambda values: values.update(layers="3")),
        manifest(lambda values: values["edits"].reverse()),
        manifest(lambda values: values["edits"][0].pop("author")),
        manifest(lambda values: values["edits"][1].update(builds_on=[])),
        manifest(lambda values: values["edits"][1].update(builds_on=["../x"])),
        manifest(lambda values: values["edits"][0].update(object_hash="A" * 64)),
        manifest(lambda values: values.update(edits=[])),
        own,
    ]
    deep: list = []
    for _ in range(700):
        deep = [deep]
    changes += [
        manifest(lambda values: values["edits"][0].update(title="\ud800")),
        manifest(lambda values: values["edits"][1]["evaluations"][0].update(measures={"a": deep})),
        manifest(lambda values: values["edits"][1].update(evaluations=[1])),
    ]
    for change in changes:
        refuses(colleague, rebuilt(whole, change), tmp_path / "changed.kndb")
    refuses(colleague, rebuilt(whole, list, zipfile.ZIP_DEFLATED), tmp_path / "packed.kndb")
    bomb = rebuilt(whole, lambda entries: [("manifest.json", b" " * 10**7), *entries[1:]], zipfile.ZIP_DEFLATED)
    refuses(colleague, bomb, tmp_path / "bomb.kndb")
    (tmp_path / "alone.kndb").write_bytes(rebuilt(whole, changes[13]))
    with pytest.raises(InputError, match="does not fit the checkpoint"):
        colleague.edits.pull(tmp_path / "alone.kndb")


def test_nothing_is_overwritten_unasked(author, tmp_path):
    file = tmp_path / "edits.kndb"
    file.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        author.edits.push([1], file)
    assert file.read_text() == "mine"
    author.edits.push([1], file, force=True)
    with pytest.raises(NotFoundError):
        author.edits.push([9], tmp_path / "b.kndb")
    with pytest.raises(OutputError, match="can't be written"):
        author.edits.push([1], tmp_path / "nowhere" / "b.kndb")
    with pytest.raises(UsageError, match="there is no edit to push"):
        author.edits.push([], tmp_path / "b.kndb")
    with pytest.raises(InputError, match="can't be read"):
        author.edits.pull(tmp_path / "b.kndb")
    assert [path.name for path in tmp_path.glob("*.kndb")] == ["edits.kndb"]
