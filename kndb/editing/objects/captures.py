"""Captures: the difference of two sets of weights as an edit, whatever made it.

Of a feed-forward down projection, the value slots that differ; of any other parameter, all of it. Either is kept as
low-rank factors where they reproduce the bytes exactly and take less than half of the room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from ...errors import EditError
from ...models.dtypes import DTYPE_NAMES
from ...models.layout import SlotLayout
from ...models.network import Network
from ...records.recipes import CaptureRecipe, OtherRecipe
from . import factor_fits
from .captured import described
from .diff_file import EditObject, ParameterDiff, slot_bytes
from .diff_tensors import ChangedSlots, TensorDiff
from .slots import raw, raw_view, region_hash, slot_hashes

_NAMED = 5


def capture(
    network: Network,
    edited: Mapping[str, torch.Tensor],
    *,
    fingerprint: str,
    source: str,
    source_fingerprint: str,
) -> EditObject:
    """The edit that leads from a model's present weights to others, byte for byte.

    Args:
        network: the model.
        edited: the other weights by parameter name, of the model's dtypes and shapes.
        fingerprint: of the model's checkpoint.
        source: a name for where the other weights are from.
        source_fingerprint: of the checkpoint that they are from.

    Raises:
        EditError: if the parameters are not the same ones, or nothing differs.
    """
    present = dict(network.model.named_parameters())
    _require_alike(present, edited)
    layers: dict[str, int] = {}
    for layer in reversed(range(len(network.layers))):
        layers[network.down_parameter(layer)] = network.canonical_layer(layer)
    changes: list[ParameterDiff | TensorDiff] = []
    for name in sorted(present):
        old, new = present[name].detach().cpu(), edited[name].detach().cpu()
        if torch.equal(raw_view(old), raw_view(new)):
            continue
        if name not in layers:
            changes.append(_whole(name, old, new))
            continue
        changes.append(_slots(name, layers[name], network.layers[layers[name]].layout, old, new))
    if not changes:
        raise EditError("the two checkpoints hold the same weights; there is nothing to capture")
    recipe = CaptureRecipe(source=source, from_fingerprint=source_fingerprint, tensors={})
    shapes = {name: tuple(tensor.shape) for name, tensor in present.items()}
    return captured_object(fingerprint, recipe, changes, layers, shapes)


def captured_object(
    fingerprint: str,
    recipe: CaptureRecipe,
    changes: Sequence[ParameterDiff | TensorDiff],
    layers: Mapping[str, int],
    shapes: Mapping[str, tuple[int, ...]],
) -> EditObject:
    """The edit object of some changes.

    Args:
        fingerprint: of the model's checkpoint.
        recipe: what it says; its `tensors` are filled in.
        changes: at least one.
        layers: the layer of each changed down projection, at least.
        shapes: the shape of each changed parameter, at least.
    """
    plain = [change for change in changes if isinstance(change, ParameterDiff)]
    content = EditObject(
        fingerprint=fingerprint,
        recipe=OtherRecipe("capture"),
        parameters=tuple(plain),
        layers={diff.parameter: layers[diff.parameter] for diff in plain},
        shapes={diff.parameter: shapes[diff.parameter] for diff in plain},
        tensors=tuple(change for change in changes if isinstance(change, TensorDiff)),
    )
    return replace(content, recipe=replace(recipe, tensors=described(content)))


def _require_alike(present: Mapping[str, torch.Tensor], edited: Mapping[str, torch.Tensor]) -> None:
    missing, extra = sorted(set(present) - set(edited)), sorted(set(edited) - set(present))
    if missing or extra:
        raise EditError(
            f"the edited checkpoint lacks {_named(missing) or 'nothing'} and has {_named(extra) or 'nothing'} besides; "
            "an edit changes the model's own parameters"
        )
    for name, tensor in present.items():
        found, expected = (edited[name].dtype, list(edited[name].shape)), (tensor.dtype, list(tensor.shape))
        if found != expected:
            raise EditError(
                f"{name} is {found[0]} {found[1]} in the edited checkpoint, and {expected[0]} {expected[1]} in "
                "the model"
            )
        if not bool(torch.isfinite(edited[name]).all()):
            raise EditError(f"{name} has NaN or infinity in the edited checkpoint; all values have to be finite")


def _named(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")


def _whole(name: str, old: torch.Tensor, new: torch.Tensor) -> TensorDiff:
    old, new = old.contiguous(), new.contiguous()
    found = factor_fits.fit(old, new)
    about = (name, tuple(old.shape), DTYPE_NAMES[old.dtype], None, region_hash(old), region_hash(new))
    return TensorDiff(*about, old=raw(old), new=raw(new)) if found is None else TensorDiff(*about, factors=found)


def _slots(
    name: str, layer: int, layout: SlotLayout, old: torch.Tensor, new: torch.Tensor
) -> ParameterDiff | TensorDiff:
    every = torch.arange(layout.slots(tuple(old.shape)))
    return change_of_slots(name, layer, layout, tuple(old.shape), layout.read(old, every), layout.read(new, every))


def change_of_slots(
    name: str,
    layer: int,
    layout: SlotLayout,
    shape: tuple[int, ...],
    old: torch.Tensor,
    new: torch.Tensor,
    factors: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> ParameterDiff | TensorDiff:
    """How an edit keeps a change of all value slots of a parameter: those that differ, plainly or as factors.

    Args:
        name: the parameter.
        layer: its layer.
        layout: how it holds slots.
        shape: its own.
        old: all its slots before, [n, d].
        new: after; at least one differs.
        factors: what was added, [n, r] and [r, d], if that is known; factors are looked for otherwise.
    """
    differs = (slot_bytes(old) != slot_bytes(new)).any(dim=1)
    indices = differs.nonzero().flatten()
    before, after = old[differs].contiguous(), new[differs].contiguous()
    if factors is None:
        found = factor_fits.fit(before, after)
    else:
        found = factor_fits.known(before, after, factors[0][differs], factors[1])
    if found is None:
        return ParameterDiff(name, layout.word, indices, before, after)
    hashes = tuple(slot_hashes(before)), tuple(slot_hashes(after))
    slots = ChangedSlots(layout.word, layer, tuple(indices.tolist()), *hashes)
    about = (name, shape, DTYPE_NAMES[old.dtype], slots, region_hash(before), region_hash(after))
    return TensorDiff(*about, factors=found)
