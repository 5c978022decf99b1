"""The results of EleutherAI's replication: a JSON object from ParaRel uuid to a list of [layer, neuron]."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from .lines import opened
from .sets import FactName, NeuronSet, SetNeuron, Sizes, merged

_EXPECTED = "a JSON object from the facts' ids to lists of [layer, neuron]"


def read_files(paths: Sequence[Path], sizes: Sizes) -> list[NeuronSet]:
    """Reads result files, gzipped or not.

    Args:
        paths: the files.
        sizes: of the model that they are about.

    Returns:
        One set for each id, in the order in which the files first name them. A pair listed twice counts once.

    Raises:
        InputError: naming the file and the id, if a file can't be read or its content is anything else; or if an id
            stands in two files, or twice in one, with different sets.
    """
    return merged(
        NeuronSet(FactName(id=key), _neurons(path, key, value, sizes), str(path))
        for path in paths
        for key, value in _object(path)
    )


def _object(path: Path) -> list[tuple[str, object]]:
    """The keys and values of the file's object, in order; a key that comes twice is there twice."""
    try:
        # An object inside the outermost one would come as a list of pairs too, so it is told apart by its type.
        with opened(path) as text:
            value = json.loads(text.read(), object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{path}: not valid JSON ({error.msg}, {place}): it must be {_EXPECTED}") from error
    except (RecursionError, ValueError) as error:
        raise InputError(f"{path}: JSON that can't be read ({error}): it must be {_EXPECTED}") from error
    if not isinstance(value, _Pairs):
        raise InputError(f"{path}: it must be {_EXPECTED} (got {_kind(value)})")
    for key, _ in value:
        if not key.isprintable():
            raise InputError(f"{path}: the id {key!r} has characters that can't be printed")
    return value


class _Pairs(list[tuple[str, object]]):
    """A JSON object as its pairs: Python's own dict would keep the last of two equal keys in silence."""


def _neurons(path: Path, key: str, value: object, sizes: Sizes) -> tuple[SetNeuron, ...]:
    if isinstance(value, _Pairs) or not isinstance(value, list):
        raise InputError(f"{path}: id {key!r}: it must be a list of [layer, neuron] (got {_kind(value)})")
    return tuple(sorted({_neuron(path, key, pair, sizes) for pair in value}))


def _neuron(path: Path, key: str, pair: object, sizes: Sizes) -> SetNeuron:
    numbers = pair if isinstance(pair, list) and all(type(number) is int for number in pair) else []
    if len(numbers) != 2:
        raise InputError(f"{path}: id {key!r}: {_short(pair)} must be [layer, neuron], two whole numbers from 0")
    layer, neuron = numbers
    fault = sizes.fault(layer, neuron)
    if fault is not None:
        raise InputError(f"{path}: id {key!r}: {fault}")
    return SetNeuron(layer, neuron)


def _short(value: object) -> str:
    text = json.dumps(dict(value) if isinstance(value, _Pairs) else value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _kind(value: object) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "an object" if isinstance(value, _Pairs) else "a list"
