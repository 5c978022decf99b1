"""Attribution against prompts, layers, width and tokens: seconds of processor time per run, one thread.

Models of random weights and random prompts, the defaults of integrated gradients but for the rule: ten nodes of Gauss
and Legendre for each layer, so that all shapes evaluate as often. Along one size the others are those of
`SHAPE`, `PROMPTS` and `TOKENS`. For prompts, lab-bert too, with kndb's own facts and bisection.

What to expect: each prompt costs the same, so the cost is linear in prompts. A node of layer l runs the layers above l,
forward and back, so that L layers cost L (L + 1) / 2 times one layer: quadratic. A layer's matrices have width × width
and width × neurons numbers, and there are four neurons to a unit of width here: quadratic in width, once the matrices
are large. A masked model runs every token through the layers above, and is linear in tokens; a causal one reads its
answer at the last token, the only one that a change at it reaches: it is flat but for attention to the tokens before.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers

from kndb.attribution.engine import Engine
from kndb.attribution.quadrature import Quadrature
from kndb.attribution.settings import AttributionSettings
from kndb.bench.attribution import random_prompts
from kndb.bench.shapes import FAMILIES, ModelShape
from kndb.database import open_database
from kndb.database.lab import own_facts
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt
from kndb.models.registry import adapter_for
from kndb.store.facts import prompts as prompts_of_facts

from .measuring import Point, show, timed

PART = "attribution"
SHAPE = ModelShape(layers=4, width=256, neurons=1_024, heads=4, vocabulary=1_000)
PROMPTS, TOKENS, NODES = 16, 16, 10
ALONG = {
    "prompts": (8, 16, 32, 64, 128),
    "layers": (2, 4, 8, 16),
    "width": (64, 128, 256, 512),
    "tokens": (8, 16, 32, 64),
}
FEW = {along: sizes[:2] for along, sizes in ALONG.items()}
"""For a short try."""
KINDS = {"bert": "masked", "gpt2": "causal"}


def measure(along: dict[str, tuple[int, ...]] = ALONG, repeats: int = 3) -> list[Point]:
    """Points of both kinds of models along each size, and of lab-bert along prompts."""
    torch.set_num_threads(1)
    points = []
    for point in chain(_of_shapes(along, repeats), _of_lab(along["prompts"], repeats)):
        show([point])
        points.append(point)
    return points


def _of_shapes(along: dict[str, tuple[int, ...]], repeats: int) -> Iterator[Point]:
    for family, kind in KINDS.items():
        for name, sizes in along.items():
            for size in sizes:
                shape, prompts, tokens = SHAPE, PROMPTS, TOKENS
                if name == "layers":
                    shape = replace(shape, layers=size)
                elif name == "width":
                    shape = replace(shape, width=size, neurons=4 * size)
                elif name == "tokens":
                    tokens = size
                else:
                    prompts = size
                network = random_model(family, shape)
                yield Point(PART, f"{kind} model", name, size, *_seconds(network, prompts, tokens, repeats))


def random_model(family: str, shape: ModelShape) -> Network:
    """A model of a family and shape with random weights."""
    entry = FAMILIES[family]
    config = getattr(transformers, entry.configuration)(**entry.settings(shape))
    adapter = adapter_for(config)
    torch.manual_seed(0)
    return Network(getattr(transformers, adapter.auto_class).from_config(config).eval(), adapter)


def _seconds(network: Network, count: int, tokens: int, repeats: int) -> tuple[float, float]:
    settings = AttributionSettings(Quadrature.choose("gauss-legendre", NODES), device="cpu", batch_size=8)
    engine = Engine(network, lambda found: " ".join(map(str, found)), settings)
    prompts = random_prompts(network, count, tokens, seed=0)
    _attribute(engine, prompts[:1])  # the first batch is compared with the model's own forward pass
    return timed(lambda: _attribute(engine, prompts), repeats)


def _attribute(engine: Engine, prompts: list[EncodedPrompt]) -> None:
    for _ in engine.run(prompts):
        pass


def _of_lab(sizes: tuple[int, ...], repeats: int) -> Iterator[Point]:
    with tempfile.TemporaryDirectory() as folder, open_database(Path(folder) / "kndb.db") as database:
        database.facts.ingest([own_facts()])
        version = database.models.load("lab-bert")
        with database.store.reading() as connection:
            stored = prompts_of_facts(connection, held_out=False)[::5][: max(sizes)]
        found = [version.encoder.encode(one.id, one.text, one.answer) for one in stored]
        prompts = [one for one in found if isinstance(one, EncodedPrompt)]
        engine = Engine(version.network, version.tokenizer.decode, AttributionSettings(device="cpu", batch_size=8))
        _attribute(engine, prompts[:1])
        for size in sizes:
            yield Point(
                PART, "lab-bert", "prompts", size, *timed(lambda some=prompts[:size]: _attribute(engine, some), repeats)
            )
