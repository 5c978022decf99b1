"""Errors of attributions in each precision against float64, on a lab model or any other.

    python benchmarks/precision.py --model lab-bert --prompts 200
    python benchmarks/precision.py --model real-models/SmolLM2-135M-Instruct --prompts 8 --known

Prints, for each `--dtype` that the device has and the default tolerance: the relative L2 error of the scores over all
neurons of a prompt (median, 95 % and largest), the relative error of its 20 largest scores (median and largest), the
Jaccard index of the coarse sets (mean and worst), how many of the 20 neurons of the largest scores are the same (mean
and worst), the error of the answer's probability (largest, relative), the completeness error (median), the gradient
evaluations per prompt, and the seconds. The reference is bisection in float64, with a tolerance of 1e-6 and on the CPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kndb import facts
from kndb.attribution.engine import Engine
from kndb.attribution.quadrature import Quadrature
from kndb.attribution.settings import AttributionSettings
from kndb.errors import KndbError, UsageError
from kndb.facts import fill
from kndb.models.dtypes import COMPUTE_DTYPES
from kndb.models.loading import choose_device, load, locate
from kndb.models.prompting import EncodedPrompt

THRESHOLD = 0.2
TOP = 20
REFERENCE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Attributed:
    """All scores of each prompt, [L, n], its answer's probability and completeness error; means and seconds."""

    scores: dict[int, torch.Tensor]
    probability: dict[int, float]
    completeness: list[float]
    evaluations: float
    seconds: float


def chosen_prompts(name: str, count: int, *, known: bool) -> list[EncodedPrompt]:
    """Prompts spread evenly over all relations of the project's own list; those that the model knows, if asked."""
    model = load(locate(name))
    found = []
    for file in facts.read(Path(__file__).parents[1] / "data" / "facts"):
        texts = [(fill(template.text, fact.subject), fact.object) for fact in file.facts for template in file.templates]
        found += [model.encoder.encode(0, text, answer) for text, answer in texts]
    usable = [prompt for prompt in found if isinstance(prompt, EncodedPrompt) and not prompt.further]
    numbered = [replace(prompt, prompt_id=number) for number, prompt in enumerate(usable)]
    if not known:
        return numbered[:: max(1, len(usable) // count)][:count]
    spread = numbered[:: max(1, len(usable) // (count * 8))]
    settings = AttributionSettings(method="random", known_only=True)
    engine = Engine(model.moved(torch.device("cpu"), torch.float32), str, settings)
    right = {result.prompt_id for batch in engine.run(spread) for result in batch.results if result.skipped is None}
    return [prompt for prompt in spread if prompt.prompt_id in right][:count]


def attribute(
    name: str, prompts: list[EncodedPrompt], precision: str, quadrature: Quadrature, device: torch.device
) -> Attributed:
    """Attributes prompts in one precision."""
    network = load(locate(name)).moved(device, COMPUTE_DTYPES[precision].dtype)
    settings = AttributionSettings(quadrature, floor=0.0, negative=True, dtype=precision)
    shape = len(network.layers), network.neurons
    scores = {prompt.prompt_id: torch.zeros(shape, dtype=torch.float64) for prompt in prompts}
    probability, completeness, evaluations, started = {}, [], [], time.monotonic()
    for batch in Engine(network, str, settings).run(prompts):
        columns = batch.scores
        owners = torch.tensor(columns.prompt_ids)
        values = torch.tensor(columns.scores, dtype=torch.float64)
        places = torch.tensor([columns.layers, columns.neurons])
        for result in batch.results:
            mine = owners == result.prompt_id
            scores[result.prompt_id][places[0, mine], places[1, mine]] = values[mine]
            probability[result.prompt_id] = result.probability or 0.0
            completeness.append(result.completeness_error or 0.0)
            evaluations.append(result.evaluations or 0)
    seconds = time.monotonic() - started
    return Attributed(scores, probability, completeness, statistics.mean(evaluations), seconds)


def compare(found: Attributed, exact: Attributed) -> dict[str, float]:
    """What the module's first lines say."""
    errors, of_top, overlaps, same, answers = [], [], [], [], []
    for key, scores in exact.scores.items():
        mine = found.scores[key]
        errors.append(float((mine - scores).norm() / scores.norm()))
        largest = scores.flatten().topk(TOP)
        of_top += ((mine.flatten()[largest.indices] - largest.values).abs() / largest.values).tolist()
        coarse, wanted = (part >= THRESHOLD * part.max() for part in (mine, scores))
        overlaps.append(float((coarse & wanted).sum() / (coarse | wanted).sum()))
        own = set(mine.flatten().topk(TOP).indices.tolist())
        same.append(len(own & set(largest.indices.tolist())))
        answers.append(abs(found.probability[key] / exact.probability[key] - 1))
    errors.sort()
    return {
        "L2 median": statistics.median(errors),
        "L2 95 %": errors[int(0.95 * (len(errors) - 1))],
        "L2 max": errors[-1],
        "top 20 median": statistics.median(of_top),
        "top 20 max": max(of_top),
        "Jaccard mean": statistics.mean(overlaps),
        "Jaccard worst": min(overlaps),
        "same of 20": statistics.mean(same),
        "same worst": min(same),
        "p max": max(answers),
        "completeness": statistics.median(found.completeness),
        "evaluations": found.evaluations,
        "seconds": found.seconds,
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lab-bert", help="a lab model, or a checkpoint's folder")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--known", action="store_true", help="only prompts that the model answers correctly")
    parser.add_argument("--dtype", action="append", help="only this precision; repeatable")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = choose_device(options.device)
    prompts = chosen_prompts(options.model, options.prompts, known=options.known)
    reference = Quadrature.choose("bisection", None, REFERENCE_TOLERANCE, 4096)
    where = torch.device("cpu") if device.type == "mps" else device  # MPS has no double precision.
    exact = attribute(options.model, prompts, "float64", reference, where)
    print(f"{len(prompts)} prompts of {options.model} on {device}; reference: {exact.seconds:.0f} s")
    for name in options.dtype or COMPUTE_DTYPES:
        try:
            COMPUTE_DTYPES[name].require(device)
            found = attribute(options.model, prompts, name, Quadrature.choose(), device)
        except UsageError as error:
            print(f"{name}: not measured: {error}")
            continue
        except KndbError as error:
            print(f"{name}: {error}")
            continue
        print(
            f"{name}: " + ", ".join(f"{label} {value:.3g}" for label, value in compare(found, exact).items()),
            flush=True,
        )


if __name__ == "__main__":
    main()
