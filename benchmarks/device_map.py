"""What it costs to keep a model on the disk: memory, time, reads and the scores' differences, beside the whole model.

    python benchmarks/device_map.py --model real-models/SmolLM2-135M-Instruct --prompts 4

Each arm is a process of its own: it imports all that it needs, notes its resident memory, loads the model, attributes
the prompts, and notes the largest resident memory since (`VmHWM` of /proc, Linux only). What the imports take is
subtracted; the tokenizer, the configuration and what transformers imports for the architecture count. `--map` names the
device map of the second arm, or says `disk` (everything on the disk) or `split` (five layers in memory).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CAPITALS = (("France", "Paris"), ("Japan", "Tokyo"), ("Spain", "Madrid"), ("Egypt", "Cairo"), ("Italy", "Rome"))
CAPITALS += (("Germany", "Berlin"), ("Greece", "Athens"), ("Russia", "Moscow"), ("Cuba", "Havana"), ("Peru", "Lima"))


def memory(name: str) -> float:
    """A line of the process's status, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024 / 1e6


def run_arm(model: str, given: object, prompts: int, batch_size: int | None) -> dict[str, object]:
    """Loads and attributes in this process."""
    import accelerate  # noqa: F401 - it belongs to the imports, not to the model.
    import torch

    from kndb.attribution.engine import Engine
    from kndb.attribution.settings import AttributionSettings
    from kndb.models.device_maps import split_for
    from kndb.models.loading import load, locate
    from kndb.models.split_loading import load_split

    before, device = memory("VmRSS"), torch.device("cpu")
    split = split_for(given, device, torch.float32)  # type: ignore[arg-type]
    loaded = load(locate(model)) if split is None else load_split(locate(model), split)
    network = loaded.moved(device, torch.float32)
    texts = [(f"The capital of {country} is [Y]", city) for country, city in CAPITALS[:prompts]]
    encoded = [loaded.encoder.encode(number, text, city) for number, (text, city) in enumerate(texts)]
    settings = AttributionSettings(floor=0.0, negative=True, batch_size=batch_size)
    started, scores, batches = time.monotonic(), {}, 0
    for batch in Engine(network, str, settings).run(encoded):  # type: ignore[arg-type]
        one, batches = batch.scores, batches + 1
        for place in zip(one.prompt_ids, one.layers, one.neurons, one.scores, strict=True):
            scores["{}.{}.{}".format(*place)] = place[3]
    found: dict[str, object] = {"seconds": time.monotonic() - started, "peak": memory("VmHWM") - before}
    found |= {
        "scores": scores,
        "batches": batches,
        "parameters": sum(one.numel() for one in network.model.parameters()),
    }
    if network.residency is not None:
        layers = range(len(network.layers))
        found["reads"] = [network.residency.layer_reads(number) for number in layers]
        found["bytes"] = network.residency.most_bytes
    return found


def main() -> None:
    """Runs both arms, each in a process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lab-gpt2", help="a lab model, or a checkpoint's folder")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--map", action="append", help="disk, split, or a device map; repeatable")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        found = run_arm(options.model, json.loads(options.arm), options.prompts, options.batch_size)
        sys.stdout.write(json.dumps(found))
        return
    named = {"disk": {"": "disk"}, "split": {"": "disk", "0-4": "cpu"}}
    arms = {"whole": None, **{name: named.get(name, name) for name in options.map or ["disk"]}}
    results = {}
    for name, given in arms.items():
        command = [sys.executable, __file__, "--model", options.model, "--prompts", str(options.prompts)]
        command += ["--batch-size", str(options.batch_size)] if options.batch_size else []
        with tempfile.TemporaryFile("w+") as output:
            subprocess.run([*command, "--arm", json.dumps(given)], stdout=output, check=True)
            output.seek(0)
            results[name] = json.load(output)
    expected = results["whole"]["scores"]
    largest = max(map(abs, expected.values()))
    print(f"{results['whole']['parameters'] * 4 / 1e6:.0f} MB of float32 weights, {options.prompts} prompts")
    for name, found in results.items():
        off = max(abs(found["scores"].get(key, 0.0) - expected.get(key, 0.0)) for key in expected | found["scores"])
        line = f"{name}: peak {found['peak']:.0f} MB ({found['peak'] / results['whole']['peak']:.2f}), "
        line += (
            f"{found['seconds']:.1f} s, {found['batches']} batches, scores off by {off / largest:.1e} of the largest"
        )
        if "reads" in found:
            reads = sorted(found["reads"])
            line += f", a layer read {reads[len(reads) // 2]} times, at most {found['bytes'] / 1e6:.0f} MB of weights"
        print(line, flush=True)


if __name__ == "__main__":
    main()
