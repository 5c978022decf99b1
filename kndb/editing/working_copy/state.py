"""The file by which a working copy knows its version: `.kndb-checkout.json` in its folder.

It needs no database to be checked: a version's id is computed from the hashes of the slots that differ from the
checkpoint, and the file lists them. Switches made since the file was written stand in the log beside it (`switch_log`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...advice import Placeholder, call
from ...errors import ModelError
from ...files import replacing
from ...versions import Slot, version_id
from ..objects.slot_bytes import SlotPlace

NAME = ".kndb-checkout.json"
FORMAT = "kndb-checkout 2"

NEW_COPY = "Make a new working copy: " + call(
    "checkouts.checkout", Placeholder("VERSION"), folder=Placeholder("DIR"), model=Placeholder("NAME")
)
"""What to do about a copy whose state or log is no good."""

FileStamp = tuple[int, int]
"""A file's size in bytes and its time of modification in nanoseconds."""


@dataclass(frozen=True)
class CopiedSlot:
    """A slot that was patched at some time: the hashes of its bytes in the base checkpoint, and of those it holds."""

    place: SlotPlace
    base_sha256: str
    sha256: str


@dataclass(frozen=True)
class CopyState:
    """What a working copy knows of itself.

    Attributes:
        model: the model's name in the store.
        fingerprint: the base checkpoint's.
        version: the version that the copy holds.
        switch: names the last switch that is in it, so that the log's later ones can be told.
        stamps: size and time of each copied file, when kndb wrote to it last.
        slots: all slots that were ever patched.
    """

    model: str
    fingerprint: str
    version: str
    switch: str
    stamps: Mapping[str, FileStamp]
    slots: Mapping[Slot, CopiedSlot]

    def moved(
        self, version: str, switch: str, stamps: Mapping[str, FileStamp], slots: Iterable[CopiedSlot]
    ) -> CopyState:
        """The state after a switch.

        Args:
            version: the version it led to.
            switch: its name.
            stamps: of the files it wrote to.
            slots: what it wrote.
        """
        merged = dict(self.slots) | {copied.place.slot: copied for copied in slots}
        return replace(self, version=version, switch=switch, stamps={**self.stamps, **stamps}, slots=merged)

    @property
    def computed_version(self) -> str:
        """The id of the version that the listed slots make."""
        slots = self.slots.items()
        return version_id(self.fingerprint, {slot: at.sha256 for slot, at in slots if at.sha256 != at.base_sha256})


def write(folder: Path, state: CopyState) -> None:
    """Puts a state into a copy's folder, in the place of the one there; it is on disk when this returns."""
    values = {"format": FORMAT, **asdict(replace(state, slots={}))}
    values["slots"] = [slot_entry(copied) for _, copied in sorted(state.slots.items())]
    with replacing(folder / NAME) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> CopyState:
    """Reads a copy's state.

    Raises:
        ModelError: if there is none, or it is not as it was written.
    """
    path = folder / NAME
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise ValueError("a format that another release of kndb wrote")
        slots = [slot_of(entry) for entry in values.pop("slots")]
        stamps = {name: (int(size), int(time)) for name, (size, time) in values.pop("stamps").items()}
        state = CopyState(**values, stamps=stamps, slots={copied.place.slot: copied for copied in slots})
        computed = state.computed_version
    except FileNotFoundError as error:
        raise ModelError(f"{folder} is no working copy: there is no {NAME} in it. {NEW_COPY}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} can't be read as a working copy's state: {error}. {NEW_COPY}") from error
    if computed != state.version:
        raise ModelError(
            f"{path} lists slots that make version {computed}, not {state.version}, which it names: the file was "
            f"changed. {NEW_COPY}"
        )
    return state


def slot_entry(copied: CopiedSlot) -> dict[str, Any]:
    """A slot as JSON; `slot_of` reads it back."""
    return {**asdict(copied.place), "base_sha256": copied.base_sha256, "sha256": copied.sha256}


def slot_of(entry: dict[str, Any]) -> CopiedSlot:
    """A slot from JSON."""
    base_sha256, sha256 = entry.pop("base_sha256"), entry.pop("sha256")
    shape = tuple(int(size) for size in entry.pop("shape"))
    return CopiedSlot(SlotPlace(**entry, shape=shape), base_sha256, sha256)
