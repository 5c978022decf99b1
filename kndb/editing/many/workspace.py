"""A model whose down projections are changed for as long as an edit is planned; and the edit that comes of it.

A change is a sum of products left·right, added as `kndb.editing.objects.factors` adds them and rounded to the stored
dtype: what is tried is what the edit's object will give, bit for bit.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import TracebackType

import torch

from ...errors import EditError
from ...models.network import Network
from ...records.recipes import Recipe
from ..objects import factor_fits
from ..objects.captures import change_of_slots
from ..objects.diff_file import EditObject, ParameterDiff, slot_bytes
from ..objects.diff_tensors import TensorDiff

Product = tuple[torch.Tensor, torch.Tensor]
"""left [d, r] and right [r, n], in double precision on the CPU."""


class Workspace:
    """Use it as a context: when it closes, the model's parameters hold the bytes that they held.

    Args:
        stored: the model, in the dtype in which it is stored.

    Attributes:
        network: what to compute on: the model itself, or a copy in float32 if its dtype is a narrower one.
    """

    def __init__(self, stored: Network) -> None:
        self._stored = stored
        self.network = widened(stored)
        self._old: dict[int, torch.Tensor] = {}
        self._new: dict[int, torch.Tensor] = {}
        self._products: dict[int, Product | None] = {}

    def __enter__(self) -> Workspace:
        """Nothing is changed yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Puts back what was changed."""
        for layer, old in self._old.items():
            self._put(layer, old)

    def add(self, layer: int, left: torch.Tensor, right: torch.Tensor) -> None:
        """Adds left·right to a layer's down projection; layers that share the parameter share the change.

        Args:
            layer: the layer.
            left: [d, r].
            right: [r, n].

        Raises:
            EditError: if a value leaves the dtype's range, or the parameter was set to whole values.
        """
        owner = self._begin(layer)
        before = self._products.get(owner, (left[:, :0], right[:0]))
        if before is None:
            raise EditError(f"layer {owner} was given whole values already")
        rows = len(right)
        if len(before[1]) >= rows and torch.equal(before[1][-rows:], right):
            # The same keys once more, as in each round of a plan for one layer: the rank stays what it was.
            left, before = before[0][:, -rows:] + left, (before[0][:, :-rows], before[1][:-rows])
        product = torch.cat([before[0], left], 1), torch.cat([before[1], right])
        self._products[owner] = product
        self._keep(owner, factor_fits.changed(self._old[owner], product[1].T, product[0].T))

    def set(self, layer: int, values: torch.Tensor) -> None:
        """Puts values [n, d] into a layer's value slots.

        Raises:
            EditError: if a value leaves the dtype's range.
        """
        owner = self._begin(layer)
        self._products[owner] = None
        self._keep(owner, values.to(self._old[owner].dtype))

    def edit(self, *, fingerprint: str, recipe: Recipe) -> EditObject:
        """The edit that leads from the model as it was to what the workspace holds.

        Args:
            fingerprint: of the model's checkpoint.
            recipe: everything needed to compute it again.

        Raises:
            EditError: if nothing changed.
        """
        plain: list[ParameterDiff] = []
        parts: list[TensorDiff] = []
        owner_of = {}
        for layer in sorted(self._new, key=self._stored.down_parameter):
            old, new = self._old[layer], self._new[layer]
            if torch.equal(slot_bytes(old), slot_bytes(new)):
                continue
            name, place = self._stored.down_parameter(layer), self._stored.layers[layer]
            product = self._products[layer]
            factors = None if product is None else (product[1].T, product[0].T)
            change = change_of_slots(name, layer, place.layout, place.down_shape, old, new, factors)
            owner_of[name] = layer
            (plain if isinstance(change, ParameterDiff) else parts).append(change)  # type: ignore[arg-type]
        if not plain and not parts:
            raise EditError("the edit would change no value slot: the model gives these answers already")
        return EditObject(
            fingerprint=fingerprint,
            recipe=recipe,
            parameters=tuple(plain),
            layers={diff.parameter: owner_of[diff.parameter] for diff in plain},
            shapes={diff.parameter: self._stored.layers[owner_of[diff.parameter]].down_shape for diff in plain},
            tensors=tuple(parts),
        )

    @property
    def changes(self) -> Mapping[int, torch.Tensor]:
        """What each changed parameter gained, [d, n] in double precision, by the lowest layer that has it."""
        return {layer: (new.double() - self._old[layer].double()).T for layer, new in self._new.items()}

    def _begin(self, layer: int) -> int:
        owner = self._stored.canonical_layer(layer)
        if owner not in self._old:
            self._old[owner] = self._stored.layers[owner].value_slots(torch.arange(self._stored.neurons))
        return owner

    def _keep(self, owner: int, values: torch.Tensor) -> None:
        if not bool(values.isfinite().all()):
            raise EditError(f"the new values of layer {owner} leave the range of {values.dtype}")
        self._new[owner] = values
        self._put(owner, values)

    def _put(self, owner: int, values: torch.Tensor) -> None:
        slots = self.network.layers[owner].slots.detach()
        slots.copy_(values.to(slots.device))


def widened(network: Network) -> Network:
    """The network itself, or a copy in float32 if its dtype is a narrower one."""
    if next(network.model.parameters()).dtype in (torch.float32, torch.float64):
        return network
    return Network(copy.deepcopy(network.model).float(), network.adapter)
