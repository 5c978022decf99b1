"""Attribution on a GPU: SmolLM2, and random models of base and 7B size, in each dtype; one call, one JSON line a case.

    python benchmarks/gpu.py --checkpoint SmolLM2-135M-Instruct --out gpu.jsonl
    python benchmarks/gpu.py --sizes base --dtypes bfloat16 --share 0.1     # a tenth of the prompts: a first try
    python benchmarks/gpu.py --device cpu --sizes tiny --dtypes float32 --share 0.01   # without a GPU

Each case is one of `kndb bench attribution`, written as soon as it is measured: what a limit of time cuts off is the
rest alone, and a case that fails, as where the memory is too small, says so in its line and the others go on. The cases
come in the order in which they are worth having. `--share` scales the prompts of each.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kndb.database.bench import bench_attribution
from kndb.errors import KndbError

DTYPES = ("bfloat16", "float32", "tf32", "float64")
PROMPTS = {"tiny": 20_000, "base": 20_000, "7b": 500, "checkpoint": 10_000}
"""Of each case; of float64 a twentieth, which GPUs compute slowly."""
FAMILIES = {"tiny": ("bert",), "base": ("bert", "gpt2", "llama"), "7b": ("llama",)}


def cases(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What to measure, the arguments of `bench_attribution`."""
    alike = {"baseline_prompts": 1, "to_store": options.store}
    for dtype in options.dtypes:
        models: list[tuple[str, dict[str, Any]]] = []
        if options.checkpoint is not None:
            models.append(("checkpoint", {"checkpoint": options.checkpoint, "tokens": 16}))
        models += [
            (size, {"family": family, "size": size, "tokens": 10})
            for size in options.sizes
            for family in FAMILIES[size]
            if family in options.families
        ]
        for size, model in models:
            if size == "7b" and dtype == "float64":
                continue  # 54 GB of weights, and as much again to compute with
            share = options.share * (0.05 if dtype == "float64" else 1)
            prompts = max(8, round(PROMPTS[size] * share))
            yield {**model, "prompts": prompts, "dtype": dtype, "device": options.device, **alike}


def main() -> None:
    """Measures all cases, and prints each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="a checkpoint to measure too, such as that of SmolLM2")
    parser.add_argument("--sizes", nargs="*", choices=tuple(FAMILIES), default=["base", "7b"])
    parser.add_argument("--families", nargs="*", default=["bert", "gpt2", "llama"], help="of the models made here")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--share", type=float, default=1.0, help="of the prompts of each case")
    parser.add_argument("--store", action="store_true", help="write the results into a temporary database, too")
    parser.add_argument("--out", type=Path, help="also add the lines to this file")
    options = parser.parse_args()
    for case in cases(options):
        started = time.perf_counter()
        found: dict[str, Any] = dict(case)
        try:
            found |= asdict(bench_attribution(**case))
        except (KndbError, RuntimeError) as error:  # torch's out of memory is a RuntimeError
            found["failed"] = str(error).splitlines()[0]
        line = json.dumps({**found, "seconds_in_all": round(time.perf_counter() - started, 1)})
        print(line, flush=True)
        if options.out is not None:
            with options.out.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        print(f"{case['dtype']}, {case.get('size', 'checkpoint')}: done", file=sys.stderr)


if __name__ == "__main__":
    main()
