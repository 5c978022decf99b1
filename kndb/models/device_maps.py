"""Device maps: which device each of a model's parameters is kept on, as a user's file says or as accelerate infers.

A file is a JSON object. Its keys are paths of modules (`model.layers.0`, `lm_head`; the deepest one that holds a
parameter counts; the empty path is the whole model), or layers by number (`0`, `0-14`, `3,5`). Its values are devices:
`cpu`, `disk`, `mps`, `cuda`, `cuda:1`, or a number for CUDA's. In place of these, the only key `max_memory` says how
much of each device accelerate may fill: `{"max_memory": {"cpu": "300MB", "cuda:0": "20GiB"}}`; what is left goes to the
disk.

Files are those of strangers until they are checked against the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ..advice import option
from ..errors import UsageError
from ..records.json_text import JsonTextError, read_json
from ..records.layer_lists import layers_in
from .dtypes import find_dtype

AUTO = "auto"
DISK = "disk"
MEMORY = "max_memory"
MOST_BYTES = 4_000_000
"""Of a device map: one that names every parameter of the largest models has a tenth of that."""
_MOST_NAMED = 3
_DEVICE = re.compile(r"cpu|disk|mps|cuda(:\d{1,3})?", re.ASCII)
_SIZE = re.compile(r"(\d{1,18})(?:\.(\d{1,9}))? ?(|[KMGT]i?)B?", re.ASCII)
_FACTORS = {"": 1, **{f"{unit}": 1000**power for power, unit in enumerate("KMGT", 1)}}
_FACTORS |= {f"{unit}i": 1024**power for power, unit in enumerate("KMGT", 1)}
GPU_SHARE = 0.5
"""Of the free memory of the GPU that computes, what `auto` fills with weights: the rest is for activations."""


@dataclass(frozen=True)
class DeviceMap:
    """What a user said of where a model is kept.

    Attributes:
        devices: a device for each key of the file; empty for `auto`.
        memory: bytes of each device that `auto` may fill; empty for those that are free.
        source: what messages call it.
    """

    devices: Mapping[str, str] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    source: str = AUTO


@dataclass(frozen=True)
class Split:
    """How a model is loaded that is not all kept where it is computed.

    Attributes:
        given: where its parameters are kept.
        device: which computes.
        dtype: in what.
    """

    given: DeviceMap
    device: torch.device
    dtype: torch.dtype


DeviceMapChoice = str | Path | Mapping[str, str | int | Mapping[str, str | int]] | DeviceMap | None
"""What a setting takes: `auto`, a file, what such a file says, or None to keep all where it is computed."""


def as_read(choice: DeviceMapChoice) -> DeviceMap | None:
    """A setting after its file was read: refused at once if it is wrong, and the same wherever it is used.

    Raises:
        UsageError: as `read_device_map`.
    """
    return None if choice is None else read_device_map(choice)


def split_for(choice: DeviceMapChoice, device: torch.device, dtype: torch.dtype) -> Split | None:
    """How to load a model by a setting; None to load all of it.

    Raises:
        UsageError: as `read_device_map`.
    """
    return None if choice is None else Split(read_device_map(choice), device, dtype)


class SplitSettings(Protocol):
    """Settings that say where a model's weights are kept, and what it computes in."""

    @property
    def device_map(self) -> DeviceMapChoice:
        """Where they are kept."""

    @property
    def dtype(self) -> str:
        """A name of `kndb.models.dtypes.COMPUTE_DTYPES`."""


def split_of(settings: SplitSettings, device: torch.device) -> Split | None:
    """How to load a model by the settings of a command that computes on a device; None to load all of it.

    Raises:
        UsageError: as `read_device_map`.
    """
    return split_for(settings.device_map, device, find_dtype(settings.dtype).dtype)


def read_device_map(choice: str | Path | Mapping[str, Any] | DeviceMap) -> DeviceMap:
    """The device map of a setting: `auto`, a file, or what such a file says.

    Raises:
        UsageError: if the file can't be read, it is no device map, or names a device that is none.
    """
    if isinstance(choice, DeviceMap):
        return choice
    if choice == AUTO:
        return DeviceMap()
    if isinstance(choice, Mapping):
        return _checked(choice, "the device map")
    named = str(choice)
    try:
        with Path(named).open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{option('device_map')} must be auto or a JSON file; {named} can't be read: "
            f"{getattr(error, 'strerror', None) or error}"
        ) from error
    if len(raw) > MOST_BYTES:
        raise UsageError(f"{named} has more than {MOST_BYTES:,} bytes; a device map has a line for each module")
    try:
        found = read_json(raw.decode("utf-8"))
    except (UnicodeDecodeError, JsonTextError) as error:
        raise UsageError(f"{named} is no JSON: {error}") from error
    return _checked(found, named)


def _checked(found: object, named: str) -> DeviceMap:
    """What a file says, if it is a device map."""
    if not isinstance(found, Mapping) or not found:
        raise UsageError(
            f'{named} must be a JSON object with a device for each module, such as {{"model.layers.0": "cpu"}}, '
            f'or with {MEMORY} alone, such as {{"{MEMORY}": {{"cpu": "300MB"}}}}'
        )
    if MEMORY in found:
        return DeviceMap(memory=_memory(found, named), source=named)
    return DeviceMap({str(key): _device(value, str(key), named) for key, value in found.items()}, source=named)


def _device(value: object, key: str, named: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1000:
        return f"cuda:{value}"
    if not isinstance(value, str) or not _DEVICE.fullmatch(value):
        raise UsageError(
            f"{named} says {str(value)[:40]!r} of {key[:80]!r}; a device must be cpu, disk, mps, cuda, cuda:N or "
            "CUDA's number N"
        )
    return value


def _memory(found: Mapping[str, object], named: str) -> dict[str, int]:
    if len(found) > 1:
        other = next(key for key in found if key != MEMORY)
        raise UsageError(
            f"{named} has {MEMORY}, by which devices are chosen, and a device for {str(other)[:80]!r}; keep one"
        )
    limits = found[MEMORY]
    if not isinstance(limits, Mapping) or not limits:
        raise UsageError(f'{named}: {MEMORY} must be an object with a size for each device, such as {{"cpu": "300MB"}}')
    sizes = {}
    for name, value in limits.items():
        key = str(name)
        device = _device(int(key) if key.isascii() and key.isdecimal() and len(key) < 4 else key, MEMORY, named)
        if device == DISK:
            raise UsageError(f"{named}: {MEMORY} can't limit disk; what finds no place elsewhere is read from there")
        sizes["cuda:0" if device == "cuda" else device] = _bytes(value, device, named)
    return sizes


def _bytes(value: object, device: str, named: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**18:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise UsageError(
            f"{named}: {MEMORY} of {device} must be bytes or a size such as 300MB or 20GiB (got {str(value)[:40]!r})"
        )
    return int(float(f"{match[1]}.{match[2] or 0}") * _FACTORS[match[3]])


def homes(split: Split, model: nn.Module, layers: Sequence[str]) -> dict[str, str]:
    """The device on which each parameter of a model is kept, by its name; shared ones by their first name.

    Args:
        split: what the user said, and what computes.
        model: the model; its values are not read.
        layers: the path of each layer.

    Raises:
        UsageError: if the map names a module or layer that the model lacks, or a device that this machine lacks, says
            two things of one parameter, or leaves one out.
    """
    given = split.given
    devices = dict(given.devices) or _inferred(given, model, split.device, split.dtype)
    by_path = _by_path(devices, model, layers, given.source)
    for key, home in by_path.items():
        if not _is_there(home):
            raise UsageError(f"{given.source} keeps {key or 'the model'} on {home}, which this machine does not have")
    found: dict[str, str] = {}
    first_names = {id(parameter): name for name, parameter in model.named_parameters()}
    missing: list[tuple[str, str]] = []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        kept, first = _home(by_path, name), first_names[id(parameter)]
        if kept is None:
            missing.append((first, name))
        elif found.setdefault(first, kept) != kept:
            raise UsageError(
                f"{given.source} keeps {first} on {found[first]} and {name} on {kept}, and the two share their values; "
                "name the same device for both"
            )
    left_out = [name.rpartition(".")[0] for first, name in missing if first not in found]
    if left_out:
        names = list(dict.fromkeys(left_out))
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        raise UsageError(
            f"{given.source} names no device for {', '.join(names[:_MOST_NAMED])}{more}; name one for each module "
            '("" stands for all that are not named otherwise)'
        )
    return found


def _by_path(devices: Mapping[str, str], model: nn.Module, layers: Sequence[str], source: str) -> dict[str, str]:
    """The same with layers' numbers as their paths."""
    modules = {name for name, _ in model.named_modules()} | {name for name, _ in model.named_parameters()}
    found: dict[str, str] = {}
    for key, home in devices.items():
        numbers = layers_in(key)
        if numbers is None and key not in modules:
            raise UsageError(f"{source} names {key[:80]!r}, and the model has no such module; {_example(layers)}")
        beyond = [number for number in numbers or () if number >= len(layers)]
        if beyond:
            raise UsageError(f"{source} names layer {beyond[0]}, and the model has layers 0 to {len(layers) - 1}")
        for path in [key] if numbers is None else [layers[number] for number in numbers]:
            if found.setdefault(path, home) != home:
                raise UsageError(f"{source} keeps {path} on {found[path]} and on {home}; name one device")
    return found


def _example(layers: Sequence[str]) -> str:
    return f"its layers are {layers[0]} to {layers[-1]}" if len(layers) > 1 else f"its layer is {layers[0]}"


def _home(by_path: Mapping[str, str], name: str) -> str | None:
    """The device of the deepest path that holds a parameter."""
    while name:
        if name in by_path:
            return by_path[name]
        name = name.rpartition(".")[0]
    return by_path.get("")


def _is_there(home: str) -> bool:
    if home in ("cpu", DISK):
        return True
    if home == "mps":
        return torch.backends.mps.is_available()
    return int(home.partition(":")[2] or 0) < torch.cuda.device_count()


def _inferred(given: DeviceMap, model: nn.Module, device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """What accelerate makes of the memory that is free, or of the user's limits."""
    from accelerate import infer_auto_device_map

    sizes: dict[Any, int] = {_key(name): size for name, size in (given.memory or free_memory(device)).items()}
    for name in given.memory:
        if not _is_there(name):
            raise UsageError(f"{given.source} limits {name}, which this machine does not have")
    blocks = sorted(getattr(model, "_no_split_modules", None) or [])
    found = infer_auto_device_map(
        model, max_memory=sizes, no_split_module_classes=blocks, dtype=dtype, offload_buffers=True
    )
    return {key: f"cuda:{home}" if isinstance(home, int) else str(home) for key, home in found.items()}


def _key(name: str) -> str | int:
    """How accelerate calls a device."""
    return int(name.partition(":")[2] or 0) if name.startswith("cuda") else name


def free_memory(device: torch.device) -> dict[str, int]:
    """The bytes that `auto` may fill on each device: of the CPU's nine tenths of what is free."""
    from accelerate.utils import get_max_memory

    every = get_max_memory()
    found = {"cpu": int(every["cpu"] * 0.9)}
    if device.type == "cuda":
        own = device.index or 0
        for number in (key for key in every if isinstance(key, int)):
            found[f"cuda:{number}"] = int(every[number] * (GPU_SHARE if number == own else 1.0))
    return found
