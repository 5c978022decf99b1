"""Exported results whose description or data somebody changed: refused by one of kndb's errors, or imported whole."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
from fuzzing import as_text, contents, fuzzed, mutated_bytes, mutated_json, run
from hypothesis import given
from hypothesis import strategies as st

from kndb.database import open_database
from kndb.exchange.description import described_kind

KINDS = ("facts", "neurons", "scores")


@pytest.fixture(scope="module")
def exported(world, tmp_path_factory):
    """Facts, neurons and scores, as files with their descriptions; and a store that has the facts alone."""
    folder = tmp_path_factory.mktemp("exported")
    with open_database(world.author) as database:
        database.exchange.export_facts(folder / "facts.jsonl")
        database.exchange.export_neurons(folder / "neurons.csv")
        database.exchange.export_scores(folder / "scores.csv", relations=["P36"])
    # Few rows do: their number is not what is tried.
    scores = (folder / "scores.csv").read_text(encoding="utf-8").splitlines(keepends=True)[:200]
    _write(folder / "scores.csv", "".join(scores).encode(), json.loads(_meta(folder, "scores.csv").read_text()))
    with open_database(folder / "kndb.db") as database:
        database.exchange.import_facts([folder / "facts.jsonl"])
    return folder


def _meta(folder, name):
    return folder / f"{name}.meta.json"


def _write(path, content, description) -> None:
    """Writes data and their description, which has their hash and number of rows unless it says others."""
    path.write_bytes(content)
    about = description.get("data") if isinstance(description, dict) else None
    if isinstance(about, dict) and "sha256" in about:
        about["sha256"] = hashlib.sha256(content).hexdigest()
        if isinstance(about.get("rows"), int):
            about["rows"] = max(0, content.count(b"\n") - (path.suffix == ".csv"))
    _meta(path.parent, path.name).write_text(as_text(description), encoding="utf-8")


@pytest.fixture
def imports(exported, tmp_path):
    """Imports a file into a copy of the store: refused and nothing changed, or taken and sound."""
    place = tmp_path / "place"

    def make(kind, change):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(exported, place)
        (path,) = (one for one in place.glob(f"{kind}.*") if not one.name.endswith(".meta.json"))
        change(path)
        before = contents(place / "kndb.db")
        at = ("--db", place / "kndb.db")
        kind_here = described_kind(path)
        assert kind_here is None or isinstance(kind_here, str)
        code, _ = run(["import", kind, path, *at])
        if code:
            assert contents(place / "kndb.db") == before
        assert run(["db", "check", *at])[0] == 0
        for words in (["query", "runs"], ["query", "refinements"], ["model", "list"], ["query", "relations"]):
            assert run([*words, *at])[0] == 0
        run(["ingest", path, *at])
        assert run(["db", "check", *at])[0] == 0
        return code

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_exported_is_imported(imports, kind):
    """Else the fuzzers below would test nothing."""
    assert imports(kind, lambda path: None) == 0


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@fuzzed(20, slower=10)
def test_a_description(exported, imports, kind, data):
    def change(path):
        description = json.loads(_meta(path.parent, path.name).read_text(encoding="utf-8"))
        _write(path, path.read_bytes(), data.draw(mutated_json(description)))

    imports(kind, change)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@fuzzed(20, slower=10)
def test_bytes_of_a_description(exported, imports, kind, data):
    def change(path):
        meta = _meta(path.parent, path.name)
        meta.write_bytes(data.draw(mutated_bytes(meta.read_bytes())))

    imports(kind, change)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@fuzzed(15, slower=10)
def test_the_data_under_their_own_hash(exported, imports, kind, data):
    def change(path):
        description = json.loads(_meta(path.parent, path.name).read_text(encoding="utf-8"))
        _write(path, data.draw(mutated_bytes(path.read_bytes())), description)

    imports(kind, change)
