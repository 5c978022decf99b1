"""Measures the processor time of commands that take an edit of a few neurons in or out of a checkpoint of 7B size.

    python benchmarks/apply.py --neurons 4 --repeat 5
    python benchmarks/apply.py --checkpoint real-models/SmolLM2-135M-Instruct

The checkpoint is the made-up one of `benchmarks/checkout.py`: the shapes of a 32-layer Llama in bfloat16, 13.5 GB in
three sparse shards. It is hashed once, as `kndb model add` would, and its edit is made of random neurons' columns; the
matrices that are edited are not sparse. Each command is a process of its own; what counts is its processor time, user
and system, start-up included. The first checkout copies and hashes the whole checkpoint, and is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from checkout import LAYERS, NEURONS, WIDTH, down_projection, fill, made_up_edit, write_checkpoint

from kndb.database import Database, open_database
from kndb.database.edits.objects import add_object
from kndb.editing.objects.checkpoint_values import CheckpointValues
from kndb.editing.objects.diff_format import EditObject, ParameterDiff, tensor_of
from kndb.editing.objects.slot_bytes import SlotPlace
from kndb.models.fingerprint import fingerprint
from kndb.models.weights import TensorPlace, tensor_places
from kndb.store import models as store_models
from kndb.store import versions as store_versions
from kndb.versions import version_id

NAME = "measured"


def register(database: Database, folder: Path) -> None:
    """Registers the made-up checkpoint, which has no tokenizer, past the checks that need one."""
    digest = fingerprint(folder)
    base = version_id(digest, {})
    about = {"name": NAME, "source": str(folder.resolve()), "fingerprint": digest, "family": "llama"}
    with database.store.writing() as connection:
        record = store_models.add_model(connection, **about, layers=LAYERS, neurons=NEURONS, version=base)
        store_versions.register_base(connection, record.id, base)


def plan(database: Database, folder: Path, chosen: dict[int, list[int]]) -> None:
    """Adds an edit that puts random values into columns of down projections, by layer."""
    record, values, tensors = database.models.get(NAME), CheckpointValues(folder), tensor_places(folder)
    draw = torch.Generator().manual_seed(0)
    diffs, layers, shapes = [], {}, {}
    for layer, indices in sorted(chosen.items()):
        name, tensor = down_projection(layer), tensors[down_projection(layer)]
        places = [SlotPlace(name, layer, index, "column", tensor.dtype, tensor.shape) for index in indices]
        old = torch.stack([tensor_of(tensor.dtype, held) for held in values.held(places)])
        new = torch.randn(old.shape, generator=draw).to(old.dtype)
        diffs.append(ParameterDiff(name, "column", torch.tensor(indices), old, new))
        layers[name], shapes[name] = layer, (tensor.shape[0], tensor.shape[1])
    content = EditObject(record.fingerprint, "update", {"made": "up"}, tuple(diffs), layers, shapes)
    with database.store.writing() as connection:
        add_object(connection, database.store, record.id, content, record.version, None, None)


def neurons_of(tensors: dict[str, TensorPlace], count: int, seed: int) -> dict[int, list[int]]:
    """Random neurons of a Llama, by layer."""
    draw, chosen = random.Random(seed), {}
    layers = sum(name.endswith("mlp.down_proj.weight") for name in tensors)
    for _ in range(count):
        layer = draw.randrange(layers)
        chosen.setdefault(layer, set()).add(draw.randrange(tensors[down_projection(layer)].shape[1]))
    return {layer: sorted(indices) for layer, indices in chosen.items()}


def seconds(words: list[str], folder: Path) -> dict[str, float]:
    """Processor time of one command, and the time that it took."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "kndb.cli.main", *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"processor": used, "elapsed": time.perf_counter() - start}


def measure(folder: Path, repeat: int) -> dict[str, dict[str, float]]:
    """Runs all commands in turn, some times over."""
    lines = {
        "edit apply": ["edit", "apply", "1"],
        "edit diff": ["edit", "diff", "base", "current", "--model", NAME],
        "edit verify": ["edit", "verify"],
        "edit log": ["edit", "log"],
        "edit list": ["edit", "list"],
        "checkout, a switch": ["checkout", "current", "--dir", "copy"],
        "edit revert": ["edit", "revert", "1"],
        "snapshot restore": ["snapshot", "restore", "edited", "--model", NAME],
        "edit revert --cascade": ["edit", "revert", "1", "--cascade"],
        "checkout, back": ["checkout", "current", "--dir", "copy"],
    }
    for words in (["edit", "apply", "1"], ["snapshot", "create", "edited", "--model", NAME], ["edit", "revert", "1"]):
        seconds(words, folder)
    first = seconds(["checkout", "base", "--model", NAME, "--dir", "copy"], folder)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in lines}
    for _ in range(repeat):
        for name, words in lines.items():
            found[name].append(seconds(words, folder))
    return {"checkout, the first copy": {"processor": round(first["processor"], 3)}} | {
        name: {
            "processor_median": round(statistics.median(one["processor"] for one in times), 3),
            "processor_least": round(min(one["processor"] for one in times), 3),
            "elapsed_median": round(statistics.median(one["elapsed"] for one in times), 3),
        }
        for name, times in found.items()
    }


def main() -> None:
    """Measures, and prints a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neurons", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to make the files. Default: a temporary folder")
    parser.add_argument("--checkpoint", type=Path, help="a Llama's checkpoint to measure in place of the made-up one")
    options = parser.parse_args()
    os.environ.pop("KNDB_DB", None)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Path(scratch)
        start = time.perf_counter()
        with open_database(folder / "kndb.db") as database:
            if options.checkpoint is None:
                checkpoint = folder / "base"
                checkpoint.mkdir()
                write_checkpoint(checkpoint)
                changes = made_up_edit(options.neurons, "column", options.seed)
                fill(checkpoint, changes)
                register(database, checkpoint)
                chosen: dict[int, list[int]] = {}
                for change in changes:
                    chosen.setdefault(change.place.layer, []).append(change.place.neuron)
            else:
                checkpoint = options.checkpoint
                database.models.add(str(checkpoint), NAME)
                chosen = neurons_of(tensor_places(checkpoint), options.neurons, options.seed)
            plan(database, checkpoint, chosen)
        prepared = time.perf_counter() - start
        times = measure(folder, options.repeat)
        size = sum(path.stat().st_size for path in checkpoint.glob("*.safetensors"))
    settings = {"checkpoint_gigabytes": round(size / 1e9, 2), "neurons": options.neurons, "width": WIDTH}
    if options.checkpoint is not None:
        settings.pop("width")
    print(json.dumps({**settings, "seconds_to_prepare": round(prepared, 1), "seconds": times}, indent=2))


if __name__ == "__main__":
    main()
