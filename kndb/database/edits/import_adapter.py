"""A LoRA adapter as an edit of a registered model: what it would add to the value slots, rounded once, for good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ...advice import Placeholder, call, option
from ...editing.objects import adapter_tensors
from ...editing.objects.adapter_tensors import AdapterTensors, named
from ...editing.objects.captured import CapturedTensor, captured_tensors
from ...editing.objects.captures import captured_object, change_of_slots
from ...editing.objects.diff_file import ParameterDiff, slot_bytes
from ...editing.objects.diff_tensors import TensorDiff
from ...editing.objects.low_rank import LowRank
from ...errors import EditError, InputError, UsageError
from ...exchange import peft_config
from ...exchange.peft_config import LoraSettings
from ...models.feed_forward import DenseBlock
from ...models.network import Network
from ...models.weights import weight_files
from ...records.json_text import JsonTextError, read_json
from ...records.recipes import CaptureRecipe
from ..models import ModelCommands, ModelVersion
from .draft import Draft

_SMALL = 64 * 1024 * 1024
"""An adapter may have so many bytes more than the model's weight files."""
_MOST_WORDS = 10_000


@dataclass(frozen=True, eq=False)
class ImportedAdapter:
    """An adapter as an edit, not stored yet.

    Attributes:
        draft: the edit.
        tensors: how it keeps each parameter's change.
        ranks: the rank of each module's factors, by its name.
        base_model: the model that the adapter is for, in its sender's words; None if it names none.
        words: what it is for, in its sender's words; None if it says nothing.
        remarks: where what kndb wrote into it does not fit the model here.
    """

    draft: Draft
    tensors: tuple[CapturedTensor, ...]
    ranks: Mapping[str, int]
    base_model: str | None
    words: str | None
    remarks: tuple[str, ...]


def draft_adapter(models: ModelCommands, model: str, source: Path, *, most_bytes: int | None) -> ImportedAdapter:
    """What an adapter adds to a model's current version; see `EditCommands.draft_adapter`."""
    if most_bytes is not None and most_bytes < 1:
        raise UsageError(f"{option('most_bytes')} must be at least 1 (got {most_bytes})")
    if not source.is_dir():
        raise InputError(f"{source} is no folder; name the folder with {adapter_tensors.FILE} and {peft_config.FILE}")
    settings = peft_config.read_config(source)
    version = models.load(model)
    weights = sum(path.stat().st_size for path in weight_files(version.folder))
    adapter = adapter_tensors.read(source, weights + _SMALL if most_bytes is None else most_bytes)
    layers = _layers(version.network, adapter, source)
    changes = []
    with torch.no_grad():
        for module, (parameter, layer) in layers.items():
            change = _change(version, settings, adapter, module, parameter, layer, source)
            changes += [] if change is None else [change]
    if not changes:
        raise EditError(f"{source} adds nothing to the weights of {model!r}: with it they are the same")
    base, words, remarks = settings.base_model, *_said(adapter, version)
    recipe = CaptureRecipe(
        source=source.resolve().name,  # Where the folder lies says nothing elsewhere.
        from_fingerprint=adapter.sha256,
        tensors={},
        adapter="peft",
        base_model=base,
        words=words,
    )
    shapes = {parameter: version.network.layers[layer].down_shape for parameter, layer in layers.values()}
    content = captured_object(version.record.fingerprint, recipe, changes, dict(layers.values()), shapes)
    ranks = {module: len(one) for module, (one, _) in adapter.modules.items()}
    draft = Draft(version, content, None, None, None)
    return ImportedAdapter(draft, tuple(captured_tensors(content)), ranks, base, words, remarks)


def _layers(network: Network, adapter: AdapterTensors, source: Path) -> dict[str, tuple[str, int]]:
    """The parameter and layer of each of the adapter's modules.

    Raises:
        InputError: if a module is no down projection of the model.
    """
    known: dict[str, tuple[str, int]] = {}
    for number, layer in reversed([*enumerate(network.layers)]):
        if isinstance(layer.block, DenseBlock):
            parameter = network.down_parameter(number)
            module = parameter.removesuffix(".weight")
            # Of an adapter for the body alone, names lack the body's prefix.
            known |= dict.fromkeys((module, module.partition(".")[2]), (parameter, number))
    unknown = [module for module in adapter.modules if module not in known]
    if unknown:
        down = network.down_parameter(0).removesuffix(".weight")
        raise InputError(
            f"{source} changes {'a module' if len(unknown) == 1 else f'{len(unknown)} modules'} other than this "
            "model's "
            f"feed-forward down projections (such as {down}): {named(unknown)}. An edit of value slots can't hold "
            "that; merge the adapter into the checkpoint with the tool that made it, and capture that: "
            f"{call('edits.draft_capture', Placeholder('NAME'), Placeholder('CHECKPOINT'))}"
        )
    found = {module: known[module] for module in adapter.modules}
    if len({parameter for parameter, _ in found.values()}) < len(found):
        raise InputError(f"{source} names a module by two names: {named(sorted(found))}; fetch the adapter again")
    return found


def _change(
    version: ModelVersion,
    settings: LoraSettings,
    adapter: AdapterTensors,
    module: str,
    parameter: str,
    number: int,
    source: Path,
) -> ParameterDiff | TensorDiff | None:
    """What the adapter does to a parameter; None if that keeps its bytes."""
    layer = version.network.layers[number]
    before = layer.slots.detach().cpu().contiguous()
    one, other = adapter.modules[module]
    neurons, width = before.shape
    if (one.shape[1], other.shape[0]) != (neurons, width):
        raise InputError(
            f"{source}: {module} is for {one.shape[1]} neurons of {other.shape[0]} numbers, and the model has "
            f"{neurons} of {width}; the adapter belongs to another model"
        )
    if len(one) != settings.rank_of(module):
        raise InputError(
            f"{source}: {module} has factors of rank {len(one)}, and {peft_config.FILE} says "
            f"{settings.rank_of(module)}; the files are not of one adapter"
        )
    scale = settings.scale_of(module)
    after = LowRank(one.T, other.T).added_to(before, scale)
    if not bool(torch.isfinite(after).all()):
        raise InputError(
            f"{source}: with {module}, weights become NaN or infinite; the adapter belongs to another model"
        )
    if torch.equal(slot_bytes(before), slot_bytes(after)):
        return None
    factors = one.T.double(), other.T.double() * scale
    return change_of_slots(parameter, number, layer.layout, layer.down_shape, before, after, factors)


def _said(adapter: AdapterTensors, version: ModelVersion) -> tuple[str | None, tuple[str, ...]]:
    """What kndb wrote into an adapter, as far as it is that: the edits' titles, and what does not fit here."""
    try:
        values = read_json(adapter.metadata.get(adapter_tensors.OWN, "null"))
    except JsonTextError:
        return None, ()
    if not isinstance(values, dict):
        return None, ()
    edits = values.get("edits")
    titles = [one.get("title") for one in edits if isinstance(one, dict)] if isinstance(edits, list) else []
    words = "; ".join(title for title in titles if isinstance(title, str) and title)
    fits = words and len(words) <= _MOST_WORDS and "\0" not in words
    remarks = []
    fingerprint, made_on = values.get("fingerprint"), values.get("version")
    if isinstance(fingerprint, str) and fingerprint != version.record.fingerprint:
        remarks.append(
            f"The adapter says that it was made for the checkpoint with fingerprint {fingerprint[:12]}; "
            f"{version.record.name} has {version.record.fingerprint[:12]}."
        )
    elif isinstance(made_on, str) and made_on != version.version:
        remarks.append(
            f"The adapter says that it was made for version {made_on[:20]}; {version.record.name} is at "
            f"{version.version}, and the edit is planned on that."
        )
    return words if fits else None, tuple(remarks)
