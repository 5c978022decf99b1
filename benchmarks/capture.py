"""Captures copies of a lab model that were changed as other tools change them: sizes, and whether every byte is right.

python benchmarks/capture.py --model lab-gpt2
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import kndb
from kndb.editing.objects import factor_fits
from kndb.models import loading
from kndb.models.weights import stored_name

DOWN = {"lab-bert": "bert.encoder.layer.{}.output.dense.weight", "lab-gpt2": "transformer.h.{}.mlp.c_proj.weight"}
Weights = dict[str, torch.Tensor]


def low_rank(pattern: str, layers: tuple[int, ...], rank: int, scale: float) -> Callable[[Weights], None]:
    """Adds a random product of a rank to down projections: one layer and rank 1 as ROME, several of more as MEMIT."""

    def change(weights: Weights) -> None:
        draw = torch.Generator().manual_seed(0)
        for layer in layers:
            weight = weights[pattern.format(layer)]
            left, right = (
                torch.randn(size, generator=draw) for size in ((weight.shape[0], rank), (rank, weight.shape[1]))
            )
            weight += scale * weight.std() * (left @ right)

    return change


def everything(weights: Weights) -> None:
    """Adds noise to every parameter, as fine-tuning."""
    draw = torch.Generator().manual_seed(0)
    for tensor in weights.values():
        if tensor.is_floating_point():
            tensor += 1e-3 * torch.randn(tensor.shape, generator=draw)


def measure(database: kndb.Database, model: str, folder: Path, change: Callable[[Weights], None]) -> dict[str, object]:
    """Changes a copy of the checkpoint, captures it, applies the edit and takes it back."""
    shutil.copytree(loading.locate(database.models.get(model).source), folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    captured = database.edits.draft_capture(model, str(folder))
    edit = database.edits.add(captured.draft)
    before = {name: value.clone() for name, value in database.load_model(model).named_parameters()}
    database.edits.apply(edit.id)
    after = dict(database.load_model(model).named_parameters())
    database.edits.revert(edit.id)
    back = dict(database.load_model(model).named_parameters())
    changed = [before[one.parameter] for one in captured.tensors]
    return {
        "parameters": len(changed),
        "encodings": sorted({one.encoding for one in captured.tensors}),
        "ranks": sorted({one.rank for one in captured.tensors if one.rank is not None}),
        "object_bytes": (database.store.objects / edit.object_path).stat().st_size,
        "old_and_new_bytes": 2 * sum(tensor.numel() * tensor.element_size() for tensor in changed),
        "applied_is_the_edited_checkpoint": all(
            torch.equal(value, weights[str(stored_name(name, weights))]) for name, value in after.items()
        ),
        "reverted_is_the_original": all(torch.equal(value, back[name]) for name, value in before.items()),
    }


def measure_matrix(dtype: torch.dtype) -> dict[str, object]:
    """Keeps a change of rank 1 of a down projection of a 7B Llama, slot-major [11008, 4096], as factors."""
    draw = torch.Generator().manual_seed(0)
    old = (0.02 * torch.randn(11008, 4096, generator=draw)).to(dtype)
    left, right = torch.randn(11008, generator=draw), torch.randn(4096, generator=draw)
    new = old + (0.01 * torch.outer(left, right)).to(dtype)
    start = time.perf_counter()
    found = factor_fits.fit(old, new)
    seconds = time.perf_counter() - start
    if found is None:
        return {"kept": "whole", "seconds": round(seconds, 1)}
    start = time.perf_counter()
    there, back = factor_fits.applied(found, old), factor_fits.applied(found, new, reverse=True)
    exact = torch.equal(there, new) and torch.equal(back, old)
    return {
        "rank": found.rank,
        "exact_both_ways": exact,
        "bytes": found.size,
        "old_and_new_bytes": 2 * old.numel() * old.element_size(),
        "seconds_to_capture": round(seconds, 1),
        "seconds_to_apply_and_revert": round(time.perf_counter() - start, 1),
    }


def main() -> None:
    """Prints a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=tuple(DOWN), default="lab-gpt2")
    parser.add_argument("--matrix", action="store_true", help="one large matrix, in place of a model")
    options = parser.parse_args()
    if options.matrix:
        print(json.dumps({str(dtype): measure_matrix(dtype) for dtype in (torch.bfloat16, torch.float32)}, indent=2))
        return
    pattern = DOWN[options.model]
    changes = {
        "rank 1": low_rank(pattern, (1,), 1, 0.3),
        "rank 10": low_rank(pattern, (0, 1, 2), 10, 0.1),
        "every parameter": everything,
    }
    with tempfile.TemporaryDirectory() as scratch, kndb.open(Path(scratch) / "kndb.db") as database:
        found = {
            name: measure(database, options.model, Path(scratch) / name, change) for name, change in changes.items()
        }
    print(json.dumps({"model": options.model, **found}, indent=2))


if __name__ == "__main__":
    main()
