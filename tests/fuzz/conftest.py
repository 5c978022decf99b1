"""A store with edits to fuzz with, of a model that is loaded once."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from kndb.database import open_database
from kndb.database.models import ModelCommands
from kndb.exchange import edit_bundle
from kndb.records.edit_settings import OptimizeSettings, UpdateSettings


@dataclass(frozen=True)
class World:
    """Two folders with databases, `author/kndb.db` with edits and `colleague/kndb.db` without, and a file of edits.

    Edits 1 and 2 are updates of one slot each on the other, applied; 3 an erase, 4 an optimize, 5 a capture.
    """

    folder: Path
    bundle: edit_bundle.Bundle

    @property
    def author(self) -> Path:
        return self.folder / "author" / "kndb.db"

    @property
    def colleague(self) -> Path:
        return self.folder / "colleague" / "kndb.db"


@pytest.fixture(scope="module")
def world(small_stores, small_models, small_facts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    shutil.copytree(small_stores / "refined" / "bert", folder / "author")
    (folder / "colleague").mkdir()
    with open_database(folder / "author" / "kndb.db") as database:
        fact = database.facts.find(["P36"], subject="France")[0]
        for answer in ("Tokyo", "Oslo"):
            settings = UpdateSettings(rule="output", max_share=1.0)
            database.edits.apply(database.edits.plan_update("tiny", fact.id, answer, settings).id)
        database.edits.plan_erase("tiny", "P37", top=3)
        database.edits.plan_optimize("tiny", fact.id, "Rome", OptimizeSettings(steps=2))
        database.snapshots.export("current", "tiny", folder / "edited")
        database.edits.revert_all([1, 2])
        database.edits.add(database.edits.draft_capture("tiny", str(folder / "edited")).draft)
        database.edits.apply_all([1, 2])
        database.edits.push([2, 3, 4, 5], folder / "edits.kndb")
    with open_database(folder / "colleague" / "kndb.db") as database:
        database.models.add(str(small_models["bert"]), "mine")
        database.facts.ingest([small_facts])
    with edit_bundle.opened(folder / "edits.kndb") as file:
        yield World(folder, file.read(10**9))


@pytest.fixture(scope="module")
def loaded_once(world):
    """The model's base version is loaded once, and must keep its weights whatever is tried on them."""
    load, known = ModelCommands.load, {}

    def load_once(self, name, version="current"):
        if version != "base":
            return load(self, name, version)
        if name not in known:
            known[name] = load(self, name, version)
        return known[name]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ModelCommands, "load", load_once)
        yield
    for name, version in known.items():
        with open_database(world.colleague if name == "mine" else world.author) as database:
            expected = dict(load(database.models, name, "base").model.named_parameters())
        assert all((expected[key] == value).all() for key, value in version.model.named_parameters())
