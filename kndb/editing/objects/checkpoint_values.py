"""What value slots and parameters hold in a checkpoint after edits: read from its files' own bytes, no model loaded.

Only what the edits touch is read, at its offsets in the safetensors files, and only where it is first asked for.
Nothing is written. Invariants: an edit is taken as a whole or not at all; every byte that it changes is compared with
the edit's own before.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from ...errors import ModelError
from ...models.weights import ITEM_SIZES, TensorPlace, tensor_places
from ...versions import NO_LAYER, Slot
from .diff_tensors import TensorDiff
from .object_format import StoredEdit
from .slot_bytes import WHOLE, SlotPlace, Strides, gathered, locate, region_sha256, slot_sha256

_FEW = 64
"""So many columns of a matrix are read value by value; more of them from all of it."""
_CHUNK = 1 << 26


class DisagreementError(Exception):
    """What an edit is to change is not what the edit expects there, or does not become what it is to be."""


class CheckpointValues:
    """What slots and parameters hold in a checkpoint, and after the edits that were taken so far."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[Slot, bytes] = {}

    @cached_property
    def _tensors(self) -> Mapping[str, TensorPlace]:
        return tensor_places(self._folder)

    def take(self, edit: StoredEdit, *, reverse: bool = False, only: Collection[Slot] | None = None) -> None:
        """Applies an edit, or takes it back, once every byte that it changes was compared.

        Args:
            edit: the edit.
            reverse: put the old values where the new ones are.
            only: leave out other slots; then whatever it keeps as factors must lie within.

        Raises:
            DisagreementError: if something holds other bytes than the edit expects, or factors don't give the bytes
                that they are to give.
            ModelError: if the checkpoint's safetensors files can't be read, or lack something.
        """
        self._read(self.places(edit, only))
        after: dict[Slot, bytes] = {}
        for slots in edit.parameters:
            for one in slots.edits():
                slot = one.place.slot
                if only is None or slot in only:
                    expected, after[slot] = (one.new, one.old) if reverse else (one.old, one.new)
                    if self._held[slot] != expected:
                        raise DisagreementError(f"{one.place.name} holds other bytes than the edit expects")
        for part in edit.tensors:
            chosen = places_of(part)
            if only is None or chosen[0].slot in only:
                after |= zip((place.slot for place in chosen), self._after(part, chosen, reverse), strict=True)
        self._held |= after

    def held(self, places: Sequence[SlotPlace]) -> list[bytes]:
        """The bytes of slots or parameters.

        Raises:
            ModelError: if the checkpoint's safetensors files can't be read, or lack one.
        """
        self._read(places)
        return [self._held[place.slot] for place in places]

    def places(self, edit: StoredEdit, only: Collection[Slot] | None = None) -> list[SlotPlace]:
        """All that an edit changes, or what of it is among some slots."""
        every = [one.place for slots in edit.parameters for one in slots.edits()]
        every += [place for part in edit.tensors for place in places_of(part)]
        return [place for place in every if only is None or place.slot in only]

    def _after(self, part: TensorDiff, places: Sequence[SlotPlace], reverse: bool) -> Iterator[bytes]:
        present = b"".join(self._held[place.slot] for place in places)
        before, wanted = (part.new_sha256, part.old_sha256) if reverse else (part.old_sha256, part.new_sha256)
        if region_sha256(part.dtype, part.region, present) != before:
            raise DisagreementError(f"{part.parameter} holds other bytes than the edit expects")
        if part.factors is None:
            stored = part.old if reverse else part.new
            assert stored is not None, "a change is kept whole or as factors"
            yield stored
            return
        import numpy

        from .factors import BITS

        bits = numpy.frombuffer(present, BITS[part.dtype]).reshape(part.region)
        result = part.factors.applied(bits, part.dtype, reverse=reverse)
        content = result.tobytes()
        size = len(content) // len(places)
        pieces = [content[start : start + size] for start in range(0, len(content), size)]
        hashes = None if part.slots is None else part.slots.old_hashes if reverse else part.slots.new_hashes
        if region_sha256(part.dtype, part.region, content) != wanted or (
            hashes is not None and tuple(slot_sha256(part.dtype, piece) for piece in pieces) != hashes
        ):
            raise DisagreementError(f"the factors of {part.parameter} give other bytes than they are to give")
        yield from pieces

    # --- reading the files ---------------------------------------------------------------------------------

    def _read(self, places: Sequence[SlotPlace]) -> None:
        try:
            self._read_missing(places)
        except OSError as error:
            raise ModelError(f"{self._folder} can't be read: {error.strerror or error}") from error

    def _read_missing(self, places: Sequence[SlotPlace]) -> None:
        """Reads what was not asked for before."""
        by_parameter: dict[str, list[tuple[SlotPlace, Strides]]] = {}
        for place in places:
            strides = locate(place, self._tensors)  # Of every edit's, as dtype and shape are compared there.
            if place.slot not in self._held:
                by_parameter.setdefault(place.parameter, []).append((place, strides))
        for missing in by_parameter.values():
            matrix = len(missing[0][0].shape) == 2
            many = matrix and len(missing) > _FEW and all(strides.count > 1 for _, strides in missing)
            contents = (
                self._columns([place for place, _ in missing]) if many else self._pieces([one for _, one in missing])
            )
            for (place, _), content in zip(missing, contents, strict=True):
                self._held[place.slot] = content

    def _pieces(self, strides: Sequence[Strides]) -> Iterator[bytes]:
        with ExitStack() as stack:
            names = dict.fromkeys(one.file for one in strides)  # Experts may lie in several.
            files = {name: stack.enter_context((self._folder / name).open("rb", buffering=0)) for name in names}
            for one in strides:
                content = gathered(files[one.file].fileno(), one)
                if len(content) != one.size:
                    raise self._shorter(one.file)
                yield content

    def _columns(self, places: Sequence[SlotPlace]) -> Iterator[bytes]:
        """Columns of one matrix, from all of its bytes, some rows at a time."""
        import numpy

        first = places[0]
        whole = locate(SlotPlace(first.parameter, NO_LAYER, NO_LAYER, WHOLE, first.dtype, first.shape), self._tensors)
        rows, columns = first.shape
        item = ITEM_SIZES[first.dtype]
        chosen = [place.neuron for place in places]
        found = numpy.empty((len(chosen), rows), f"<u{item}")
        step = max(1, _CHUNK // (columns * item))
        with (self._folder / whole.file).open("rb", buffering=0) as file:
            for start in range(0, rows, step):
                count = min(step, rows - start)
                content = os.pread(file.fileno(), count * columns * item, whole.offset + start * columns * item)
                if len(content) != count * columns * item:
                    raise self._shorter(whole.file)
                values = numpy.frombuffer(content, f"<u{item}").reshape(count, columns)
                found[:, start : start + count] = values[:, chosen].T
        return (column.tobytes() for column in found)

    def _shorter(self, name: str) -> DisagreementError:
        return DisagreementError(f"{self._folder / name} became shorter while it was read")


def places_of(part: TensorDiff) -> list[SlotPlace]:
    """The value slots of a region in their order, or the parameter as a whole."""
    if part.slots is None:
        return [SlotPlace(part.parameter, NO_LAYER, NO_LAYER, WHOLE, part.dtype, part.shape)]
    slots = part.slots
    return [
        SlotPlace(part.parameter, slots.layer, index, slots.layout, part.dtype, part.shape) for index in slots.indices
    ]
