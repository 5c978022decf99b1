"""A database with something in every table, made by kndb itself on the small model, and files to read beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from made_once import made_once, sums

from kndb.database import check_database, open_database
from kndb.records.edit_settings import TrialSettings, UpdateSettings

INPUTS = "inputs"
PARTS = ("attribution.commands", "probes.commands", "edits.commands", "edits.trials", "exchange.commands")
"""The parts of kndb.database whose code decides what is in it."""


def rich_folder(stores: Path, checkpoints: Mapping[str, Path], otherwise: Path) -> Path:
    """A folder with the database, made once per machine; only to be copied. See `make_rich`.

    Args:
        stores: the fixture `small_stores`.
        checkpoints: the fixture `small_models`.
        otherwise: an empty folder for it where nothing is kept.
    """
    text = Path(__file__).read_text(encoding="utf-8")
    return made_once(
        "rich-store",
        (text, sums(stores / "refined" / "bert")),
        ("kndb.database.database", *(f"kndb.database.{name}" for name in PARTS)),
        lambda folder: make_rich(stores / "refined" / "bert", checkpoints["bert"], folder),
        otherwise,
    )


def make_rich(refined: Path, checkpoint: Path, folder: Path) -> None:
    """Makes `kndb.db` and its objects in a folder, and in `inputs` there what commands that read files can be given.

    Args:
        refined: a folder with a database in which model `tiny` is attributed and refined.
        checkpoint: the model's.
        folder: to be filled.
    """
    shutil.copytree(refined, folder, dirs_exist_ok=True)
    inputs = folder / INPUTS
    inputs.mkdir()
    (inputs / "checkpoint").symlink_to(checkpoint)
    _write_texts(inputs / "texts.jsonl")
    (inputs / "tests.jsonl").write_text(
        '{"fact": 1}\n{"prompt": "The capital city of Italy is called [Y].", "answer": "Rome", "not": "Paris"}\n',
        encoding="utf-8",
    )
    with open_database(folder / "kndb.db") as database:
        database.attribution.run("tiny", relations=["P36"], method="activation")
        database.attribution.refine()
        for kind in ("suppress", "amplify"):
            database.probes.scale(kind, "tiny", relations=["P36"], facts=2, others=2)
        database.probes.activation("tiny", [inputs / "texts.jsonl"])
        database.edits.plan_update("tiny", 1, "Rome", UpdateSettings(max_share=1))
        database.edits.apply(1)
        database.edits.evaluate(1)
        database.snapshots.create("one", "tiny")
        database.edits.plan_erase("tiny", "P37", top=2)
        database.edits.apply(2)
        database.edits.revert(2)
        _try_edits(database)
        database.edits.push([1], inputs / "edits.kndb")
        database.edits.export_adapter([2], inputs / "adapter")
        database.exchange.export_neurons(inputs / "neurons.csv", refinement=1)
        database.exchange.export_scores(inputs / "scores.jsonl", run=1)
        database.exchange.export_facts(inputs / "facts.jsonl")
        database.exchange.export_facts(inputs / "facts.parquet")
    assert check_database(folder / "kndb.db").problems == ()


def _write_texts(path: Path) -> None:
    rows = [{"fact": 1, "kind": "head", "text": "The capital of France is [Y]."}]
    rows += [{"fact": 1, "kind": "head-and-tail", "text": "Paris lies in France [Y]."}]
    rows += [{"fact": 1, "kind": "neither", "text": "It rained all [Y]."}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _try_edits(database) -> None:

    database.trials.bench("tiny", UpdateSettings(max_share=1), TrialSettings(facts=2, intra=2, inter=2), counts=(1, 2))
