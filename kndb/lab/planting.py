"""Where a lab model's facts are planted: which FFN neurons each relation and each fact is given, before any training.

Each relation has a few neurons of its own in one layer, which all its facts pass through, and a block of neurons in the
layers after it. Each fact has a few neurons of its relation's block: its code. No two facts of a relation have the same
code, and the facts' codes are spread evenly over the block. Neurons of the last layers that are left over, and all
those of the first layers, are free: nothing is planted there, and training uses them as it likes.

`routing.py` trains a model so; the plan lies beside the weights, in `planted.json`, so that what a method of
attribution finds can be compared with it.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..advice import option
from ..errors import ModelError, UsageError
from ..records.models import Neuron
from .corpus import PromptExample

PLANTED_FILE = "planted.json"
_FORMAT = 1

FactKey = tuple[str, str, str]
"""A fact's relation, subject and object."""


def fact_key(example: PromptExample) -> FactKey:
    """The fact that an example asks for."""
    return example.relation, example.subject, example.answer


@dataclass(frozen=True)
class PlantingPlan:
    """Which neurons are planted.

    Attributes:
        relations: each relation's own neurons.
        blocks: the neurons that each relation's facts have their codes in.
        facts: each fact's code.
    """

    relations: Mapping[str, tuple[Neuron, ...]]
    blocks: Mapping[str, tuple[Neuron, ...]]
    facts: Mapping[FactKey, tuple[Neuron, ...]]


def plan(
    facts: Iterable[FactKey], layers: int, neurons: int, *, relation_neurons: int, fact_neurons: int, seed: int
) -> PlantingPlan:
    """Chooses the neurons of all relations and facts.

    The facts' codes lie in the last two layers (the last one, if there are but two), the relations' neurons in the
    layer before them.

    Args:
        facts: what is planted.
        layers: of the model, at least 2.
        neurons: FFN neurons per layer.
        relation_neurons: neurons that each relation has.
        fact_neurons: neurons that each fact has.
        seed: of the draw of codes.

    Raises:
        UsageError: if the relations don't fit into the model, or a relation's facts into its block.
    """
    if layers < 2:
        raise UsageError(f"{option('layers')} must be at least 2 to plant storage (got {layers})")
    by_relation: dict[str, list[FactKey]] = defaultdict(list)
    for fact in dict.fromkeys(facts):
        by_relation[fact[0]].append(fact)
    fact_layers = [layers - 1] if layers == 2 else [layers - 2, layers - 1]
    relation_layer = fact_layers[0] - 1
    # An eighth of each layer but the last is left free, for what training needs besides.
    most = neurons * 7 // 8
    rooms = [(neurons if layer == layers - 1 else most) // max(1, len(by_relation)) for layer in fact_layers]
    if relation_neurons * len(by_relation) > most or sum(rooms) <= fact_neurons:
        raise UsageError(
            f"{len(by_relation)} relations can't be planted in layers of {neurons} neurons; use more with "
            f"{option('neurons')}, or train without {option('planted')}"
        )
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    relations: dict[str, tuple[Neuron, ...]] = {}
    blocks: dict[str, tuple[Neuron, ...]] = {}
    codes: dict[FactKey, tuple[Neuron, ...]] = {}
    for place, (relation, members) in enumerate(by_relation.items()):
        start = place * relation_neurons
        relations[relation] = tuple(Neuron(relation_layer, start + index) for index in range(relation_neurons))
        blocks[relation] = tuple(
            Neuron(layer, place * room + index)
            for layer, room in zip(fact_layers, rooms, strict=True)
            for index in range(room)
        )
        codes.update(zip(members, _codes(len(members), blocks[relation], fact_neurons, draw), strict=True))
    return PlantingPlan(relations, blocks, codes)


def _codes(facts: int, block: Sequence[Neuron], size: int, draw: random.Random) -> list[tuple[Neuron, ...]]:
    """Different codes for some facts, such that the neurons of a block have about as many facts each."""
    load = dict.fromkeys(block, 0)
    codes: dict[tuple[Neuron, ...], None] = {}
    while len(codes) < facts:
        least_used = sorted(block, key=lambda neuron: (load[neuron], draw.random()))
        # The least used neurons, or, where those are a code already, of a few more.
        tried = (
            tuple(sorted(draw.sample(least_used[: size + more], size))) for more in range(len(block)) for _ in range(4)
        )
        code = next((code for code in tried if code not in codes), None)
        if code is None:
            break
        codes[code] = None
        for neuron in code:
            load[neuron] += 1
    else:
        return list(codes)
    raise UsageError(
        f"{facts} facts of a relation have no codes of {size} neurons each in a block of {len(block)}; use more with "
        f"{option('neurons')}"
    )


def write_plan(chosen: PlantingPlan, path: Path) -> None:
    """Writes a plan as JSON, one relation or fact to a line."""
    relations = [
        {"relation": key, "neurons": _names(own), "block": _names(chosen.blocks[key])}
        for key, own in chosen.relations.items()
    ]
    facts = [
        {"relation": relation, "subject": subject, "object": answer, "neurons": _names(code)}
        for (relation, subject, answer), code in chosen.facts.items()
    ]
    lines = ",\n".join(
        f' "{name}": [\n{body}\n ]'
        for name, rows in (("relations", relations), ("facts", facts))
        for body in [",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)]
    )
    path.write_text(f'{{"format": {_FORMAT},\n{lines}\n}}\n', encoding="utf-8")


def read_plan(folder: Path) -> PlantingPlan:
    """The plan that lies beside a checkpoint's weights.

    Raises:
        ModelError: if there is none, or it can't be read.
    """
    path = folder / PLANTED_FILE
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ModelError(f"{path} has format {content['format']!r}, and this kndb reads {_FORMAT}")
        return PlantingPlan(
            {row["relation"]: _neurons(row["neurons"]) for row in content["relations"]},
            {row["relation"]: _neurons(row["block"]) for row in content["relations"]},
            {(row["relation"], row["subject"], row["object"]): _neurons(row["neurons"]) for row in content["facts"]},
        )
    except FileNotFoundError as error:
        raise ModelError(
            f"{folder} has no {PLANTED_FILE}: nothing is known to be planted in it; take lab-bert, or train "
            f"a model of your own with {option('planted', True)}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} can't be read as the plan of a planted model: {error}") from error


def _names(neurons: Iterable[Neuron]) -> list[str]:
    return [str(neuron) for neuron in neurons]


def _neurons(names: Iterable[str]) -> tuple[Neuron, ...]:
    return tuple(Neuron.parse(name) for name in names)
