"""Sets of knowledge neurons as kndb itself exports them."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from . import tables
from .columns import NEURONS, Row
from .sets import FactName, NeuronSet, SetNeuron, Sizes


def read_file(path: Path, sizes: Sizes) -> list[NeuronSet]:
    """Reads an exported table of neurons: CSV, JSON lines or Parquet.

    Args:
        path: the file.
        sizes: of the model that it is about.

    Returns:
        One set for each fact, none of them empty, in the file's order.

    Raises:
        InputError: if the file is no such table, or names a neuron twice or one that the model can't have.
    """
    found: dict[FactName, dict[tuple[int, int], SetNeuron]] = {}
    for line, row in tables.read(path, NEURONS):
        where = f"{path}:{line}"
        fact = fact_name(where, row)
        layer, neuron = row["layer"], row["neuron"]
        if layer is None or neuron is None:
            raise InputError(f"{where}: a row must have a layer and a neuron, and one of them is missing")
        fault = sizes.fault(layer, neuron)
        if fault is not None:
            raise InputError(f"{where}: {fault}")
        neurons = found.setdefault(fact, {})
        if (layer, neuron) in neurons:
            raise InputError(f"{where}: L{layer}.N{neuron} of {fact} is here twice; leave one of the rows out")
        score = row["mean_score"]
        neurons[layer, neuron] = SetNeuron(layer, neuron, row["prompts"], None if score is None else float(score))
    return [
        NeuronSet(fact, tuple(neurons[place] for place in sorted(neurons)), str(path))
        for fact, neurons in found.items()
    ]


def fact_name(where: str, row: Row) -> FactName:
    """The fact of an exported row.

    Args:
        where: the file and line, for the message.
        row: with the columns relation, subject, object and id.

    Raises:
        InputError: if it names no fact.
    """
    relation, subject, object_, external_id = (row[name] for name in ("relation", "subject", "object", "id"))
    if relation is None or object_ is None or (subject is None and external_id is None):
        raise InputError(f"{where}: the row names no fact; give its relation, its object, and its subject or id")
    # Of a list's own identifiers, several facts may share one: the triple names exactly one fact.
    return FactName(external_id if subject is None else None, relation, subject, object_)
