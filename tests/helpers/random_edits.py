"""Edits that put random values into value slots of a model: quick to plan, and large enough to change answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from kndb.database.edits.objects import add_object
from kndb.editing.planning import recipes
from kndb.models.network import Network
from kndb.records.recipes import read_recipe


def plan_random(
    database: Any,
    seed: int,
    slots: Iterable[tuple[int, int]] = ((0, 3), (1, 5)),
    scale: float = 1.0,
    model: str = "tiny",
) -> int:
    """Adds an edit that puts random values into slots of the current version, by layer and neuron.

    Args:
        database: an open one.
        seed: of the values.
        slots: the slots.
        scale: standard deviation of the values.
        model: the model.

    Returns:
        The edit's number.
    """
    version = database.models.load(model)
    network = Network(version.model, version.adapter)
    noise = torch.Generator().manual_seed(seed)
    by_layer: dict[int, set[int]] = {}
    for layer, index in slots:
        by_layer.setdefault(network.canonical_layer(layer), set()).add(index)
    values = {
        layer: (
            torch.tensor(sorted(indices)),
            scale * torch.randn(len(indices), network.hidden_size, generator=noise).double(),
        )
        for layer, indices in by_layer.items()
    }
    recipe = read_recipe("update", {"seed": seed})
    content = recipes.plan_values(network, values, fingerprint=version.record.fingerprint, recipe=recipe)
    with database.store.writing() as connection:
        return add_object(connection, database.store, version.record.id, content, version.version, None, None)
