"""A checkpoint made and read with plain Python, without torch: random bytes in two small matrices."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path

from kndb.editing.objects.slot_bytes import SlotPlace, SlotSwitch
from kndb.editing.working_copy import first_copy
from kndb.versions import version_id

FINGERPRINT = "f" * 64
SHAPES = {"layers.0.down": ("column", "F32", 4, 5, 7), "layers.1.down": ("row", "BF16", 2, 7, 5)}
"""Layout, dtype, bytes of a value, rows and columns of each matrix."""

Slots = dict[tuple[str, int], bytes]
"""The bytes of some slots, by parameter and number."""


class PlainCheckpoint:
    """A checkpoint folder of one file, and what it would hold with other bytes in some slots."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder = folder
        draw = random.Random(seed)
        self.matrices = {
            name: [[draw.randbytes(item) for _ in range(columns)] for _ in range(rows)]
            for name, (_, _, item, rows, columns) in SHAPES.items()
        }
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(self.content({}))

    def content(self, slots: Slots) -> bytes:
        """The weight file's bytes with these slots in it."""
        header, payload = {}, b""
        for name, (layout, dtype, item, rows, columns) in SHAPES.items():
            matrix = [list(row) for row in self.matrices[name]]
            for (parameter, number), new in slots.items():
                values = [new[at : at + item] for at in range(0, len(new), item)]
                if parameter == name and layout == "row":
                    matrix[number] = values
                elif parameter == name:
                    for row, value in zip(matrix, values, strict=True):
                        row[number] = value
            raw = b"".join(b"".join(row) for row in matrix)
            offsets = [len(payload), len(payload) + len(raw)]
            header[name] = {"dtype": dtype, "shape": [rows, columns], "data_offsets": offsets}
            payload += raw
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + payload

    def slot(self, name: str, number: int) -> bytes:
        """What a slot holds in the base."""
        matrix = self.matrices[name]
        return b"".join(matrix[number] if SHAPES[name][0] == "row" else [row[number] for row in matrix])

    def random_slots(self, seed: int, count: int = 4) -> Slots:
        """Other bytes for some slots."""
        draw = random.Random(seed)
        every = [(name, number) for name in SHAPES for number in range(7)]
        return {at: draw.randbytes(len(self.slot(*at))) for at in draw.sample(every, count)}

    def changes(self, before: Slots, after: Slots) -> list[SlotSwitch]:
        """What has to change between two versions."""
        return [
            SlotSwitch(self.place(*at), before.get(at) or self.slot(*at), after.get(at) or self.slot(*at))
            for at in sorted({**before, **after})
        ]

    def place(self, name: str, number: int) -> SlotPlace:
        layout, dtype, _, rows, columns = SHAPES[name]
        return SlotPlace(name, int(name[7]), number, layout, dtype, (rows, columns))

    def version(self, slots: Slots) -> str:
        """The version's id."""
        names = {"F32": b"float32", "BF16": b"bfloat16"}
        hashes = {
            (name, int(name[7]), number): hashlib.sha256(names[SHAPES[name][1]] + new).hexdigest()
            for (name, number), new in slots.items()
        }
        return version_id(FINGERPRINT, hashes)

    def copy(self, target: Path, slots: Slots, check: Callable[[Path], None] = lambda folder: None) -> None:
        """Makes a working copy."""
        first_copy.create(
            self.folder,
            target,
            model="plain",
            fingerprint=FINGERPRINT,
            base=self.version({}),
            version=self.version(slots),
            changes=self.changes({}, slots),
            check=check,
        )
