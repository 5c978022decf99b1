"""Edits against the length of their history: what each command costs once so many edits are applied.

A made-up checkpoint with the shape of a 32-layer Llama, narrow so that it is small (its slots have 8 values in place of
4,096), and edits of four neurons each, drawn at random from all layers, no neuron twice. Seconds are
those of the calls behind the commands, in a process that has imported what they need: the start of a command's own
process comes on top, and is the same whatever the store holds.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from kndb.database import Database, open_database
from kndb.database.edits.objects import add_object
from kndb.editing.objects.diff_format import EditObject, ParameterDiff
from kndb.models.fingerprint import fingerprint
from kndb.records.recipes import read_recipe
from kndb.store import models as store_models
from kndb.store import versions as store_versions
from kndb.versions import version_id

from .measuring import Point, in_a_process, show, timed

PART = "edits"
SIZES = (1, 10, 100, 1_000, 10_000)
LAYERS, WIDTH, NEURONS, TOUCHED = 32, 8, 4_096, 4
TOGETHER = 500
"""Edits that are applied by one command."""
MODEL = "measured"


def measure(folder: Path, sizes: tuple[int, ...] = SIZES, repeats: int = 5) -> list[Point]:
    """Makes one history, longer and longer, and gives the points of each length."""
    shutil.rmtree(folder / "edits", ignore_errors=True)
    (folder / "edits").mkdir(parents=True)
    points = []
    for before, size in zip((0, *sizes), sizes, strict=False):
        found = in_a_process(_lengthen_and_measure, folder / "edits", before, size, repeats)
        show(found)
        points += found
    return points


def _lengthen_and_measure(folder: Path, before: int, size: int, repeats: int) -> list[Point]:
    torch.set_num_threads(1)
    with open_database(folder / "kndb.db") as database:
        history = _History(database, folder / "base")
        processor, wall = time.process_time(), time.perf_counter()
        history.lengthen(before, size)
        used, passed = time.process_time() - processor, time.perf_counter() - wall
        added = size - before
        points = [Point(PART, "planning and applying, each of 500", PART, size, used / added, passed / added)]
        points += _ask(database, folder, size, repeats)
    points.append(Point(PART, "database, bytes", PART, size, value=(folder / "kndb.db").stat().st_size))
    return points


def _ask(database: Database, folder: Path, size: int, repeats: int) -> list[Point]:
    edits, checkouts, copy = database.edits, database.checkouts, folder / f"copy-{size}"
    last, first = size, 1
    checkouts.checkout("base", copy, model=MODEL)

    def switch() -> None:
        checkouts.checkout("current", copy)

    questions = {
        "edit list": lambda: edits.all(),
        "edit log": lambda: edits.log(),
        "edit verify": lambda: edits.verify(),
        "edit verify 1": lambda: edits.verify([first]),
        "edit show 1": lambda: (edits.get(first), edits.slots(first)),
        "checkout status": lambda: checkouts.status(copy),
    }
    points = [Point(PART, "checkout, of all edits", PART, size, *timed(switch))]
    points += [Point(PART, what, PART, size, *timed(ask, repeats)) for what, ask in questions.items()]
    back, forward, there = [], [], []
    for _ in range(repeats):
        back.append(timed(lambda: edits.revert(last)))
        there.append(timed(switch))
        forward.append(timed(lambda: edits.apply(last)))
        switch()
    for what, times in (("edit revert", back), ("edit apply", forward), ("checkout, of one edit", there)):
        points.append(Point(PART, what, PART, size, *(float(np.median(axis)) for axis in zip(*times, strict=True))))
    shutil.rmtree(copy)
    return points


class _History:
    """The made-up model, with edits that are planned and applied one after the other."""

    def __init__(self, database: Database, checkpoint: Path) -> None:
        self._database = database
        if not checkpoint.exists():
            _write_checkpoint(checkpoint)
            _register(database, checkpoint)
        self._record = database.models.get(MODEL)

    def lengthen(self, before: int, size: int) -> None:
        """Plans edits, each of slots of its own, and applies them some hundred at a time, until there are so many."""
        slots = list(range(LAYERS * NEURONS))
        random.Random(0).shuffle(slots)
        for first in range(before, size, TOGETHER):
            added = [
                self._add(number + 1, slots[TOUCHED * number : TOUCHED * (number + 1)])
                for number in range(first, min(size, first + TOGETHER))
            ]
            self._database.edits.apply_all(added)

    def _add(self, number: int, slots: list[int]) -> int:
        values = np.random.default_rng(number).standard_normal((len(slots), WIDTH), np.float32)
        changes = {
            divmod(slot, NEURONS): (_base(*divmod(slot, NEURONS)), new) for slot, new in zip(slots, values, strict=True)
        }
        diffs = [_diff(layer, changes) for layer in sorted({layer for layer, _ in changes})]
        layers = {_parameter(layer): layer for layer, _ in changes}
        shapes = dict.fromkeys(layers, (WIDTH, NEURONS))
        recipe = read_recipe("update", {"made": number})
        content = EditObject(self._record.fingerprint, recipe, tuple(diffs), layers, shapes)
        with self._database.store.writing() as connection:
            return add_object(
                connection, self._database.store, self._record.id, content, store_versions.CURRENT, None, None
            )


def _diff(layer: int, changes: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]) -> ParameterDiff:
    places = sorted(place for place in changes if place[0] == layer)
    old, new = (torch.from_numpy(np.stack([changes[place][side] for place in places])) for side in (0, 1))
    return ParameterDiff(_parameter(layer), "column", torch.tensor([place[1] for place in places]), old, new)


def _parameter(layer: int) -> str:
    return f"model.layers.{layer}.mlp.down_proj.weight"


def _base(layer: int, neuron: int) -> np.ndarray:
    return np.full(WIDTH, layer + neuron / NEURONS, dtype=np.float32)


def _write_checkpoint(folder: Path) -> None:
    folder.mkdir()
    tensors = {
        _parameter(layer): np.stack([_base(layer, neuron) for neuron in range(NEURONS)], axis=1).copy()
        for layer in range(LAYERS)
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}), encoding="utf-8")


def _register(database: Database, folder: Path) -> None:
    """Registers the checkpoint past the checks that it is a whole model with a tokenizer."""
    digest = fingerprint(folder)
    base = version_id(digest, {})
    about = {"name": MODEL, "source": str(folder.resolve()), "fingerprint": digest, "family": "llama"}
    with database.store.writing() as connection:
        record = store_models.add_model(connection, **about, layers=LAYERS, neurons=NEURONS, version=base)
        store_versions.register_base(connection, record.id, base)
