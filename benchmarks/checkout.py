"""Measures switches of a working copy of a checkpoint of 7B size between two versions, against writing it anew.

    python benchmarks/checkout.py --switches 100 --neurons 4

The checkpoint is made up: the shapes of a 32-layer Llama in bfloat16, in three shards of sparse files, so that it needs
little disk. The matrices that are edited are not sparse, as they would not be. The edits are made up too, and the store
is left out: what is timed is the working copy alone, in this process, and a process of its own that imports what `kndb
checkout` imports and makes one switch. The log is flushed in each switch, as always; the weight files once in 64, which
is the worst of them. The time to write the model anew is that of a file of 1 GB, scaled to its size.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kndb.cli import main as command_line
from kndb.database.versions import checkouts
from kndb.editing.objects.slot_bytes import SlotPlace, SlotSwitch
from kndb.editing.working_copy import first_copy
from kndb.editing.working_copy import opening as working_copy
from kndb.models.weights import tensor_places
from kndb.versions import version_id

LAYERS, WIDTH, NEURONS, WORDS = 32, 4096, 11008, 32000
SHARD = 5 * 10**9
FINGERPRINT = "f" * 64


def shapes() -> dict[str, tuple[int, ...]]:
    """All tensors of a 7B Llama."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (WORDS, WIDTH)}
    for layer in range(LAYERS):
        start = f"model.layers.{layer}."
        for name in "qkvo":
            found[f"{start}self_attn.{name}_proj.weight"] = (WIDTH, WIDTH)
        for name in ("gate", "up"):
            found[f"{start}mlp.{name}_proj.weight"] = (NEURONS, WIDTH)
        found[down_projection(layer)] = (WIDTH, NEURONS)
        for name in ("input_layernorm", "post_attention_layernorm"):
            found[f"{start}{name}.weight"] = (WIDTH,)
    return found | {"model.norm.weight": (WIDTH,), "lm_head.weight": (WORDS, WIDTH)}


def down_projection(layer: int) -> str:
    """The parameter whose columns are the layer's value slots."""
    return f"model.layers.{layer}.mlp.down_proj.weight"


def write_checkpoint(folder: Path) -> int:
    """Writes headers, and holes where the weights would be; gives the bytes in all."""
    shards: list[dict[str, object]] = [{}]
    ends = [0]
    for name, shape in shapes().items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        if ends[-1] + size > SHARD:
            shards.append({})
            ends.append(0)
        shards[-1][name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [ends[-1], ends[-1] + size]}
        ends[-1] += size
    weight_map, total = {}, 0
    for number, (header, end) in enumerate(zip(shards, ends, strict=True), 1):
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        path = folder / f"model-{number:05}-of-{len(shards):05}.safetensors"
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + end)
        weight_map |= dict.fromkeys(header, path.name)
        total += path.stat().st_size
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text("{}")
    return total


def made_up_edit(neurons: int, layout: str, seed: int) -> list[SlotSwitch]:
    """An edit of random neurons, from zeros to random bytes."""
    draw = random.Random(seed)
    changes = []
    for layer, neuron in sorted({(draw.randrange(LAYERS), draw.randrange(WIDTH)) for _ in range(neurons)}):
        if layout == "column":
            place = SlotPlace(down_projection(layer), layer, neuron, layout, "BF16", (WIDTH, NEURONS))
        else:  # as GPT-2 keeps its slots: here, rows of another matrix of as many values
            name = f"model.layers.{layer}.mlp.up_proj.weight"
            place = SlotPlace(name, layer, neuron, layout, "BF16", (NEURONS, WIDTH))
        changes.append(SlotSwitch(place, bytes(2 * WIDTH), draw.randbytes(2 * WIDTH)))
    return changes


def version_of(changes: list[SlotSwitch]) -> str:
    """The id of the version that an edit makes."""
    return version_id(FINGERPRINT, {change.place.slot: change.place.sha256(change.after) for change in changes})


def switch(copy: Path, changes: list[SlotSwitch]) -> None:
    """Goes to the version with the edit, or back to the base, whichever the copy is not at."""
    with working_copy.opened(copy) as opened:
        if opened.changed_files():
            raise RuntimeError("someone else wrote to the copy")
        if opened.state.version == version_of(changes):
            back = [SlotSwitch(change.place, change.after, change.before) for change in changes]
            opened.switch(version_id(FINGERPRINT, {}), back)
        else:
            opened.switch(version_of(changes), changes)


def milliseconds(work: object, count: int) -> list[float]:
    """The times of some calls."""
    found = []
    for _ in range(count):
        start = time.perf_counter()
        work()  # type: ignore[operator]
        found.append((time.perf_counter() - start) * 1000)
    return found


def write_anew(folder: Path, total: int) -> float:
    """Seconds to write as many bytes, from a file of 1 GB."""
    block = os.urandom(1 << 24)
    start = time.perf_counter()
    with (folder / "anew").open("wb") as file:
        for _ in range(10**9 // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    seconds = (time.perf_counter() - start) * total / (10**9 // len(block) * len(block))
    (folder / "anew").unlink()
    return seconds


def fill(folder: Path, changes: list[SlotSwitch]) -> None:
    """Gives the matrices that an edit touches blocks on the disk."""
    tensors = tensor_places(folder)
    for name in {change.place.parameter for change in changes}:
        with (folder / tensors[name].file).open("r+b") as file:
            file.seek(tensors[name].start)
            file.write(bytes(2 * WIDTH * NEURONS))


def measure(folder: Path, options: argparse.Namespace, layout: str) -> dict[str, object]:
    """Copies the checkpoint and switches the copy back and forth."""
    changes = made_up_edit(options.neurons, layout, options.seed)
    fill(folder / "base", changes)
    copy = folder / f"copy-{layout}"
    start = time.perf_counter()
    first_copy.create(
        folder / "base",
        copy,
        model="made-up",
        fingerprint=FINGERPRINT,
        base=version_id(FINGERPRINT, {}),
        version=version_of(changes),
        changes=changes,
        check=lambda _: None,
    )
    first = time.perf_counter() - start
    command = [sys.executable, __file__, "--once", str(copy), "--layout", layout]
    command += ["--neurons", str(options.neurons), "--seed", str(options.seed)]
    inside = milliseconds(lambda: switch(copy, changes), options.switches)
    outside = milliseconds(lambda: subprocess.run(command, check=True), options.switches)
    used = sum(path.stat().st_blocks for path in copy.iterdir()) * 512
    shutil.rmtree(copy)
    return {
        "layout": layout,
        "bytes_changed": sum(len(change.after) for change in changes),
        "first_copy_seconds_of_a_sparse_file": round(first, 3),
        "disk_used_by_the_copy_megabytes": round(used / 1e6, 1),
        "switch_ms_median": round(statistics.median(inside), 1),
        "switch_ms_worst": round(max(inside), 1),
        "process_ms_median": round(statistics.median(outside), 1),
    }


def main() -> None:
    """Measures, and prints a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--switches", type=int, default=100)
    parser.add_argument("--neurons", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to make the files; needs 3 GB. Default: a temporary folder")
    parser.add_argument("--layout", choices=("column", "row"), default="column", help="with --once")
    parser.add_argument("--once", type=Path, help="only switch this copy: what the measured processes do")
    options = parser.parse_args()
    if options.once:
        assert command_line  # The command imports these, and the store.
        assert checkouts
        switch(options.once, made_up_edit(options.neurons, options.layout, options.seed))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Path(scratch)
        if shutil.disk_usage(folder).free < 3 * 10**9:
            parser.error(f"{folder} has less than 3 GB free; name another --folder")
        (folder / "base").mkdir()
        total = write_checkpoint(folder / "base")
        layouts = [measure(folder, options, layout) for layout in ("column", "row")]
        anew = write_anew(folder, total)
    settings = {"checkpoint_gigabytes": round(total / 1e9, 2), "neurons": options.neurons, "seed": options.seed}
    print(json.dumps({**settings, "write_anew_seconds": round(anew, 1), "switches": layouts}, indent=2))


if __name__ == "__main__":
    main()
