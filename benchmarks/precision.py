"""Errors of attributions in each precision against float64 and a 33-node rule, on a lab model.

    python benchmarks/precision.py --model lab-bert --prompts 200

Prints, for each `--dtype` that the device has and the default tolerance: the relative L2 error of the scores over all
neurons of a prompt (median, 95 % and largest), the Jaccard index of the coarse sets (mean and worst), and the gradient
evaluations per prompt.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import torch

from kndb import facts
from kndb.attribution.engine import Engine
from kndb.attribution.quadrature import Quadrature
from kndb.attribution.settings import AttributionSettings
from kndb.errors import UsageError
from kndb.facts import fill
from kndb.models.dtypes import COMPUTE_DTYPES
from kndb.models.loading import choose_device, lab_folder, load
from kndb.models.prompting import EncodedPrompt

THRESHOLD = 0.2
Scores = dict[int, torch.Tensor]


def lab_prompts(name: str, count: int) -> list[EncodedPrompt]:
    """Prompts spread evenly over all relations of the project's own list."""
    encoder = load(lab_folder(name)).encoder
    found = []
    for file in facts.read(Path(__file__).parents[1] / "data" / "facts"):
        texts = [(fill(template.text, fact.subject), fact.object) for fact in file.facts for template in file.templates]
        found += [encoder.encode(0, text, answer) for text, answer in texts]
    usable = [prompt for prompt in found if isinstance(prompt, EncodedPrompt)]
    chosen = usable[:: max(1, len(usable) // count)][:count]
    return [replace(p, prompt_id=number) for number, p in enumerate(chosen)]


def attribute(
    name: str, prompts: list[EncodedPrompt], precision: str, quadrature: Quadrature, device: torch.device
) -> tuple[Scores, float]:
    """All scores of each prompt, [L, n], and the mean number of evaluations."""
    network = load(lab_folder(name)).moved(device, COMPUTE_DTYPES[precision].dtype)
    settings = AttributionSettings(quadrature, floor=0.0, negative=True, dtype=precision)
    shape = len(network.layers), network.neurons
    scores = {prompt.prompt_id: torch.zeros(shape, dtype=torch.float64) for prompt in prompts}
    evaluations = []
    for batch in Engine(network, str, settings).run(prompts):
        columns = batch.scores
        owners = torch.tensor(columns.prompt_ids)
        values = torch.tensor(columns.scores, dtype=torch.float64)
        places = torch.tensor([columns.layers, columns.neurons])
        for result in batch.results:
            mine = owners == result.prompt_id
            scores[result.prompt_id][places[0, mine], places[1, mine]] = values[mine]
            evaluations.append(result.evaluations or 0)
    return scores, statistics.mean(evaluations)


def compare(found: Scores, exact: Scores) -> list[float]:
    """The error's median, 95 % quantile and largest; the coarse sets' mean and worst Jaccard index."""
    errors, overlaps = [], []
    for key, scores in exact.items():
        errors.append(float((found[key] - scores).norm() / scores.norm()))
        mine, theirs = (part >= THRESHOLD * part.max() for part in (found[key], scores))
        overlaps.append(float((mine & theirs).sum() / (mine | theirs).sum()))
    errors.sort()
    return [
        statistics.median(errors),
        errors[int(0.95 * (len(errors) - 1))],
        errors[-1],
        statistics.mean(overlaps),
        min(overlaps),
    ]


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lab-bert")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = choose_device(options.device)
    prompts = lab_prompts(options.model, options.prompts)
    exact, _ = attribute(options.model, prompts, "float64", Quadrature.choose("radau", 33), torch.device("cpu"))
    print(f"{len(prompts)} prompts of {options.model} on {device}")
    print("dtype     error median    95 %      max   Jaccard mean   worst  evaluations")
    for name, precision in COMPUTE_DTYPES.items():
        try:
            precision.require(device)
        except UsageError as error:
            print(f"{name:9} not measured: {error}")
            continue
        scores, evaluations = attribute(options.model, prompts, name, Quadrature.choose(), device)
        median, high, largest, mean, worst = compare(scores, exact)
        print(f"{name:9} {median:12.1e} {high:7.1e} {largest:8.1e} {mean:14.4f} {worst:7.2f} {evaluations:12.1f}")


if __name__ == "__main__":
    main()
