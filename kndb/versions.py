"""The name of a version of a model's weights, computed from what differs from the base checkpoint.

A version is the base checkpoint (known by its fingerprint) with some value slots holding other bytes. Its id
is a hash of exactly that, so equal weights have equal ids, whatever edits led there: applying an edit and
reverting it gives the id before. The module knows hashes only; it needs neither torch nor SQLAlchemy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

Slot = tuple[str, int, int]
"""A value slot: parameter name, layer, neuron; or a parameter as a whole, with `NO_LAYER` for both."""

NO_LAYER = -1
"""Stands for the layer, and for the neuron, of a parameter that is taken as a whole."""


def version_id(fingerprint: str, slots: Mapping[Slot, str]) -> str:
    """Names the version in which `slots` differ from the base checkpoint.

    Args:
        fingerprint: the base checkpoint's.
        slots: for each value slot whose bytes differ from the base checkpoint's, the sha256 of the bytes it
            holds. Empty for the base version. A slot that holds the base's bytes again must not be in it.

    Returns:
        `v` and 16 hexadecimal digits.
    """
    entries = [[*slot, slot_hash] for slot, slot_hash in sorted(slots.items())]
    text = json.dumps([fingerprint, entries], separators=(",", ":"))
    return "v" + hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


class VersionHash:
    """What `version_id` gives, for one version after another of which each differs from the last in a few slots."""

    def __init__(self, fingerprint: str) -> None:
        """Begins at the base version.

        Args:
            fingerprint: the base checkpoint's.
        """
        self._start = f"[{json.dumps(fingerprint)},["
        self._slots: dict[str, dict[tuple[int, int], str]] = {}
        self._texts: dict[str, str] = {}

    def put(self, slot: Slot, slot_hash: str | None) -> None:
        """Notes what a slot holds: the sha256 of its bytes; None for those of the base checkpoint."""
        parameter, layer, neuron = slot
        of_parameter = self._slots.setdefault(parameter, {})
        self._texts.pop(parameter, None)
        if slot_hash is None:
            of_parameter.pop((layer, neuron), None)
        else:
            of_parameter[layer, neuron] = slot_hash

    def version(self) -> str:
        """Names the version; only texts of parameters that changed since are made again."""
        for parameter, slots in self._slots.items():
            if parameter not in self._texts:
                entries = [[parameter, *place, slot_hash] for place, slot_hash in sorted(slots.items())]
                self._texts[parameter] = json.dumps(entries, separators=(",", ":"))[1:-1]
        texts = (text for _, text in sorted(self._texts.items()) if text)
        return "v" + hashlib.sha256(f"{self._start}{','.join(texts)}]]".encode("ascii")).hexdigest()[:16]
