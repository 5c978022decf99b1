"""How exact a model's integrals are: default scores beside a brute force in double precision that is itself converged.

    python benchmarks/integrals.py --model FOLDER --prompts 200 --compared 20

Draws prompts of the project's facts (P36, P37, P176, P178; known or not), attributes them with the default settings
and prints evaluations and completeness errors. Then it takes the prompts with the largest completeness errors and
those with the most evaluations, fills up at random, and compares all scores of every layer: Gauss–Legendre rules of
eight nodes on panels that halve until two halves give what their parent gave, to 1e-5 of the layer's largest score.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from kndb import facts
from kndb.attribution.base_pass import continue_from, freeze
from kndb.attribution.batches import by_shape, to_tensors
from kndb.attribution.continuation import Continuation
from kndb.attribution.integrated_gradients import integrated_gradients
from kndb.attribution.log_odds import probability_slope
from kndb.attribution.quadrature import Quadrature
from kndb.facts import fill
from kndb.models.loading import LoadedModel, lab_folder, load
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt
from kndb.records.models import LAB_MODELS

FACTS = Path(__file__).parents[1] / "data" / "facts"
RELATIONS = ("P36", "P37", "P176", "P178")
CPU = torch.device("cpu")
NODES, WEIGHTS = (
    (values + shift) / 2 for values, shift in zip(np.polynomial.legendre.leggauss(8), (1, 0), strict=True)
)
SETTLED = 1e-5
DEEPEST = 30
ROWS = 256
THRESHOLD = 0.2


def draw(loaded: LoadedModel, relations: Sequence[str], count: int, seed: int) -> list[EncodedPrompt]:
    """Prompts with answers of one token, drawn at random from all templates and facts of some relations."""
    texts = [
        (fill(template.text, fact.subject), fact.object)
        for file in facts.read(FACTS)
        if set(file.relations) & set(relations)
        for template in file.templates
        for fact in file.facts
    ]
    random.Random(seed).shuffle(texts)
    found: list[EncodedPrompt] = []
    for text, answer in texts:
        prompt = loaded.encoder.encode(len(found), text, answer)
        if isinstance(prompt, EncodedPrompt) and len(prompt.answers) == 1:
            found.append(prompt)
        if len(found) == count:
            break
    return found


def brute_force(network: Network, continuation: Continuation) -> torch.Tensor:
    """Scores of every layer of a batch of one prompt, [L, n], by bisection until they stop moving."""
    base = continuation.base
    rows = []
    for number, layer in enumerate(network.layers):
        direction = base.outputs[number] - layer.bias
        activation = base.activations[number][0]

        def integrals(
            panels: list[tuple[float, float]], number: int = number, direction: torch.Tensor = direction
        ) -> torch.Tensor:
            alpha = torch.tensor(
                [low + (high - low) * node for low, high in panels for node in NODES], dtype=torch.float64
            )
            some = []
            for part in alpha.split(ROWS):
                row = (network.layers[number].bias + part.unsqueeze(1) * direction).requires_grad_()
                with torch.enable_grad():
                    odds = continuation.log_odds([number] * len(row), torch.zeros(len(row), dtype=torch.int64), row)
                    some += torch.autograd.grad(odds, row, probability_slope(odds))
            widths = torch.tensor([high - low for low, high in panels], dtype=torch.float64).unsqueeze(1)
            by_panel = torch.cat(some).view(len(panels), len(NODES), -1)
            return widths * torch.einsum("k,pkd->pd", torch.from_numpy(WEIGHTS), by_panel)

        panels = [(0.0, 1.0)]
        values = integrals(panels)
        total = torch.zeros_like(values[0])
        for _ in range(DEEPEST):
            halves = [half for low, high in panels for half in ((low, (low + high) / 2), ((low + high) / 2, high))]
            finer = integrals(halves)
            pairs = finer.view(len(panels), 2, -1)
            moved = ((pairs.sum(1) - values) @ layer.down_matrix * activation).abs().amax(1)
            largest = float(((total + finer.sum(0)) @ layer.down_matrix * activation).abs().max())
            open_ = moved > SETTLED * largest
            total = total + pairs[~open_].sum((0, 1))
            if not bool(open_.any()):
                break
            panels = [
                half
                for pair, still in zip(zip(halves[::2], halves[1::2], strict=True), open_.tolist(), strict=True)
                if still
                for half in pair
            ]
            values = pairs[open_].flatten(0, 1)
        else:
            raise SystemExit(f"layer {number} does not settle in {DEEPEST} halvings")
        rows.append(total @ layer.down_matrix * activation)
    return torch.stack(rows)


def coarse(scores: torch.Tensor) -> set[int]:
    """The neurons of a prompt's coarse set, as places in the flattened scores."""
    flat = scores.flatten()
    return set((flat >= THRESHOLD * flat.max()).nonzero()[:, 0].tolist())


def main() -> None:
    """Prints evaluations, completeness errors and the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a checkpoint's folder, lab-bert or lab-gpt2")
    parser.add_argument("--relations", default=",".join(RELATIONS))
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--compared", type=int, default=20)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = lab_folder(arguments.model) if arguments.model in LAB_MODELS else Path(arguments.model)
    loaded = load(folder)
    network = loaded.moved(CPU, torch.float32)
    freeze(network.model)
    prompts = draw(loaded, arguments.relations.split(","), arguments.prompts, arguments.seed)
    quadrature = Quadrature.choose(tolerance=arguments.tolerance)
    scores: dict[int, torch.Tensor] = {}
    errors: dict[int, float] = {}
    evaluations: dict[int, int] = {}
    started = time.process_time()
    for group in by_shape(prompts, 64):
        continuation = continue_from(network, to_tensors(group, CPU))
        found = integrated_gradients(continuation, torch.arange(len(group)), quadrature, 256)
        for number, prompt in enumerate(group):
            scores[prompt.prompt_id] = found.scores[number].clone()
            errors[prompt.prompt_id] = float(found.completeness_error[number].max())
            evaluations[prompt.prompt_id] = int(found.evaluations[number])
    seconds = time.process_time() - started
    above = sum(error > arguments.tolerance for error in errors.values())
    print(f"{len(prompts)} prompts, {seconds / len(prompts):.2f} s of processor time each")
    print(f"evaluations: {statistics.mean(evaluations.values()):.1f} a prompt, at most {max(evaluations.values())}")
    print(
        f"completeness error: {statistics.mean(errors.values()):.1e} on average, {max(errors.values()):.1e} at worst, "
        f"{above} of {len(prompts)} prompts above {arguments.tolerance:g}"
    )
    if not arguments.compared:
        return
    by_error = sorted(errors, key=lambda number: -errors[number])
    by_effort = sorted(evaluations, key=lambda number: -evaluations[number])
    quarter = arguments.compared // 4
    chosen = list(dict.fromkeys([*by_error[:quarter], *by_effort[:quarter], *errors]))[: arguments.compared]
    network.model.double()
    worst, equal = [], 0
    by_number = {prompt.prompt_id: prompt for prompt in prompts}
    for number in chosen:
        expected = brute_force(network, continue_from(network, to_tensors([by_number[number]], CPU)))
        off = (scores[number].double() - expected).abs() / expected.max()
        same = coarse(scores[number].double()) == coarse(expected)
        equal += same
        worst.append(float(off.max()))
        print(
            f"  prompt {number}: {evaluations[number]} evaluations, completeness error {errors[number]:.1e}, scores "
            f"off by at most {worst[-1]:.1e} of the largest (layer {int(off.amax(1).argmax())}), "
            f"coarse sets {'equal' if same else 'differ'}",
            flush=True,
        )
    print(
        f"scores off by at most {max(worst):.1e} of the prompt's largest; coarse sets equal on {equal} of {len(chosen)}"
    )


if __name__ == "__main__":
    main()
