"""Walking from version to version: each edit taken, or taken back, once, however many versions are on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

from ...versions import Slot, VersionHash
from ..versions import SlotState, StoredSlot, take


class Road:
    """What slots hold after a list of edits; another list is reached from where the two part.

    Attributes:
        edits: the edits that were taken, in order.
    """

    def __init__(self, fingerprint: str, slots_of: Mapping[int, Sequence[StoredSlot]]) -> None:
        """Begins at the base checkpoint.

        Args:
            fingerprint: the base checkpoint's.
            slots_of: the slots of all edits that may come up.
        """
        self.edits: list[int] = []
        self._slots_of = slots_of
        self._state: SlotState = {}
        self._hash = VersionHash(fingerprint)
        self._before: list[list[tuple[Slot, tuple[str, str] | None]]] = []

    @property
    def version(self) -> str:
        """The id of the version in which slots are in this state."""
        return self._hash.version()

    def go_to(self, edit_ids: Sequence[int]) -> None:
        """Takes edits back, and others, until it is these.

        Raises:
            StoreDamagedError: if an edit is missing, or doesn't fit what the edits before it left; it is not taken.
        """
        pairs = zip(self.edits, edit_ids, strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        while len(self.edits) > common:
            self._back()
        for edit_id in edit_ids[common:]:
            self._on(edit_id)

    def _on(self, edit_id: int) -> None:
        before = [(stored.slot, self._state.get(stored.slot)) for stored in self._slots_of.get(edit_id, ())]
        take(self._state, self._slots_of, edit_id)
        self._before.append(before)
        self.edits.append(edit_id)
        self._note(slot for slot, _ in before)

    def _back(self) -> None:
        self.edits.pop()
        before = self._before.pop()
        for slot, held in before:
            if held is None:
                del self._state[slot]
            else:
                self._state[slot] = held
        self._note(slot for slot, _ in before)

    def _note(self, slots: Iterable[Slot]) -> None:
        for slot in slots:
            base, current = self._state.get(slot, ("", ""))
            self._hash.put(slot, None if current == base else current)
